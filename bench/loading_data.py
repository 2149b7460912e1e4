"""The rows that loaders are measured on: four shapes, each as a Delta table, as TFRecord files and as arrays in memory.

Values are drawn from a seed and hardly compress, as packed bytes seldom do. Files are Parquet as Spark writes it by default
(snappy), with row groups of about 8 MiB as conf/spark/local.conf sets them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from deltalake import WriterProperties, write_deltalake

from millrace.loading.columns import ColumnSpec

BATCH_SIZE = 256
ROW_GROUP_BYTES = 8 * 2**20
_SEED = 7

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a row looks like, and how many there are."""

    name: str
    columns: tuple[ColumnSpec, ...]
    num_rows: int
    """Rows of the whole table, which the fast loaders read."""
    num_files: int
    """Files of equal size. The slow loaders read the first only, whole: rates count."""

    @property
    def file_rows(self) -> int:
        """Rows of one file."""
        return self.num_rows // self.num_files

    @property
    def row_bytes(self) -> int:
        """Decoded bytes of a row."""
        return sum(column.row_bytes for column in self.columns)

    @property
    def row_group_rows(self) -> int:
        """Rows of a row group."""
        return ROW_GROUP_BYTES // self.row_bytes


_MIXED = ("int32", "int64", "float32", "float64", "bool")

SHAPES = {
    shape.name: shape
    for shape in (
        Shape(name="images", columns=(ColumnSpec(name="image", dtype="uint8", shape=(784,)),), num_rows=262_144, num_files=8),
        Shape(name="floats", columns=(ColumnSpec(name="values", dtype="float32", shape=(128,)),), num_rows=262_144, num_files=8),
        Shape(
            name="columns",
            columns=tuple(ColumnSpec(name=f"c{number:02d}_{dtype}", dtype=dtype) for number in range(4) for dtype in _MIXED),
            num_rows=524_288,
            num_files=8,
        ),
        Shape(name="tokens", columns=(ColumnSpec(name="ids", dtype="int32", shape=(256,)),), num_rows=262_144, num_files=8),
    )
}
"""784 bytes; 128 float32; 20 plain numeric columns, four of each type; 256 int32 ids. Tensors are packed bytes, as in gold."""


def arrays_of(shape: Shape, file: int) -> Arrays:
    """The rows of a file: (rows, *spec.shape) by column, the same at every call."""
    draw = np.random.default_rng([_SEED, file])
    return {column.name: _values(draw, column, shape.file_rows) for column in shape.columns}


def _values(draw: np.random.Generator, column: ColumnSpec, num_rows: int) -> npt.NDArray[Any]:
    size = (num_rows, *column.shape)
    match column.dtype:
        case "uint8":
            return draw.integers(0, 256, size, dtype=np.uint8)
        case "int32":
            return draw.integers(0, 32_000, size, dtype=np.int32)
        case "int64":
            return draw.integers(0, 2**40, size, dtype=np.int64)
        case "bool":
            return draw.random(size) < 0.5
        case "float32":
            return draw.standard_normal(size, dtype=np.float32)
        case _:
            return draw.standard_normal(size)


def write_table(shape: Shape, uri: str) -> None:
    """The shape's Delta table, one commit a file."""
    properties = WriterProperties(
        compression="SNAPPY", max_row_group_size=shape.row_group_rows, write_batch_size=shape.row_group_rows
    )
    for file in range(shape.num_files):
        arrays = arrays_of(shape, file)
        table = pa.table({column.name: _arrow(arrays[column.name], column) for column in shape.columns})
        write_deltalake(uri, table, mode="append", writer_properties=properties)


def _arrow(values: npt.NDArray[Any], column: ColumnSpec) -> pa.Array:
    if not column.shape:
        return pa.array(values)
    rows = np.ascontiguousarray(values).reshape(len(values), -1).view(np.uint8)
    offsets = np.arange(len(values) + 1, dtype=np.int32) * np.int32(rows.shape[1])
    return pa.Array.from_buffers(pa.binary(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(rows)])


def write_records(shape: Shape, path: Path) -> None:
    """The rows of the table's first file as tf.train.Example: tensors as bytes, numbers as int64 or float lists."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for features in _features(shape):
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def _features(shape: Shape) -> Iterator[dict[str, Any]]:
    import tensorflow as tf

    arrays = arrays_of(shape, 0)
    for row in range(shape.file_rows):
        features = {}
        for column in shape.columns:
            value = arrays[column.name][row]
            if column.shape:
                features[column.name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.tobytes()]))
            elif column.dtype in ("float32", "float64"):
                features[column.name] = tf.train.Feature(float_list=tf.train.FloatList(value=[float(value)]))
            else:
                features[column.name] = tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value)]))
        yield features
