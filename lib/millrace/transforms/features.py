"""Fitted features applied by Spark, in Arrow batches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.types import BinaryType, StructField, StructType

from millrace.contracts.features import FittedFeatures
from millrace.contracts.packed import LOOSE, PACKED, Carrier, Packing, as_binary
from millrace.contracts.table import TableContract
from millrace.contracts.texts import comes_typed
from millrace.transforms.encoding import encode_batch

FEATURES = "features"
IDS = "ids"

_BATCH_BYTES = 64 * 1024**2
"""Of features in memory at once: wide one-hots are made of fewer rows at a time."""
_MAX_WIDTH_WHEN_READ = 1024
"""Of the features that are made of as many rows as a reader gives at a time."""


@dataclass(frozen=True)
class EncodedWhenRead(Carrier):
    """Features that are made where rows are read, in the place of the columns that Spark only carries.

    Rows that came as text have none: it is for nights that keep no such row.
    """

    packing: Packing
    """The columns that Spark only carries."""
    fitted: FittedFeatures

    @classmethod
    def of(cls, packing: Packing, fitted: FittedFeatures, contract: TableContract) -> EncodedWhenRead | None:
        """None where a feature is made of a column that is not read as what it is, or they are too wide."""
        columns = [contract.columns[column.name] for column in fitted.inputs]
        are_read = all(comes_typed(column) or column.type == "string" for column in columns)
        return cls(packing, fitted) if are_read and fitted.width <= _MAX_WIDTH_WHEN_READ else None

    @property
    def replaced(self) -> Collection[str]:
        """See `Carrier`."""
        return self.packing.replaced

    @property
    def names(self) -> Sequence[str]:
        """See `Carrier`."""
        return _names_of(self.fitted)

    def made(self, rows: pa.RecordBatch) -> Mapping[str, pa.Array]:
        """See `Carrier`."""
        return _made(rows, self.fitted)

    def around(self, columns: Iterable[str]) -> list[str]:
        """See `Carrier`."""
        return [*[name for name in columns if name not in self.replaced], *self.names]


def _names_of(fitted: FittedFeatures) -> list[str]:
    """Of the columns that are made: one without places is left out."""
    return [name for name, width in ((FEATURES, fitted.width), (IDS, len(fitted.id_names))) if width]


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
    schema = StructType([*others, *[StructField(name, BinaryType(), nullable=False) for name in _names_of(fitted)]])
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
            made = _made(packing.unpack(batch) if packing else batch, fitted)
            yield pa.RecordBatch.from_pydict({name: batch.column(name) for name in others} | made)

    return run


def _made(batch: pa.RecordBatch, fitted: FittedFeatures) -> dict[str, pa.Array]:
    vectors = dict(zip((FEATURES, IDS), encode_batch(batch, fitted), strict=True))
    return {name: as_binary(vectors[name]) for name in _names_of(fitted)}
