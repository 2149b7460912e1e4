"""Arrow columns to NumPy arrays of a stated type and shape, straight from Arrow's buffers.

Nulls and values of another length or range are errors, never guesses: the contract was checked when the table was written.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.config.load import nearest
from millrace.errors import ContractError

STAGE = "load"
STRING = "string"
_NUMBERS = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)), "float16", "float32", "float64")
_STRING_BYTES = 120  # a Python string of some 64 letters with its pointer: what the plan counts for one
_OFFSET_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class ColumnSpec:
    """A column that a model or an evaluation needs. Raises ContractError where its parts do not fit together.

    `dtype` is NumPy's name of a type of numbers ("uint8", "int32", "float32", "bool") or "string". What a row holds:

    - without a shape: a number, which becomes (rows,), or a string, which becomes (rows,) of Python strings;
    - with a shape: one tensor, as little-endian C-order bytes or as a list of its numbers, which becomes (rows, *shape);
    - with `length_buckets`: a sequence of elements of `shape`, of any length up to the last bucket, as bytes or as a list of
      numbers. A batch is padded with `padding` to its longest row, rounded up to a bucket: (rows, bucket, *shape). Buckets keep
      the number of shapes that TensorFlow compiles small. The plan counts each row at the length of the last bucket.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    length_buckets: tuple[int, ...] = ()
    padding: int = 0

    def __post_init__(self) -> None:
        numbers = self.dtype in _NUMBERS
        if not numbers and self.dtype != STRING:
            known = (*_NUMBERS, STRING)
            raise self._wrong("dtype", f"to be one of {', '.join(known)}", f"{self.dtype!r}", nearest(str(self.dtype), known))
        if not _are_lengths(self.shape) or (self.shape and not numbers):
            remedy = "Give the shape of one row's tensor, without the batch; leave it out where a row holds one value."
            raise self._wrong("shape", "to be whole numbers from 1 up, of numbers", f"{self.shape} of {self.dtype}", remedy)
        buckets = self.length_buckets
        if not _are_lengths(buckets) or list(buckets) != sorted(set(buckets)) or (buckets and not numbers):
            remedy = "Name the lengths to pad to in order, the longest length that occurs last."
            raise self._wrong("length_buckets", "to ascend from 1 or more, of numbers", f"{buckets} of {self.dtype}", remedy)
        for name in ("shape", "length_buckets"):  # lists where the spec comes from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def _wrong(self, name: str, expected: str, found: str, remedy: str) -> ContractError:
        return ContractError(STAGE, expected=f"{name} of column {self.name} {expected}", found=found, remedy=remedy)

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """What the decoded array holds."""
        return np.dtype(object) if self.dtype == STRING else np.dtype(self.dtype).newbyteorder("<")

    @property
    def is_ragged(self) -> bool:
        """Whether rows have lengths of their own."""
        return bool(self.length_buckets)

    @property
    def item_bytes(self) -> int:
        """Decoded bytes of a row, or of one element of a sequence."""
        return _STRING_BYTES if self.dtype == STRING else self.numpy_dtype.itemsize * math.prod(self.shape)

    @property
    def row_bytes(self) -> int:
        """Decoded bytes of one row at most."""
        return self.item_bytes * self.length_buckets[-1] + _OFFSET_BYTES if self.is_ragged else self.item_bytes

    def bucket(self, length: int) -> int:
        """The length that a batch whose longest row has `length` elements is padded to."""
        return self.length_buckets[bisect_left(self.length_buckets, length)]


def _are_lengths(value: object) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(each, int) and each >= 1 for each in value)


@dataclass(frozen=True)
class Sequences:
    """Rows of different lengths behind one another: row i is values[offsets[i]:offsets[i + 1]]."""

    values: npt.NDArray[Any]
    """(elements, *shape)"""
    offsets: npt.NDArray[np.int64]
    """(rows + 1,); the first need not be 0"""


Column = npt.NDArray[Any] | Sequences
RowGroupColumns = Mapping[str, Column]
"""The decoded columns of a row group, by name."""


def decode(column: pa.ChunkedArray, spec: ColumnSpec, *, where: str) -> Column:
    """A column as (rows, *spec.shape), or as Sequences; the result may share Arrow's memory and is read-only then.

    Raises ContractError, naming `where`, for a null, a tensor of another length, a sequence longer than the last bucket, or a
    number that the type cannot hold.
    """
    array = column.chunk(0) if column.num_chunks == 1 else _combined(column)
    if array.null_count:
        raise _mismatch(spec, where, expected="no nulls", found=f"{array.null_count} nulls in {len(array)} rows")
    if spec.dtype == STRING:
        if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
            raise _mismatch(spec, where, expected="strings", found=str(array.type))
        return np.asarray(array.to_numpy(zero_copy_only=False), dtype=object)
    if spec.is_ragged:
        return _sequences(array, spec, where)
    if spec.shape:
        return _tensors(array, spec, where)
    return _numbers(array, spec, where)


def _combined(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _tensors(array: pa.Array, spec: ColumnSpec, where: str) -> npt.NDArray[Any]:
    values, offsets = _flat(array, spec, where)
    unit, size = ("bytes", spec.row_bytes) if _is_binary(array) else ("numbers", math.prod(spec.shape))
    lengths = np.diff(offsets)
    if (lengths != size).any():
        row = int(np.argmax(lengths != size))
        raise _mismatch(spec, where, expected=f"{size} {unit} in each row", found=f"{lengths[row]} {unit} in row {row}")
    flat = values[offsets[0] : offsets[-1]]
    return flat.view(spec.numpy_dtype).reshape(len(array), *spec.shape)


def _sequences(array: pa.Array, spec: ColumnSpec, where: str) -> Sequences:
    values, offsets = _flat(array, spec, where)
    unit, size = ("bytes", spec.item_bytes) if _is_binary(array) else ("numbers", math.prod(spec.shape))
    lengths = np.diff(offsets)
    if (lengths % size).any():
        row = int(np.argmax(lengths % size != 0))
        raise _mismatch(spec, where, expected=f"whole elements of {size} {unit}", found=f"{lengths[row]} {unit} in row {row}")
    longest = int(lengths.max(initial=0)) // size
    if longest > spec.length_buckets[-1]:
        raise ContractError(
            STAGE,
            expected=f"column {spec.name} with at most {spec.length_buckets[-1]} elements in a row (the last of length_buckets)",
            found=f"{longest} elements in row {int(np.argmax(lengths))}, in {where}",
            remedy="Add a longer bucket to length_buckets, or cut the sequences before they are written.",
        )
    flat = values[offsets[0] : offsets[-1]].view(spec.numpy_dtype).reshape(-1, *spec.shape)
    return Sequences(flat, (offsets - offsets[0]) // size)


def _is_binary(array: pa.Array) -> bool:
    kind = pa.types
    return bool(kind.is_binary(array.type) or kind.is_large_binary(array.type) or kind.is_fixed_size_binary(array.type))


def _flat(array: pa.Array, spec: ColumnSpec, where: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """All rows' bytes (uint8) or numbers (spec's type) behind one another, and where each row's begin. (any,), (rows + 1,)"""
    kind = pa.types
    if kind.is_fixed_size_binary(array.type):
        width = array.type.byte_width
        offsets = np.arange(array.offset, array.offset + len(array) + 1, dtype=np.int64) * width
        return _bytes(array.buffers()[1]), offsets
    if kind.is_binary(array.type) or kind.is_large_binary(array.type):
        dtype = np.int64 if kind.is_large_binary(array.type) else np.int32
        if len(array) == 0:
            return np.empty(0, dtype=np.uint8), np.zeros(1, dtype=np.int64)
        offsets = np.frombuffer(array.buffers()[1], dtype=dtype)[array.offset : array.offset + len(array) + 1]
        return _bytes(array.buffers()[2]), offsets.astype(np.int64)
    if kind.is_list(array.type) or kind.is_large_list(array.type):
        return _numbers(array.values, spec, where), np.asarray(array.offsets).astype(np.int64)
    if kind.is_fixed_size_list(array.type):
        width = array.type.list_size
        offsets = np.arange(len(array) + 1, dtype=np.int64) * width
        return _numbers(array.flatten(), spec, where), offsets
    raise _mismatch(spec, where, expected="a binary or list column", found=str(array.type))


def _bytes(buffer: pa.Buffer | None) -> npt.NDArray[np.uint8]:
    return np.empty(0, dtype=np.uint8) if buffer is None else np.frombuffer(buffer, dtype=np.uint8)


def _numbers(array: pa.Array, spec: ColumnSpec, where: str) -> npt.NDArray[Any]:
    target = pa.from_numpy_dtype(spec.numpy_dtype)
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_boolean(array.type)):
        raise _mismatch(spec, where, expected=f"numbers that fit {spec.dtype}", found=str(array.type))
    if array.null_count:  # in a list; the caller has looked at the rows themselves
        raise _mismatch(spec, where, expected="no nulls", found=f"{array.null_count} nulls in {len(array)} numbers")
    if array.type != target:
        # double to float may round; everything else must keep its value
        lossy = pa.types.is_floating(array.type) and pa.types.is_floating(target)
        given = array
        try:
            array = pc.cast(given, target, safe=not lossy)
        except pa.ArrowInvalid as error:
            raise _mismatch(spec, where, expected=f"numbers that fit {spec.dtype}", found=str(error)) from error
        if lossy:
            _refuse_overflow(given, array, spec, where)
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _refuse_overflow(given: pa.Array, rounded: pa.Array, spec: ColumnSpec, where: str) -> None:
    """Raises ContractError for a finite number that has become infinite."""
    infinite = np.isinf(rounded.to_numpy(zero_copy_only=False))
    if infinite.any():
        before = given.to_numpy(zero_copy_only=False)[infinite]
        if np.isfinite(before).any():
            found = f"{before[np.isfinite(before)][0]:g}"
            raise _mismatch(spec, where, expected=f"numbers that fit {spec.dtype}", found=found)


def _mismatch(spec: ColumnSpec, where: str, *, expected: str, found: str) -> ContractError:
    return ContractError(
        STAGE,
        expected=f"column {spec.name} with {expected}",
        found=f"{found}, in {where}",
        remedy="Compare what was asked of the column with what the table holds; change the one, or write the other again.",
    )
