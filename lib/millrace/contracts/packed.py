"""Numbers of a row that travel as one value: a wide row then goes between Python and Spark at the price of a narrow one.

Spark has nothing to do with these columns but to carry them. A row that came typed has all of them in PACKED; one that came as
text (contracts.texts) has them in LOOSE instead, as Spark has cast them: two lists, of the integers as int64 and of the others
as float64. (A struct of many fields is dear also where it is NULL: Spark writes each of them.) Vocabulary of PACKED, for k
columns: 8 k bytes, each an int64 or a float64, little-endian; then for each 64 columns 8 bytes with a bit for each, 1 for NULL.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

PACKED, LOOSE = "_packed", "_loose"
_WORD = 8
"""Bytes; also, times 8, the columns that share a word of NULL bits."""
_BITS = 8 * _WORD
_INTEGERS, _REALS = "integers", "reals"


class Carrier(ABC):
    """How rows that a reader has typed go to Spark: some columns as binary values that are made of a row."""

    @property
    @abstractmethod
    def replaced(self) -> Collection[str]:
        """The columns that do not go themselves."""

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """Of the columns that go in their place."""

    @abstractmethod
    def made(self, rows: pa.RecordBatch) -> Mapping[str, pa.Array]:
        """Those columns, in the order of `names`."""

    @abstractmethod
    def around(self, columns: Iterable[str]) -> list[str]:
        """The columns of a frame that has these ones, some of them as this says."""

    def schema(self, typed: pa.Schema) -> pa.Schema:
        """Of what comes out of rows in `typed`."""
        kept = [field for field in typed if field.name not in self.replaced]
        return pa.schema([*kept, *[pa.field(name, pa.binary()) for name in self.names]])

    def packed(self, rows: pa.RecordBatch, *, came_typed: bool) -> pa.RecordBatch:
        """The same rows, what is made behind the others; NULL where they came as text."""
        kept = [rows.column(name) for name in rows.schema.names if name not in self.replaced]
        made = self.made(rows).values() if came_typed else [pa.nulls(rows.num_rows, pa.binary())] * len(self.names)
        return pa.RecordBatch.from_arrays([*kept, *made], schema=self.schema(rows.schema))


@dataclass(frozen=True)
class Packing(Carrier):
    """Which columns travel so, in their order, and the types that they have otherwise: integers and floats."""

    types: Mapping[str, pa.DataType]

    @property
    def replaced(self) -> Collection[str]:
        """See `Carrier`."""
        return self.types

    @property
    def names(self) -> Sequence[str]:
        """See `Carrier`."""
        return (PACKED,)

    @property
    def width(self) -> int:
        """Words of a row."""
        return len(self.types) + -(-len(self.types) // _BITS)

    def made(self, rows: pa.RecordBatch) -> Mapping[str, pa.Array]:
        """See `Carrier`."""
        words = np.zeros((rows.num_rows, self.width), np.int64)
        for place, (name, kind) in enumerate(self.types.items()):
            values = rows.column(name)
            if values.null_count:
                is_null = values.is_null().to_numpy(zero_copy_only=False)
                words[:, len(self.types) + place // _BITS] |= is_null.astype(np.int64) << place % _BITS
                values = values.fill_null(0)
            words[:, place] = values.to_numpy().astype(_word_type(kind), copy=False).view(np.int64)
        return {PACKED: as_binary(words)}

    def unpack(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The same rows with the columns in the place of PACKED and LOOSE."""
        packed, loose = batch.column(PACKED), batch.column(LOOSE)
        is_packed = packed.is_valid().to_numpy(zero_copy_only=False)
        words = _words(packed).reshape(-1, self.width)
        has_nulls = words[:, len(self.types) :].any()
        values = {}
        for place, (name, kind) in enumerate(self.types.items()):
            is_null = words[:, len(self.types) + place // _BITS] >> place % _BITS & 1 if has_nulls else None
            values[name] = _column(words[:, place].copy().view(_word_type(kind)), is_null, kind)
        if not is_packed.all():
            order = np.empty(len(is_packed), np.int64)  # where each row is, of the packed ones and then the others
            order[is_packed] = np.arange(len(words))
            order[~is_packed] = np.arange(len(words), len(is_packed))
            others = self._loose_columns(loose.filter(pa.array(~is_packed)))
            values = {name: pa.concat_arrays([column, others[name]]).take(pa.array(order)) for name, column in values.items()}
        kept = {name: batch.column(name) for name in batch.schema.names if name not in (PACKED, LOOSE)}
        return pa.RecordBatch.from_pydict(kept | values)

    def _loose_columns(self, loose: pa.StructArray) -> dict[str, pa.Array]:
        lists = {field: loose.field(field) for field in (_INTEGERS, _REALS)}
        places = self._loose_places
        return {name: pc.list_element(lists[places[name][0]], places[name][1]).cast(kind) for name, kind in self.types.items()}

    @property
    def _loose_places(self) -> dict[str, tuple[str, int]]:
        """The list of LOOSE that each column is in, and its place there."""
        taken = Counter[str]()
        places = {}
        for name, kind in self.types.items():
            field = _REALS if pa.types.is_floating(kind) else _INTEGERS
            places[name] = (field, taken[field])
            taken[field] += 1
        return places

    @property
    def at(self) -> dict[str, str]:
        """The columns in SQL, of rows that are not packed."""
        return {name: f"{LOOSE}.{field}[{place}]" for name, (field, place) in self._loose_places.items()}

    def loose(self, values: Mapping[str, str]) -> str:
        """LOOSE in SQL, out of the columns' values."""
        lists = {_INTEGERS: "bigint", _REALS: "double"}
        parts = []
        for field, kind in lists.items():
            own = [f"cast({values[name]} AS {kind})" for name, (where, _) in self._loose_places.items() if where == field]
            parts.append(f"'{field}', cast(array({', '.join(own)}) AS array<{kind}>)")
        return f"named_struct({', '.join(parts)})"

    def around(self, columns: Iterable[str]) -> list[str]:
        """The columns of a frame that has these ones, some of them packed."""
        names = list(columns)
        others = [name for name in names if name not in self.types]
        return [*others, *([PACKED, LOOSE] if len(others) < len(names) else [])]


def as_binary(values: npt.NDArray[Any]) -> pa.Array:
    """(B, width) -> B binary values of width * itemsize bytes, little-endian."""
    num_rows, num_bytes = len(values), values.shape[1] * values.itemsize
    offsets = np.arange(0, (num_rows + 1) * num_bytes, num_bytes, dtype=np.int32)[: num_rows + 1]
    data = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))
    return pa.Array.from_buffers(pa.binary(), num_rows, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def _word_type(kind: pa.DataType) -> type[np.generic]:
    return np.float64 if pa.types.is_floating(kind) else np.int64


def _words(packed: pa.Array) -> npt.NDArray[np.int64]:
    """All words of an array of PACKED, whose NULLs have none."""
    _, offsets, data = packed.buffers()
    ends = np.frombuffer(offsets, np.int32)[packed.offset : packed.offset + len(packed) + 1]
    if data is None or ends[0] == ends[-1]:
        return np.empty(0, np.int64)
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]].view(np.int64)


def _column(values: npt.NDArray[Any], is_null: npt.NDArray[np.int64] | None, kind: pa.DataType) -> pa.Array:
    column = pa.array(values, mask=None if is_null is None or not is_null.any() else is_null.astype(np.bool_))
    return column if column.type == kind else column.cast(kind)
