"""Decoded columns as one run of bytes, for another process or a file, and back without a copy. Nothing is pickled.

8 bytes     length of the header
header      JSON: {"fields": ..., "columns": [[name, kind, [[dtype, shape, begin], ...]], ...]}
arrays      each from `begin`, a multiple of 64, in C order
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace.loading.buffers import round_up
from millrace.loading.columns import Column, RowGroupColumns, Sequences

_LENGTH = struct.Struct("<Q")


def pack(columns: RowGroupColumns, fields: Mapping[str, Any]) -> memoryview:
    """The columns and `fields`, which JSON can hold, as bytes; each array is copied once."""
    entries: list[list[Any]] = []
    arrays: list[npt.NDArray[Any]] = []
    end = 0
    for name, column in columns.items():
        kind, parts = _parts(column)
        described = []
        for part in parts:
            described.append([part.dtype.str, list(part.shape), end])
            end = round_up(end + part.nbytes)
        entries.append([name, kind, described])
        arrays += parts
    header = json.dumps({"fields": fields, "columns": entries}).encode()
    start = round_up(_LENGTH.size + len(header))
    packed = np.empty(start + end, dtype=np.uint8)
    packed[:start] = 0
    packed[: _LENGTH.size] = np.frombuffer(_LENGTH.pack(len(header)), dtype=np.uint8)
    packed[_LENGTH.size : _LENGTH.size + len(header)] = np.frombuffer(header, dtype=np.uint8)
    begin = start
    for array in arrays:
        target = packed[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
        target[...] = array
        packed[begin + array.nbytes : begin + round_up(array.nbytes)] = 0
        begin += round_up(array.nbytes)
    return packed.data


def unpack(data: memoryview) -> tuple[dict[str, Column], dict[str, Any]]:
    """What `pack` was given. The arrays share the memory of `data`. Raises ValueError and KeyError for other bytes."""
    (length,) = _LENGTH.unpack_from(data)
    header = json.loads(bytes(data[_LENGTH.size : _LENGTH.size + length]))
    start = round_up(_LENGTH.size + length)
    columns: dict[str, Column] = {}
    for name, kind, described in header["columns"]:
        parts = [
            np.frombuffer(data, dtype=dtype, count=int(np.prod(shape, dtype=np.int64)), offset=start + begin).reshape(shape)
            if np.prod(shape)
            else np.empty(shape, dtype=dtype)
            for dtype, shape, begin in described
        ]
        columns[name] = _column(kind, parts)
    return columns, header["fields"]


def _parts(column: Column) -> tuple[str, list[npt.NDArray[Any]]]:
    if isinstance(column, Sequences):
        return "sequences", [column.values, column.offsets]
    if column.dtype.hasobject:
        texts = pa.array(column, pa.large_string())
        _, offsets, data = texts.buffers()
        letters = np.empty(0, dtype=np.uint8) if data is None else np.frombuffer(data, dtype=np.uint8)
        return "strings", [np.frombuffer(offsets, dtype=np.int64, count=len(texts) + 1), letters]
    return "array", [column]


def _column(kind: str, parts: list[npt.NDArray[Any]]) -> Column:
    if kind == "sequences":
        return Sequences(*parts)
    if kind == "strings":
        offsets, letters = parts
        texts = pa.LargeStringArray.from_buffers(offsets.size - 1, pa.py_buffer(offsets), pa.py_buffer(letters))
        return np.asarray(texts.to_numpy(zero_copy_only=False), dtype=object)
    return parts[0]
