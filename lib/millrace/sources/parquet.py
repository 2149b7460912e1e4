"""Parquet files whose columns have types already. One unit for about 64 MiB of row groups.

Columns are matched to the contract's by name, nested ones whole, as its evolution says (`contracts.evolution`). A column of texts
where the contract has another type is read value by value; one that does not fit makes its row a broken one. Read by Arrow
rather than by Spark, whose errors for a damaged page name no remedy and come as a stack trace. Columns that are only in
directories' names (split=train/) are not seen.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from millrace.contracts.evolution import ADDED, RULES, Reconciled, added_field, reconcile_schema
from millrace.contracts.table import TableContract
from millrace.sources.opening import damaged, unreadable
from millrace.sources.reader import REJECTS
from millrace.sources.rows import RECORD_CHARACTERS
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
            with _open(unit.path) as stream:
                reconcile_schema(contract, _file(stream, unit.path).schema_arrow, where=unit.path)

    def arrow_schema(self, contract: TableContract) -> pa.Schema:
        """The contract's columns in its types; where it lets columns be added, the map of them too."""
        fields = [field.with_nullable(True) for field in contract.arrow_schema]
        return pa.schema([*fields, *added_field(contract), *(pa.field(name, pa.string()) for name in ("_source_file", *REJECTS))])

    def read(self, unit: Part, contract: TableContract) -> Iterator[pa.RecordBatch]:
        """The rows of the row groups. Raises SourceError where the file is damaged."""
        schema = self.arrow_schema(contract)
        with _open(unit.path) as stream:
            file = _file(stream, unit.path)
            verdict = reconcile_schema(contract, file.schema_arrow, where=unit.path)
            found = file.iter_batches(batch_size=_BATCH_ROWS, row_groups=list(unit.row_groups))
            while True:
                try:
                    batch = next(found, None)
                    if batch is None:
                        return
                    batch.validate(full=True)  # texts that are no UTF-8, offsets that lie
                except (pa.ArrowException, OSError, ValueError) as error:
                    raise damaged(unit.path, _one_line(error)) from None
                yield _matched(batch, contract, schema, unit.path, verdict)


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
        added = [[(name, _plain(value)) for name, value in row.items()] for row in batch.select(list(verdict.added)).to_pylist()]
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
    return json.dumps(row.to_pylist()[0], default=_leaf, ensure_ascii=False)[:RECORD_CHARACTERS]


def _parts(path: str) -> Iterator[Part]:
    with _open(path) as stream:
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


def _open(path: str) -> IO[bytes]:
    try:
        return cast(IO[bytes], fsspec.open(path, "rb", compression=None).open())
    except OSError as error:
        raise unreadable(path, error) from None


def _file(stream: IO[bytes], path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(stream)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(path, _one_line(error)) from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
