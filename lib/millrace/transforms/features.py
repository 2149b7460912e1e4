"""Fitted features applied by Spark, in Arrow batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.types import BinaryType, StructField, StructType

from millrace.contracts.features import FittedFeatures
from millrace.contracts.packed import LOOSE, PACKED, Packing, as_binary
from millrace.transforms.encoding import encode_batch

FEATURES = "features"
IDS = "ids"

_BATCH_BYTES = 64 * 1024**2
"""Of features in memory at once: wide one-hots are made of fewer rows at a time."""


def encode_features(
    rows: DataFrame, *, fitted: FittedFeatures, keep: Sequence[str] = (), packing: Packing | None = None
) -> DataFrame:
    """One row per row: all columns but the raw ones that the features take, then `features` and `ids`.

    features: D float32, ids: K int32, as bytes in C order, little-endian; a column without places is left out. Raw columns in
    `keep` (a label) stay. `packing` says which of them came packed, if any.
    """
    taken = {column.name for column in fitted.inputs} - set(keep)
    taken |= {PACKED, LOOSE} if packing else set()
    others = [field for field in rows.schema.fields if field.name not in taken]
    names = [name for name, width in ((FEATURES, fitted.width), (IDS, len(fitted.id_names))) if width]
    schema = StructType([*others, *[StructField(name, BinaryType(), nullable=False) for name in names]])
    return rows.mapInArrow(_encode([field.name for field in others], fitted, packing), schema)


def _slices(batches: Iterable[pa.RecordBatch], num_rows: int) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for start in range(0, batch.num_rows, num_rows):
            yield batch.slice(start, num_rows)


def _encode(
    others: Sequence[str], fitted: FittedFeatures, packing: Packing | None
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in _slices(batches, max(1, _BATCH_BYTES // (4 * max(1, fitted.width)))):
            features, ids = encode_batch(packing.unpack(batch) if packing else batch, fitted)
            columns = {name: batch.column(name) for name in others}
            columns |= {name: as_binary(values) for name, values in ((FEATURES, features), (IDS, ids)) if values.shape[1]}
            yield pa.RecordBatch.from_pydict(columns)

    return run
