"""silver -> gold: encoded rows in hash order, in files of a size fit for the loader.

A pipeline with `blocks` or `windows` makes rows of another grain; those that it drops have a table of rejects of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace import observe
from millrace.config.models import NumberLabelConfig
from millrace.contracts.packed import Packing
from millrace.fit.state import FittedState
from millrace.flows import rejects
from millrace.flows.context import Context
from millrace.flows.ingest import cached
from millrace.flows.scope import Scope
from millrace.lake import ledger as books
from millrace.lake import log
from millrace.lake.layout import gold, rejects_of_gold
from millrace.lake.write import write_nights
from millrace.transforms import blocks, windows
from millrace.transforms.encode import LABEL, class_index, in_hash_order
from millrace.transforms.encoders import Fit
from millrace.transforms.features import EncodedWhenRead, encode_features
from millrace.transforms.split import SPLITS
from millrace.transforms.tokens import TokenColumn, tokenize

ENCODE = "encode"
_FILE_BYTES = 64 * 1024**2
_TAGS = ("_rule", "_reason", "_action")


@dataclass(frozen=True)
class Gold:
    """What was written."""

    table: books.TableVersion
    num_rows: Mapping[str, int]
    """By split."""
    rejected: tuple[books.TableVersion, ...] = ()
    tally: rejects.Tally | None = None
    """Of rows of another grain; None where gold has silver's rows."""


def write_gold(
    context: Context,
    attempt: books.Attempt,
    scope: Scope,
    state: FittedState,
    rows: DataFrame,
    *,
    num_rows: int | None = None,
    carrier: Packing | EncodedWhenRead | None = None,
) -> Gold:
    """Encodes `rows`, silver's of the scope's nights, into gold. `num_rows`: how many they are, where that is known; `carrier`:
    how some of their columns travel."""
    if not context.config.changes_grain:
        encoded = encode_rows(context, state, rows, carrier)
        table = _write(context, attempt, scope, encoded, _num_bytes(context, state, rows, num_rows))
        return Gold(table, rows_by_split(context.lake.path(table.table), table.version))
    made = make_windows(context, rows) if context.config.windows else make_blocks(context, state, rows)
    with cached(made) as tagged:
        tally = rejects.count(tagged)
        _say_if_most_go(context, tally)
        named = tagged.withColumns({name: F.lit(None).cast("string") for name in ("_source_file", "_record")})
        rejected = rejects.as_quarantine(named, attempt, stage=ENCODE)
        where = rejects.write(attempt, rejects_of_gold(context.config.name), rejected, scope.nights, tally, rebuild=scope.rebuild)
        kept = tagged.filter(F.col("_rule").isNull()).drop(*_TAGS)
        table = _write(context, attempt, scope, kept, _bytes_of(kept))
    return Gold(table, rows_by_split(context.lake.path(table.table), table.version), where, tally)


def _say_if_most_go(context: Context, tally: rejects.Tally) -> None:
    """Warns where gold is little of what there is: the split may cut every series, or the texts be too few to fill blocks."""
    counts = tally.counts()
    if counts.num_rows_kept < counts.num_rows_in / 2:
        what = "windows" if context.config.windows else "blocks"
        rules = ", ".join(f"{rule} {number}" for rule, number in sorted({**tally.quarantined, **tally.dropped}.items()))
        remedy = "split the series by time or as a whole" if context.config.windows else "take fewer buckets, or tail: pad"
        observe.warn(f"preprocess: {counts.num_rows_kept} of {counts.num_rows_in} {what} are kept ({rules}); {remedy}")


def encode_rows(
    context: Context, state: FittedState, rows: DataFrame, carrier: Packing | EncodedWhenRead | None = None
) -> DataFrame:
    """One row per silver row: row_id, tensors and token ids as bytes in C order, `features` (float32) and `ids` (int32), label,
    split, _night.

    Scaling of tensors is left to the model.
    """
    config = context.config
    columns = [F.col("row_id")]
    if config.label is not None:
        is_number = isinstance(config.label, NumberLabelConfig)
        label = F.col(config.label.column).cast("float") if is_number else class_index(config.label.column, state.classes)
        columns.append(label.alias(LABEL))
    taken = [column.name for column in state.features.inputs] if state.features else []
    kept = [feature.column for feature in config.image_features] + [feature.column for feature in config.token_features]
    if isinstance(carrier, EncodedWhenRead):
        chosen = rows.select(*columns, *dict.fromkeys(kept), "split", "_night", *carrier.names)
    else:
        named = list(dict.fromkeys([*kept, *taken]))
        chosen = rows.select(*columns, *(carrier.around(named) if carrier else named), "split", "_night")
    if config.label is not None:
        chosen = chosen.filter(F.col(LABEL).isNotNull())
    if state.features is not None and not isinstance(carrier, EncodedWhenRead):
        # first: a text may be a category and tokens as well
        chosen = encode_features(chosen, fitted=state.features, keep=kept, packing=carrier)
    if config.token_features:
        fits = {feature.column: Fit.of(feature) for feature in config.token_features}
        chosen = tokenize(chosen, columns=[TokenColumn(column, state.tokenizers[column], fit) for column, fit in fits.items()])
    return chosen


def make_blocks(context: Context, state: FittedState, rows: DataFrame) -> DataFrame:
    """One row per block of the only feature's tokens, with tags."""
    config = context.config
    assert config.blocks is not None
    (feature,) = config.token_features
    tokenizer = state.tokenizers[feature.column]
    ordered = [name for name in (*config.blocks.order_by, *config.blocks.group_by) if name != feature.column]
    documents = rows.select("row_id", feature.column, *dict.fromkeys(ordered), "split", "_night")
    encoded = tokenize(documents, columns=[TokenColumn(feature.column, tokenizer)])
    return blocks.pack_blocks(
        encoded, column=feature.column, config=config.blocks, boundary_id=tokenizer.boundary_id, pad_id=feature.pad_id
    )


def make_windows(context: Context, rows: DataFrame) -> DataFrame:
    """One row per window, with tags."""
    assert context.config.windows is not None
    return windows.make_windows(rows, config=context.config.windows)


def rules_of_gold(context: Context) -> tuple[str, ...]:
    """The rules that may take a block or a window."""
    if context.config.windows is not None:
        return windows.RULES
    return (blocks.NOT_FULL,) if context.config.blocks is not None else ()


def _write(context: Context, attempt: books.Attempt, scope: Scope, rows: DataFrame, num_bytes: int) -> books.TableVersion:
    config = context.config
    ordered = in_hash_order(rows, seed=config.split.seed, num_partitions=num_files(num_bytes))
    return write_nights(attempt, gold(config.name), ordered, scope.nights, partition_by=["split"], rebuild=scope.rebuild)


def _num_bytes(context: Context, state: FittedState, rows: DataFrame, num_rows: int | None) -> int:
    """About what the rows come to when they are encoded: it decides the number of files."""
    tensors = [context.silver.columns[feature.column].tensor for feature in context.config.image_features]
    row_bytes = sum(tensor.num_bytes for tensor in tensors if tensor is not None)
    if state.features is not None:
        row_bytes += 4 * (state.features.width + len(state.features.id_names))
    row_bytes += sum(4 * feature.length for feature in context.config.token_features if feature.length is not None)
    ragged = [feature.column for feature in context.config.token_features if feature.length is None]
    if num_rows is not None and not ragged:
        return num_rows * row_bytes
    found = rows.agg(F.count("*").alias("rows"), *[F.sum(F.octet_length(name)).alias(name) for name in ragged]).collect()[0]
    return int(found["rows"] * row_bytes + sum(found[name] or 0 for name in ragged))


def _bytes_of(rows: DataFrame) -> int:
    kinds = dict(rows.dtypes)
    sizes = [F.sum(F.octet_length(name)) for name, kind in kinds.items() if kind == "binary"]
    return sum(size or 0 for size in rows.agg(*sizes).collect()[0])


def num_files(num_bytes: int) -> int:
    """Files of a gold write: at most 64 MiB each, and a few even for little, so that writing and reading run side by side."""
    return max(1, min(4, num_bytes // (4 * 1024**2)), -(-num_bytes // _FILE_BYTES))


def rows_by_split(uri: str, version: int) -> dict[str, int]:
    """Rows of each split in a version of gold, from the log."""
    actions = pa.table(log.open_table(uri, version).get_add_actions(flatten=True))
    counts = dict.fromkeys(SPLITS, 0)
    if actions.num_rows:  # a table without files has no such columns
        columns = (actions.column(name).to_pylist() for name in ("partition.split", "num_records"))
        for split, rows in zip(*columns, strict=True):
            counts[split] += rows
    observe.note("gold", num_rows=counts, version=version)
    return counts
