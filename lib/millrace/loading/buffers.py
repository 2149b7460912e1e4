"""Decoded rows kept by number: the windows of all shards, or a batch that fills up. One class for each kind of column.

A buffer is filled from the front, run by run; then rows are taken from it in any order.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from millrace.loading.columns import Column, ColumnSpec, Sequences

ALIGNMENT = 64
"""Bytes. TensorFlow takes over aligned memory and aborts on other."""


def round_up(num_bytes: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT


Ints = npt.NDArray[np.int64]


class Buffer(Protocol):
    """Up to a fixed number of rows of one column."""

    def put(self, begin: int, source: Column, first: int, rows: int) -> None:
        """Copies `rows` rows of `source` from `first` to the places from `begin`: right behind what was put before, or 0."""

    def lengths(self, chosen: Ints) -> Ints | None:
        """Elements in each of the chosen rows; None where all are of one shape. (chosen,) int64"""

    def take(self, chosen: Ints, out: npt.NDArray[Any]) -> None:
        """Copies the chosen rows to `out`: (chosen, *shape), for sequences (chosen, length, *shape), padded."""


def make_buffer(spec: ColumnSpec, rows: int) -> Buffer:
    """A buffer for `rows` rows of a column. It takes memory as it is filled, up to rows * spec.row_bytes."""
    return _Ragged(spec, rows) if spec.is_ragged else _Dense(spec, rows)


def aligned_empty(rows: int, spec: ColumnSpec) -> npt.NDArray[Any]:
    """An array (rows, *spec.shape) with undefined content that starts on a 64-byte boundary (strings aside)."""
    return aligned_array((rows, *spec.shape), spec.numpy_dtype)


def assemble(spec: ColumnSpec, buffer: Buffer, chosen: Ints, padded_rows: int) -> tuple[npt.NDArray[Any], Ints | None]:
    """The chosen rows, with empty rows behind them up to `padded_rows`; and their lengths.

    The array is aligned and its own: (padded_rows, *shape), for sequences (padded_rows, bucket, *shape) with lengths
    (padded_rows,) int64, which are None otherwise.
    """
    lengths: Ints | None = None
    shape: tuple[int, ...] = (padded_rows, *spec.shape)
    known = buffer.lengths(chosen)
    if known is not None:
        lengths = np.zeros(padded_rows, dtype=np.int64)
        lengths[: chosen.size] = known
        shape = (padded_rows, spec.bucket(int(lengths.max(initial=0))), *spec.shape)
    batch = aligned_array(shape, spec.numpy_dtype)
    buffer.take(chosen, batch[: chosen.size])
    if chosen.size < padded_rows:
        batch[chosen.size :] = "" if batch.dtype.hasobject else spec.padding
    return batch, lengths


class _Dense:
    """Rows of one shape."""

    def __init__(self, spec: ColumnSpec, rows: int) -> None:
        self._values = aligned_empty(rows, spec)

    def put(self, begin: int, source: Column, first: int, rows: int) -> None:
        assert isinstance(source, np.ndarray)
        self._values[begin : begin + rows] = source[first : first + rows]

    def lengths(self, chosen: Ints) -> Ints | None:  # noqa: ARG002
        return None

    def take(self, chosen: Ints, out: npt.NDArray[Any]) -> None:
        # mode="clip" lets NumPy write into `out` without a copy in between; the rows are in range
        np.take(self._values, chosen, axis=0, out=out, mode="clip")


class _Ragged:
    """Rows of different lengths, packed: only what is filled is ever touched, and so takes memory."""

    def __init__(self, spec: ColumnSpec, rows: int) -> None:
        self._padding = spec.padding
        self._values = np.empty((rows * spec.length_buckets[-1], *spec.shape), dtype=spec.numpy_dtype)
        self._offsets = np.zeros(rows + 1, dtype=np.int64)

    def put(self, begin: int, source: Column, first: int, rows: int) -> None:
        assert isinstance(source, Sequences)
        offsets = source.offsets[first : first + rows + 1]
        start = self._offsets[begin]  # 0 for the first row, else where the run before has ended
        self._offsets[begin + 1 : begin + rows + 1] = offsets[1:] + (start - offsets[0])
        self._values[start : self._offsets[begin + rows]] = source.values[offsets[0] : offsets[-1]]

    def lengths(self, chosen: Ints) -> Ints | None:
        return np.asarray(self._offsets[chosen + 1] - self._offsets[chosen])

    def take(self, chosen: Ints, out: npt.NDArray[Any]) -> None:
        starts, ends = self._offsets[chosen].tolist(), self._offsets[chosen + 1].tolist()
        out[...] = self._padding
        for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
            out[row, : end - start] = self._values[start:end]


def aligned_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """An array with undefined content that starts on a boundary of ALIGNMENT bytes (objects aside)."""
    if dtype.hasobject:
        return np.empty(shape, dtype=object)
    num_bytes = math.prod(shape) * dtype.itemsize
    raw = np.empty(num_bytes + ALIGNMENT, dtype=np.uint8)
    begin = -raw.__array_interface__["data"][0] % ALIGNMENT  # `raw.ctypes.data` takes four times as long
    return raw[begin : begin + num_bytes].view(dtype).reshape(shape)
