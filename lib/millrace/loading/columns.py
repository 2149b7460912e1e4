"""Arrow columns to NumPy arrays of a stated type and shape, straight from Arrow's buffers.

Nulls and values of another length or range are errors, never guesses: the contract was checked when the table was written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import ContractError

STAGE = "load"
STRING = "string"
_STRING_BYTES = 120  # a Python string of some 64 letters with its pointer: what the plan counts for one


@dataclass(frozen=True, kw_only=True)
class ColumnSpec:
    """A column that a model or an evaluation needs.

    `dtype` is a NumPy name ("uint8", "int32", "float32") or "string". With a shape, a binary column holds one little-endian
    C-order tensor a row and becomes (rows, *shape); without, a number column becomes (rows,), and a string column (rows,) of
    Python strings.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """What the decoded array holds."""
        return np.dtype(object) if self.dtype == STRING else np.dtype(self.dtype).newbyteorder("<")

    @property
    def row_bytes(self) -> int:
        """Decoded bytes of one row."""
        return _STRING_BYTES if self.dtype == STRING else self.numpy_dtype.itemsize * math.prod(self.shape)


def decode(column: pa.ChunkedArray, spec: ColumnSpec, *, where: str) -> npt.NDArray[Any]:
    """A column as (rows, *spec.shape); the result may share Arrow's memory and is read-only then.

    Raises ContractError, naming `where`, for a null, a tensor of another length, or a number that the type cannot hold.
    """
    array = column.chunk(0) if column.num_chunks == 1 else _combined(column)
    if array.null_count:
        raise _mismatch(spec, where, expected="no nulls", found=f"{array.null_count} nulls in {len(array)} rows")
    if spec.dtype == STRING:
        if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
            raise _mismatch(spec, where, expected="strings", found=str(array.type))
        return np.asarray(array.to_numpy(zero_copy_only=False), dtype=object)
    if spec.shape:
        return _tensors(array, spec, where)
    return _numbers(array, spec, where)


def _combined(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _tensors(array: pa.Array, spec: ColumnSpec, where: str) -> npt.NDArray[Any]:
    rows, size = len(array), spec.row_bytes
    if pa.types.is_fixed_size_binary(array.type):
        if array.type.byte_width != size:
            raise _mismatch(spec, where, expected=f"{size} bytes in each row", found=f"{array.type.byte_width} bytes")
        begin, data = array.offset * size, array.buffers()[1]
    elif pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        width = np.int64 if pa.types.is_large_binary(array.type) else np.int32
        if rows == 0:
            return np.empty((0, *spec.shape), dtype=spec.numpy_dtype)
        # offsets: (rows + 1,) where each row's bytes begin in the data buffer
        offsets = np.frombuffer(array.buffers()[1], dtype=width)[array.offset : array.offset + rows + 1]
        lengths = np.diff(offsets)
        if (lengths != size).any():
            row = int(np.argmax(lengths != size))
            raise _mismatch(spec, where, expected=f"{size} bytes in each row", found=f"{lengths[row]} bytes in row {row}")
        begin, data = int(offsets[0]), array.buffers()[2]
    else:
        raise _mismatch(spec, where, expected="a binary column", found=str(array.type))
    if rows == 0 or data is None:
        return np.empty((0, *spec.shape), dtype=spec.numpy_dtype)
    flat = np.frombuffer(data, dtype=np.uint8, count=rows * size, offset=begin)
    return flat.view(spec.numpy_dtype).reshape(rows, *spec.shape)


def _numbers(array: pa.Array, spec: ColumnSpec, where: str) -> npt.NDArray[Any]:
    target = pa.from_numpy_dtype(spec.numpy_dtype)
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_boolean(array.type)):
        raise _mismatch(spec, where, expected=f"numbers that fit {spec.dtype}", found=str(array.type))
    if array.type != target:
        # double to float may round; everything else must keep its value
        lossy = pa.types.is_floating(array.type) and pa.types.is_floating(target)
        try:
            array = pc.cast(array, target, safe=not lossy)
        except pa.ArrowInvalid as error:
            raise _mismatch(spec, where, expected=f"numbers that fit {spec.dtype}", found=str(error)) from error
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _mismatch(spec: ColumnSpec, where: str, *, expected: str, found: str) -> ContractError:
    return ContractError(
        STAGE,
        expected=f"column {spec.name} with {expected}",
        found=f"{found}, in {where}",
        remedy="Compare the pipeline's features and label with the table's columns, and write the table again.",
    )
