"""CSV whose numbers Arrow reads as numbers: what is plainly as the contract says comes typed, all else as text.

A block is typed where each number is one to Arrow, nothing is NULL that must not be, and each number lies in its range. Of
another block the parts that are so are typed, and what is left comes as `csv` gives it, for Spark to cast and to judge: a row is
the same both ways, and its raw text is there where it may be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from millrace.contracts.table import ColumnContract, TableContract
from millrace.contracts.texts import TEXTS, comes_typed, typed_columns
from millrace.sources.csv_blocks import is_plain
from millrace.sources.csv_dialect import Dialect

_NUM_PARTS = 16
_HEXADECIMAL = (b"0x", b"0X")
"""Arrow takes 0x10 for 16, and Spark for no number."""


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
        """The rows of a block in its order: in `typed_schema` where they are plain, as they are where not."""
        if self.dialect.skip_spaces or not is_plain(block, self.dialect):
            yield block
            return
        whole = self._typed(block)
        if whole is not None:
            yield whole
            return
        for piece in _pieces(block):
            found = self._typed(piece)
            yield piece if found is None else found

    def _typed(self, block: bytes) -> pa.RecordBatch | None:
        """None where a row is not plainly good."""
        if any(mark in block for mark in _HEXADECIMAL):
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
        if not all(map(_is_as_it_should, arrays, self.contract.columns.values())):
            return None
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


def _is_as_it_should(values: pa.Array, column: ColumnContract) -> bool:
    if values.null_count and not column.nullable:
        return False
    if not comes_typed(column) or values.null_count == len(values):
        return True
    if pa.types.is_floating(values.type) and not math.isfinite(pc.sum(values).as_py()):
        return False
    if column.range is None:
        return True
    low, high = column.range
    found = pc.min_max(values)
    return (low is None or found["min"].as_py() >= low) and (high is None or found["max"].as_py() <= high)


def _pieces(block: bytes) -> Iterator[bytes]:
    """A block in some of whole lines."""
    start = 0
    for number in range(1, _NUM_PARTS + 1):
        end = block.rfind(b"\n", start, len(block) * number // _NUM_PARTS) + 1 if number < _NUM_PARTS else len(block)
        if end > start:
            yield block[start:end]
            start = end
