"""CSV with a header line (RFC 4180), plain or gzipped. Fields are counted: Spark's reader pads short rows and cuts long ones."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import fsspec
import pyarrow as pa

from millrace.contracts.table import TableContract
from millrace.errors import ContractError, SourceError
from millrace.sources.reader import REJECTS

SUFFIXES = (".csv", ".csv.gz")
_BATCH_ROWS = 10_000
_FIELD_BYTES = 64 * 1024**2


RULES = ("too_few_fields", "too_many_fields", "column_added", "not_utf8")


@dataclass(frozen=True)
class CsvReader:
    """CSV files as a `FileReader`."""

    suffixes: tuple[str, ...] = SUFFIXES
    rules: tuple[str, ...] = RULES

    def units(self, paths: Sequence[str]) -> list[str]:
        """Whole files."""
        return list(paths)

    def check(self, unit: str, contract: TableContract) -> None:
        """See `check`."""
        check(unit, contract)

    def arrow_schema(self, contract: TableContract) -> pa.Schema:
        """See `arrow_schema`."""
        return arrow_schema(contract)

    def read(self, unit: str, contract: TableContract) -> Iterator[pa.RecordBatch]:
        """See `read`."""
        return read(unit, contract)


def arrow_schema(contract: TableContract) -> pa.Schema:
    """The contract's columns as text (an empty field is NULL), the file, and of a broken row rule, reason and text."""
    names = [*contract.columns, "_source_file", *REJECTS]
    return pa.schema([pa.field(name, pa.string()) for name in names])


def check(path: str, contract: TableContract) -> None:
    """Raises ContractError where the header lacks a column of the contract, or has one too many and the contract says refuse."""
    with _open(path) as stream:
        header = next(_rows(stream, path), [])
    missing = [name for name in contract.columns if name not in header]
    if missing:
        raise ContractError(
            "ingest",
            expected=f"the columns {', '.join(contract.columns)} in {path}",
            found=f"no {', '.join(missing)} in its first line",
            remedy=f"Mend the file, or the contract {contract.name}.",
        )
    if len(set(header)) != len(header):
        raise ContractError(
            "ingest", expected=f"each column once in {path}", found=", ".join(header), remedy="Mend the file's first line."
        )
    added = [name for name in header if name not in contract.columns]
    if added and contract.evolution.added == "refuse":
        raise ContractError(
            "ingest",
            expected=f"the columns {', '.join(contract.columns)} in {path}",
            found=f"also {', '.join(added)}",
            remedy=f"Add them to the contract {contract.name}, or let its evolution.added quarantine such files.",
        )


def read(path: str, contract: TableContract) -> Iterator[pa.RecordBatch]:
    """The rows of one file in the schema above. Raises SourceError where it is damaged beyond its rows (truncated gzip)."""
    schema = arrow_schema(contract)
    with _open(path) as stream:
        rows = _rows(stream, path)
        header = next(rows, [])
        added = [name for name in header if name not in contract.columns]
        places = [header.index(name) for name in contract.columns]
        columns: list[list[str | None]] = [[] for _ in schema]
        for row in rows:
            if not row:
                continue
            rule, reason = _verdict(row, header, added)
            fields = [None] * len(places) if rule else [row[place] or None for place in places]
            record = _text(row) if rule else None
            for column, value in zip(columns, [*fields, path, rule, reason, record], strict=True):
                column.append(value)
            if len(columns[0]) == _BATCH_ROWS:
                yield pa.record_batch(columns, schema=schema)
                columns = [[] for _ in schema]
        if columns[0]:
            yield pa.record_batch(columns, schema=schema)


def _verdict(row: Sequence[str], header: Sequence[str], added: Sequence[str]) -> tuple[str | None, str | None]:
    if len(row) != len(header):
        rule = "too_few_fields" if len(row) < len(header) else "too_many_fields"
        return rule, f"{len(row)} fields where the header has {len(header)}"
    if added:
        return "column_added", f"the file has columns that the contract does not have: {', '.join(added)}"
    if any("\udc80" <= character <= "\udcff" for field in row if not field.isascii() for character in field):
        return "not_utf8", "bytes that are no UTF-8"
    return None, None


def _text(row: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(row)
    return line.getvalue().encode("utf-8", "backslashreplace").decode()


def _open(path: str) -> IO[str]:
    raw = fsspec.open(path, "rb", compression=None).open()
    binary = gzip.GzipFile(fileobj=raw) if path.endswith(".gz") else raw
    return io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _is_open(text: str) -> bool:
    """Whether a row has a quote that is never closed, which would swallow the rest of the file: only strict reading says so."""
    try:
        for _ in csv.reader(io.StringIO(text, newline=""), strict=True):
            pass
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False


def _rows(stream: IO[str], path: str) -> Iterator[list[str]]:
    csv.field_size_limit(_FIELD_BYTES)
    lines: list[str] = []  # of the row that is read
    last = ""

    def kept() -> Iterator[str]:
        for line in stream:
            lines.append(line)
            yield line

    reader = csv.reader(kept())
    try:
        for row in reader:
            last = "".join(lines)
            lines.clear()
            yield row
        if _is_open(last):
            raise EOFError("it ends within a quoted field")
    except (EOFError, OSError, zlib.error) as error:
        raise SourceError(
            "ingest",
            expected=f"a whole file at {path}",
            found=f"that it is damaged ({error})",
            remedy="Fetch it again, then run the night again.",
        ) from None
    except csv.Error as error:
        raise SourceError(
            "ingest",
            expected=f"CSV in {path}",
            found=f"{error} at line {reader.line_num}",
            remedy="Mend that line, then run the night again.",
        ) from None
