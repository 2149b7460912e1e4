"""silver -> gold: encoded rows in hash order, in files of a size fit for the loader."""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql import functions as F

from millrace import observe
from millrace.fit.state import FittedState
from millrace.flows.context import Context
from millrace.flows.scope import Scope
from millrace.lake import ledger as books
from millrace.lake import log
from millrace.lake.layout import gold
from millrace.lake.read import read_version
from millrace.lake.write import write_nights
from millrace.transforms import encode as encoding
from millrace.transforms.split import SPLITS

_GOLD_FILE_BYTES = 64 * 1024**2


def write_gold(
    context: Context, attempt: books.Attempt, scope: Scope, state: FittedState, written: books.TableVersion
) -> tuple[books.TableVersion, dict[str, int]]:
    """Encodes silver's rows of the scope's nights into gold.

    Returns the version and the rows of each split.
    """
    config = context.config
    rows = read_version(context.spark(), context.lake, written.table, written.version)
    nights = list(scope.nights)
    chosen = rows.filter(F.col("_night").isin(nights))
    row_bytes = sum(
        tensor.num_bytes for feature in config.features if (tensor := context.contract.columns[feature.column].tensor)
    )
    num_rows = chosen.count()
    encoded = encoding.encode(
        chosen, features=config.features, label=config.label.column if config.label else None, classes=state.classes
    )
    ordered = encoding.in_hash_order(encoded, seed=config.split.seed, num_partitions=num_files(num_rows * row_bytes))
    table = write_nights(attempt, gold(config.name), ordered, nights, partition_by=["split"], rebuild=scope.rebuild)
    return table, rows_by_split(context.lake.path(table.table), table.version)


def num_files(num_bytes: int) -> int:
    """Files of a gold write: at most 64 MiB each, and a few even for little, so that writing and reading run side by side."""
    return max(1, min(4, num_bytes // (4 * 1024**2)), -(-num_bytes // _GOLD_FILE_BYTES))


def rows_by_split(uri: str, version: int) -> dict[str, int]:
    """Rows of each split in a version of gold, from the log."""
    actions = pa.table(log.open_table(uri, version).get_add_actions(flatten=True))
    counts = dict.fromkeys(SPLITS, 0)
    for split, rows in zip(actions.column("partition.split").to_pylist(), actions.column("num_records").to_pylist(), strict=True):
        counts[split] += rows
    observe.note("gold", num_rows=counts, version=version)
    return counts
