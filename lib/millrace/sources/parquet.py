"""Parquet files whose columns have types already. One unit for about 64 MiB of row groups.

Columns are matched to the contract's by name, nested ones whole, as its evolution says (`contracts.evolution`). A column of texts
where the contract has another type is read value by value; one that does not fit makes its row a broken one. Read by Arrow
rather than by Spark, whose errors for a damaged page name no remedy and come as a stack trace. Columns that are only in
directories' names (split=train/) are not seen.

Memory is bounded by what a batch of rows decodes to. A dictionary of texts stays one until then: 50 KB of a file may say the same
text of 1 MB a million times. What a page unpacks to, and a dictionary of more than 16 MiB, only their writer has bounded.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace.contracts.evolution import ADDED, RULES, Reconciled, added_field, reconcile_schema
from millrace.contracts.table import TableContract
from millrace.contracts.values import python_values
from millrace.sources.opening import damaged, open_file
from millrace.sources.reader import REJECTS
from millrace.sources.rows import BATCH_BYTES, RECORD_CHARACTERS
from millrace.sources.typed_arrow import fit

_UNIT_BYTES = 64 * 1024**2
_BATCH_ROWS = 4_096


@dataclass(frozen=True)
class Part:
    """Row groups of a file."""

    path: str
    row_groups: tuple[int, ...]


@dataclass(frozen=True)
class ParquetReader:
    """Parquet as a `FileReader`."""

    suffixes: tuple[str, ...] = (".parquet", ".parq")
    rules: tuple[str, ...] = RULES

    def units(self, paths: Sequence[str]) -> list[Part]:
        """Some row groups each, by the files' footers. Raises SourceError for a file without one."""
        return [part for path in paths for part in _parts(path)]

    def check(self, unit: Part, contract: TableContract) -> None:
        """Raises ContractError where the contract's evolution refuses the file's columns."""
        if unit.row_groups[:1] in ((), (0,)):
            with open_file(unit.path) as stream:
                reconcile_schema(contract, _file(stream, unit.path).schema_arrow, where=unit.path)

    def arrow_schema(self, contract: TableContract) -> pa.Schema:
        """The contract's columns in its types; where it lets columns be added, the map of them too."""
        fields = [field.with_nullable(True) for field in contract.arrow_schema]
        return pa.schema([*fields, *added_field(contract), *(pa.field(name, pa.string()) for name in ("_source_file", *REJECTS))])

    def read(self, unit: Part, contract: TableContract) -> Iterator[pa.RecordBatch]:
        """The rows of the row groups. Raises SourceError where the file is damaged."""
        schema = self.arrow_schema(contract)
        with open_file(unit.path) as stream:
            file = _file(stream, unit.path)
            verdict = reconcile_schema(contract, file.schema_arrow, where=unit.path)
            packed = pq.ParquetFile(stream, metadata=file.metadata, read_dictionary=_dictionaries(file, unit.row_groups))
            found = packed.iter_batches(batch_size=_batch_rows(file.metadata, unit.row_groups), row_groups=list(unit.row_groups))
            while True:
                try:
                    batch = next(found, None)
                    if batch is None:
                        return
                    batch.validate(full=True)  # texts that are no UTF-8, offsets that lie
                except (pa.ArrowException, OSError, ValueError) as error:
                    raise damaged(unit.path, _one_line(error)) from None
                for piece in _decoded(batch):
                    yield _matched(piece, contract, schema, unit.path, verdict)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))


def _dictionaries(file: pq.ParquetFile, row_groups: Sequence[int]) -> list[str]:
    """The columns of texts that are all small dictionaries. Of others Arrow would make one as large as the row group."""
    names = {field.name for field in file.schema_arrow if _is_text(field.type)}
    for number in row_groups:
        group = file.metadata.row_group(number)
        for place in range(group.num_columns):
            chunk = group.column(place)
            if not chunk.has_dictionary_page or chunk.total_uncompressed_size > BATCH_BYTES:
                names.discard(chunk.path_in_schema)
    return sorted(names)


def _batch_rows(metadata: pq.FileMetaData, row_groups: Sequence[int]) -> int:
    """Rows that are read together: few where the footer says that they are long."""
    groups = [metadata.row_group(number) for number in row_groups]
    row_bytes = max((group.total_byte_size // max(1, group.num_rows) for group in groups), default=0)
    return max(1, min(_BATCH_ROWS, BATCH_BYTES // max(1, row_bytes)))


def _decoded(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in pieces whose texts, written out, are no more than BATCH_BYTES, or a single row."""
    row_bytes = np.zeros(batch.num_rows, dtype=np.int64)
    packed = [place for place, kind in enumerate(batch.schema.types) if pa.types.is_dictionary(kind)]
    for place in packed:
        column = batch.column(place)
        if _is_text(column.type.value_type):
            lengths = pc.binary_length(column.dictionary).take(column.indices).fill_null(0)
            row_bytes += lengths.to_numpy(zero_copy_only=False)
    begin = 0
    while begin < batch.num_rows:
        within = int(np.searchsorted(np.cumsum(row_bytes[begin:]), BATCH_BYTES, side="right"))
        piece = batch.slice(begin, max(1, within))
        begin += piece.num_rows
        columns = list(piece.columns)
        for place in packed:
            columns[place] = columns[place].dictionary_decode()
        yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _matched(batch: pa.RecordBatch, contract: TableContract, schema: pa.Schema, path: str, verdict: Reconciled) -> pa.RecordBatch:
    rules: list[str | None] = [verdict.rule] * batch.num_rows
    reasons: list[str | None] = [verdict.reason] * batch.num_rows
    columns = {}
    for name in contract.columns:
        kind = schema.field(name).type
        if verdict.rule is not None or name in verdict.missing:
            columns[name] = pa.nulls(batch.num_rows, kind)
            continue
        stored = batch.column(batch.schema.get_field_index(name))
        columns[name], unfit = fit(stored, kind)
        for row in unfit:
            rules[row] = "column_retyped"
            reasons[row] = f"{name} is {stored.type} in the file, and its value is no {contract.columns[name].type}"
    records = [None if rule is None else _as_text(batch.slice(row, 1)) for row, rule in enumerate(rules)]
    texts = zip(("_source_file", *REJECTS), ([path] * batch.num_rows, rules, reasons, records), strict=True)
    columns |= {name: pa.array(values, pa.string()) for name, values in texts}
    if ADDED in schema.names:
        added = [[(name, _plain(value)) for name, value in row.items()] for row in _rows(batch.select(list(verdict.added)))]
        columns[ADDED] = pa.array(added if verdict.added else [None] * batch.num_rows, schema.field(ADDED).type)
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _plain(value: Any) -> str | None:
    """A value as a text: texts and numbers as they are, what is nested as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, default=_leaf, ensure_ascii=False) if isinstance(value, dict | list | bool) else _leaf(value)


def _leaf(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _as_text(row: pa.RecordBatch) -> str:
    return json.dumps(_rows(row)[0], default=_leaf, ensure_ascii=False)[:RECORD_CHARACTERS]


def _rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    columns = [python_values(column) for column in batch.columns]
    return [dict(zip(batch.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]


def _parts(path: str) -> Iterator[Part]:
    with open_file(path) as stream:
        metadata = _file(stream, path).metadata
    groups: list[int] = []
    num_bytes = 0
    for number in range(metadata.num_row_groups):
        groups.append(number)
        num_bytes += metadata.row_group(number).total_byte_size
        if num_bytes >= _UNIT_BYTES:
            yield Part(path, tuple(groups))
            groups, num_bytes = [], 0
    if groups or not metadata.num_row_groups:
        yield Part(path, tuple(groups))


def _file(stream: IO[bytes], path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(stream)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(path, _one_line(error)) from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
