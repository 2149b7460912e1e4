"""The step of `clean` that drops near-duplicates, also of what other nights kept, and the signatures that it leaves for them.

Texts whose bands the driver can list are paired there, and it tells which rows of a group are later. Of more texts it lists
the candidates: it drops repeated ones, cuts them into chunks that tasks compare and connects those that are near. Where it cannot
list these either, Spark's joins do the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace import observe
from millrace.config.near_duplicates import NearDuplicatesConfig
from millrace.flows.context import Context
from millrace.flows.scope import Scope
from millrace.lake import ledger as books
from millrace.lake.layout import signatures
from millrace.lake.read import read_version
from millrace.lake.write import write_nights
from millrace.transforms.buckets import pairs_among
from millrace.transforms.comparing import (
    GROUPS,
    connected,
    contents_of,
    in_chunks,
    later_in_groups,
    of_contents,
    with_groups,
)
from millrace.transforms.near_duplicates import (
    candidates,
    groups_of,
    later_rows,
    later_rows_by_night,
    links_by_chunk,
    links_by_join,
    rows_in_pairs,
    rows_with_standing,
    tag_later,
    texts,
)

MAX_LISTED = 1 << 22
"""Bands of texts, or candidates, also repeated ones, that the driver lists: some hundred bytes each while they are sorted."""
_STORED = ("row_id", "_content", "_bands", "_shingles", "_night")
_MAX_SENT = 1 << 19
"""Rows of a few dozen bytes that go to every task rather than be shuffled."""

Keep = Callable[[DataFrame], DataFrame]
"""Keeps what a frame computes until the step is over."""


def drop_near_duplicates(
    rows: DataFrame,
    *,
    config: NearDuplicatesConfig,
    signed: DataFrame,
    keep: Keep,
    standing: DataFrame | None = None,
    few: bool = False,
    by_night: bool = False,
    max_listed: int = MAX_LISTED,
) -> DataFrame:
    """The same rows; of each group of near-duplicates all but the first are tagged as dropped by `near_duplicates(COLUMN)`.

    First is a row of `standing` (signatures of rows that other nights kept: they stay whatever comes), else the earliest by
    (_night, _source_file, row_id). Rows that have a tag are passed over. `signed` is what `signatures` gave for these rows, kept:
    it is read several times. row_id is unique among rows without a tag. With `by_night` what stays is what stays when the rows'
    nights come one by one, in their order; for rows of one night it changes nothing. The result depends neither on the rows'
    order nor on their partitions, nor on `few` (few rows come to many that stand) and `max_listed`.
    """
    with observe.timed("near_duplicates/candidates"):
        banded = texts(signed, standing=standing, few=few)
        together, listed = None, None
        if (standing is None or few) and signed.count() * config.shape[0] <= max_listed:
            together = banded.toArrow() if standing is None else _listed(banded, max_listed)
            listed = None if together is None else pairs_among(together, max_pairs=max_listed)
        if listed is None:
            together, pairs = None, keep(candidates(banded))
            listed = _listed(pairs, max_listed)
    everything = signed if standing is None else signed.unionByName(standing, allowMissingColumns=True)
    if listed is None:
        groups = keep(groups_of(links_by_join(everything, pairs=pairs, threshold=config.threshold)))
        related = rows_with_standing(signed, standing=standing, groups=groups, few=few)
    else:
        near, contents = _near_ones(everything, listed, config.threshold), contents_of(listed)
        if together is not None and not by_night:
            with observe.timed("near_duplicates/later"):
                later = later_in_groups(with_groups(of_contents(together, contents), near))
            observe.note("near_duplicates", num_candidates=listed.num_rows, num_later=later.num_rows)
            return tag_later(rows, later=_as_frame(later, everything), config=config)
        groups = _as_frame(near, everything)
        related = rows_in_pairs(signed, standing=standing, contents=_as_frame(contents, everything))
    with observe.timed("near_duplicates/later"):
        if by_night:
            found = keep(later_rows_by_night(related, groups=groups, threshold=config.threshold))
        else:
            found = keep(later_rows(related, groups=groups))
        num_later = found.count()
    observe.note("near_duplicates", num_candidates=None if listed is None else listed.num_rows, num_later=num_later)
    return tag_later(rows, later=_sent(found, num_later), config=config)


def _listed(frame: DataFrame, max_rows: int) -> pa.Table | None:
    """The rows of a frame; None where there are more."""
    found = frame.limit(max_rows + 1).toArrow()
    return found if found.num_rows <= max_rows else None


def _near_ones(signed: DataFrame, pairs: pa.Table, threshold: float) -> pa.Table:
    """GROUPS: the contents of pairs that are near, and what each is connected with."""
    chunked, seats = in_chunks(pairs)
    with observe.timed("near_duplicates/comparison"):
        near = links_by_chunk(
            signed, pairs=signed.sparkSession.createDataFrame(chunked), seats=_as_frame(seats, signed), threshold=threshold
        ).toArrow()
    with observe.timed("near_duplicates/components"):
        return pa.Table.from_batches(connected(near.to_batches()), GROUPS)


def _as_frame(table: pa.Table, beside: DataFrame) -> DataFrame:
    return _sent(beside.sparkSession.createDataFrame(table), table.num_rows)


def _sent(frame: DataFrame, num_rows: int) -> DataFrame:
    return F.broadcast(frame) if num_rows <= _MAX_SENT else frame


def write_signatures(
    attempt: books.Attempt, scope: Scope, rows: DataFrame, signed: Sequence[DataFrame]
) -> tuple[books.TableVersion, ...]:
    """One row per row that is kept and step that drops near-duplicates: `step`, counted from 0; row_id, _content, _bands and
    _shingles as `signatures` gives them; _night. Rows whose text has no token have none. Nothing is written without such a step.

    Written with silver and named by the same entry of the ledger, so that the one always tells of the other.
    """
    if not signed:
        return ()
    kept = rows.filter(F.col("_rule").isNull()).select("row_id")
    stored = [
        each.join(kept, on="row_id", how="left_semi").select(F.lit(number).alias("step"), *_STORED)
        for number, each in enumerate(signed)
    ]
    table = signatures(attempt.run.pipeline)
    return (write_nights(attempt, table, reduce(DataFrame.unionByName, stored), scope.nights, rebuild=scope.rebuild),)


def standing_signatures(context: Context, attempt: books.Attempt, scope: Scope, *, number: int) -> DataFrame:
    """What was stored for a step, by its number, of the nights that stay as they are."""
    table = signatures(context.config.name)
    stored = read_version(context.spark(), context.lake, table, attempt.ledger.version_of(table))
    others = ~F.col("_night").isin(list(scope.nights))
    return stored.filter(others & (F.col("step") == number)).select("row_id", "_content", "_bands", "_shingles")
