"""The raw columns of gold's rows where there is no silver: read from the raw files once more."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace.errors import LakeError
from millrace.fit.state import FittedState
from millrace.flows.context import Context
from millrace.flows.ingest import cached
from millrace.flows.pinned import pin
from millrace.flows.raw_rows import Known, RawRows
from millrace.flows.scope import STEP, Scope
from millrace.flows.taken import raw_nights
from millrace.lake import ledger as books
from millrace.lake import log
from millrace.lake.layout import gold

_KEY = ("row_id", "_night")


def raw_rows_of_gold(
    context: Context, entry: books.Entry, version: int, state: FittedState, *, split: str, columns: Sequence[str]
) -> pa.Table:
    """One row per row of one split of a version of gold, in any order: some of silver's columns, row_id among them.

    `entry`: the preprocess that made it. Raises SourceError where a raw file is gone or has changed, LakeError where a night has
    taken others since.
    """
    wanted = _in_gold(context, version, split)
    for compares_keys in (False, True):  # the second time only where a file has two rows with one key
        rows = _made_again(
            context, entry, state, split=split, columns=[*dict.fromkeys((*columns, *_KEY))], compares_keys=compares_keys
        )
        there = rows.filter(pc.is_in(_keys(rows), value_set=wanted))
        if len(_keys(there).unique()) == there.num_rows:
            break
    if there.num_rows != len(wanted):
        found = f"{there.num_rows} of {len(wanted)}, as a night has taken other files since"
        raise LakeError("publish", expected=f"the raw rows of version {version}", found=found, remedy="Run jobs/preprocess.py.")
    return there.select(list(columns))


def _made_again(
    context: Context, entry: books.Entry, state: FittedState, *, split: str, columns: Sequence[str], compares_keys: bool
) -> pa.Table:
    ledger = books.Ledger.read(context.lake)
    attempt = books.Attempt(context.lake, entry.run, STEP, entry.step_key, entry.attempt, entry.inputs, ledger)
    nights = raw_nights(context, ledger, entry.inputs.files)
    pinned = pin(context, nights)
    with ExitStack() as stack:

        def keep(rows: DataFrame) -> DataFrame:
            return stack.enter_context(cached(rows))

        frames = []
        for night, files in nights.items():
            scope = Scope((night,), True, dict(state.nights), state)
            made = RawRows(
                context, attempt, scope, keep, files={night: files}, compares_keys=compares_keys, known=Known(by_name=True)
            )
            frames.append(made.tagged().filter(F.col("_rule").isNull() & (F.col("split") == split)).select(*columns))
        rows = reduce(DataFrame.unionByName, frames).toArrow()
        pinned.check()
    return rows


def _in_gold(context: Context, version: int, split: str) -> pa.Array:
    dataset = log.open_table(context.lake.path(gold(context.config.name)), version).to_pyarrow_dataset()
    return _keys(dataset.to_table(columns=list(_KEY), filter=ds.field("split") == split)).combine_chunks()


def _keys(rows: pa.Table) -> pa.ChunkedArray:
    """The night is in it because a night may bring a row again that an older one has brought; gold has the first."""
    return pc.binary_join_element_wise(*[rows.column(name).cast(pa.string()) for name in _KEY], "/")
