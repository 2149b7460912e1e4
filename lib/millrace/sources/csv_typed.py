"""CSV whose numbers Arrow reads as numbers: what is plainly as the contract says comes typed, all else as text.

A row is typed where each number is one to Arrow, nothing is NULL that must not be, and each number lies in its range. The others
come as `csv` gives them, for Spark to cast and to judge: a row is the same both ways, and its raw text is there where it may be
wrong. Where Arrow does not read a block because of one value, its neighbours in a sixteenth of the block come as text too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from millrace.contracts.table import ColumnContract, TableContract
from millrace.contracts.texts import TEXTS, comes_typed, typed_columns
from millrace.sources.csv_blocks import is_plain
from millrace.sources.csv_dialect import Dialect

_NUM_PARTS = 16


def typed_schema(contract: TableContract) -> pa.Schema:
    """The contract's columns, numbers as such, the others as text; _source_file, _rule, _reason, _record; TEXTS."""
    fields = [
        pa.field(name, column.data_type.to_arrow() if comes_typed(column) else pa.string())
        for name, column in contract.columns.items()
    ]
    texts = [pa.field(name, pa.string()) for name in ("_source_file", "_rule", "_reason", "_record")]
    return pa.schema([*fields, *texts, pa.field(TEXTS, pa.list_(pa.string()))])


@dataclass(frozen=True)
class TypedBlocks:
    """Blocks of one file, whose fields are `header`."""

    contract: TableContract
    dialect: Dialect
    header: Sequence[str]
    path: str

    def parts(self, block: bytes) -> Iterator[pa.RecordBatch | bytes]:
        """The rows of a block: in `typed_schema` those that are plainly good, and the lines of the others."""
        if self.dialect.skip_spaces or not is_plain(block, self.dialect):
            yield block
            return
        whole = self._parsed(block)
        if whole is not None:
            yield from self._sorted(whole, block)
            return
        for piece in _pieces(block):
            rows = self._parsed(piece)
            yield from [piece] if rows is None else self._sorted(rows, piece)

    def _sorted(self, rows: pa.RecordBatch, block: bytes) -> Iterator[pa.RecordBatch | bytes]:
        """Good rows, and the lines of the others."""
        bad = reduce(np.union1d, map(_bad_rows, rows.columns, self.contract.columns.values()))
        if not len(bad):
            yield rows
            return
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1
        if not block.endswith(b"\n"):
            ends = np.append(ends, len(block))
        if len(ends) != rows.num_rows or block.count(b"\r") != block.count(b"\r\n"):
            yield block  # an empty line is no row, and to Arrow a carriage return alone ends one
            return
        starts = np.append(0, ends[:-1])
        is_good = np.ones(rows.num_rows, np.bool_)
        is_good[bad] = False
        yield rows.filter(pa.array(is_good))
        yield b"".join(block[starts[row] : ends[row]] for row in bad.tolist())

    def _parsed(self, block: bytes) -> pa.RecordBatch | None:
        """All rows of a block; None where a value is no number, or fields are missing."""
        if _has_hexadecimal(block):
            return None
        schema = typed_schema(self.contract)
        names = [str(number) for number in range(len(self.header))]
        places = [names[self.header.index(name)] for name in self.contract.columns]
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(block),
                read_options=pa_csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
                parse_options=pa_csv.ParseOptions(delimiter=self.dialect.delimiter, quote_char=self.dialect.quote or False),
                convert_options=pa_csv.ConvertOptions(
                    check_utf8=False,
                    column_types=dict.fromkeys(names, pa.string()) | dict(zip(places, schema.types, strict=False)),
                    include_columns=places,
                    null_values=list(self.dialect.null_values),
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=True,
                ),
            )
        except pa.ArrowInvalid:
            return None
        columns = table.combine_chunks().columns
        arrays = [column.chunk(0) if column.num_chunks else pa.array([], column.type) for column in columns]
        nothing = [pa.nulls(table.num_rows, field.type) for field in list(schema)[-4:]]
        return pa.record_batch([*arrays, pa.repeat(self.path, table.num_rows), *nothing], schema=schema)


def as_texts(batch: pa.RecordBatch, contract: TableContract) -> pa.RecordBatch:
    """Rows that came as text, in `typed_schema`: their numbers are NULL there, and stand in TEXTS."""
    schema = typed_schema(contract)
    names = typed_columns(contract)
    width, num_rows = len(names), batch.num_rows
    order = np.arange(width * num_rows).reshape(width, num_rows).T.ravel()
    values = (
        pa.concat_arrays([batch.column(name) for name in names]).take(pa.array(order)) if names else pa.array([], pa.string())
    )
    lists = pa.ListArray.from_arrays(pa.array(np.arange(num_rows + 1) * width, pa.int32()), values)
    arrays = [
        lists if field.name == TEXTS else pa.nulls(num_rows, field.type) if field.name in names else batch.column(field.name)
        for field in schema
    ]
    return pa.record_batch(arrays, schema=schema)


def _bad_rows(values: pa.Array, column: ColumnContract) -> npt.NDArray[np.int64]:
    """The places of values that may break a rule: NULL where there must be one, no finite number, out of the range."""
    bad = [np.empty(0, np.int64)]
    if values.null_count and not column.nullable:
        bad.append(_true(values.is_null()))
    if not comes_typed(column) or values.null_count == len(values):
        return np.concatenate(bad)
    if pa.types.is_floating(values.type) and not math.isfinite(pc.sum(values).as_py()):
        bad.append(_true(pc.invert(pc.is_finite(values))))
    if column.range is not None:
        low, high = column.range
        found = pc.min_max(values)
        if low is not None and found["min"].as_py() < low:
            bad.append(_true(pc.less(values, low)))
        if high is not None and found["max"].as_py() > high:
            bad.append(_true(pc.greater(values, high)))
    return np.concatenate(bad)


def _has_hexadecimal(block: bytes) -> bool:
    """Whether 0x or 0X is anywhere: Arrow takes 0x10 for 16, and Spark for no number."""
    data = np.frombuffer(block, np.uint8)  # data: (byte,)
    places = np.flatnonzero((data[1:] | 0x20) == ord("x"))
    return bool((data[places] == ord("0")).any())


def _true(mask: pa.Array) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = np.flatnonzero(pc.fill_null(mask, False).to_numpy(zero_copy_only=False))
    return found


def _pieces(block: bytes) -> Iterator[bytes]:
    """A block in some of whole lines."""
    start = 0
    for number in range(1, _NUM_PARTS + 1):
        end = block.rfind(b"\n", start, len(block) * number // _NUM_PARTS) + 1 if number < _NUM_PARTS else len(block)
        if end > start:
            yield block[start:end]
            start = end
