"""A table of the lake, or the result of a query, as one file for other programs. Batch by batch, and whole or not at all.

What a format has no word for:

- csv: NULL is an empty field, an empty text is "" (texts are always quoted); bytes are base64; what is nested is JSON; NaN
  is nan.
- jsonl: NULL is null; bytes are base64; times are ISO 8601 texts; decimals are texts, so that no digit is lost; NaN and
  infinities, which JSON does not have, are null.
- parquet: everything as it is.
"""

from __future__ import annotations

import base64
import json
import math
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Literal, Protocol

import duckdb
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from millrace.config.load import nearest
from millrace.contracts.values import python_values
from millrace.errors import ConfigError, LakeError
from millrace.flows.inspect import existing
from millrace.flows.queries import connected, copied_by_spark
from millrace.lake import log
from millrace.lake.layout import Lake
from millrace.lake.versions import Sessions, no_session
from millrace.lake.views import to_dataset, visible_tables

Format = Literal["csv", "jsonl", "parquet"]
STAGE = "export-table"
_BATCH_ROWS = 8192


class _Writer(Protocol):
    def write(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...


def export_table(
    lake: Lake,
    what: str,
    *,
    format: Format,
    out: Path,
    version: int | None = None,
    force: bool = False,
    sessions: Sessions = no_session,
) -> int:
    """Writes a table, by its name with / or _, or the rows of a query, to `out`. Returns how many rows.

    A table is read as readers see it, at its last succeeded version, or at `version`; `sessions` opens Spark for tables that only
    Spark can read. Raises ConfigError for an unknown table, a query that DuckDB refuses or that fails for a row, a file that is
    there already, without `force`, or that cannot be written; LakeError where the version or its files are gone.
    """
    if out.exists() and not force:
        raise ConfigError(STAGE, expected="a file that is not there yet", found=str(out), remedy="Take another, or add --force.")
    if not out.parent.is_dir():
        raise ConfigError(STAGE, expected=f"the directory {out.parent}", found="none", remedy="Make it.")
    with _rows(existing(lake), what, version, sessions) as reader:
        try:
            with _whole(out) as partial:
                return _write(_WRITERS[format](partial, reader.schema), _batches(reader, what, version))
        except OSError as error:
            found = error.strerror or str(error)
            raise ConfigError(STAGE, expected=f"to write {out}", found=found, remedy="Take another place.") from None


def _write(writer: _Writer, batches: Iterable[pa.RecordBatch]) -> int:
    num_rows = 0
    try:
        for batch in batches:
            writer.write(batch)
            num_rows += batch.num_rows
    finally:
        writer.close()
    return num_rows


def _batches(reader: pa.RecordBatchReader, what: str, version: int | None) -> Iterator[pa.RecordBatch]:
    """What is read, which fails only now where a file is gone, or where a query fails for a row that comes late."""
    try:
        yield from reader
    except (OSError, pa.ArrowException, duckdb.Error) as error:
        if not _is_query(what):
            raise _without_files(what if version is None else f"version {version} of {what}", error) from None
        first = str(error).splitlines()[0]
        raise ConfigError(STAGE, expected="a query that holds for every row", found=first, remedy="Mend it.") from None


def _without_files(what: str, error: Exception) -> LakeError:
    remedy = "Maintenance removes the files of old versions: take a newer one."
    return LakeError(STAGE, expected=f"the files of {what}", found=str(error).splitlines()[0], remedy=remedy)


def _is_query(what: str) -> bool:
    return len(what.split()) > 1


@contextmanager
def _rows(lake: Lake, what: str, version: int | None, sessions: Sessions) -> Iterator[pa.RecordBatchReader]:
    tables = visible_tables(lake)
    is_query = _is_query(what)
    name = what.strip().replace("/", "_")
    if is_query and version is not None:
        remedy = "Leave --version out, or name a table."
        raise ConfigError(STAGE, expected="a table with --version", found="a query", remedy=remedy)
    if not is_query:
        known = {visible.name: visible.table for visible in tables}
        if name not in known:
            raise ConfigError(STAGE, expected="a table of the lake", found=f"'{what}'", remedy=nearest(name, known))
        if version is not None:
            with _pinned(lake, known[name], version, sessions) as rows:
                yield rows
            return
    query = what if is_query else f'FROM "{name}"'
    with connected(lake, tables, query, sessions=sessions) as connection:
        try:
            reader = connection.execute(query).fetch_record_batch(_BATCH_ROWS)
        except duckdb.Error as error:
            if not is_query:
                raise _without_files(what, error) from None
            first = str(error).splitlines()[0]
            remedy = '`millrace sql "SHOW TABLES"` lists them.'
            raise ConfigError(STAGE, expected="a query over the lake's tables", found=first, remedy=remedy) from None
        yield reader


@contextmanager
def _pinned(lake: Lake, table: str, version: int, sessions: Sessions) -> Iterator[pa.RecordBatchReader]:
    uri = lake.path(table)
    newest = log.latest_version(uri)
    if newest is None or not 0 <= version <= newest:
        found = f"the newest is {newest}"
        raise LakeError(STAGE, expected=f"version {version} of {table}", found=found, remedy="Take one of 0 to that.")
    for_spark = log.is_for_spark_only(uri)
    with copied_by_spark(lake, table, version, sessions) if for_spark else nullcontext(to_dataset(lake, table, version)) as rows:
        yield pa.RecordBatchReader.from_batches(rows.schema, rows.to_batches(batch_size=_BATCH_ROWS))


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A name beside `out` that becomes it at the end, and is gone where there was an error."""
    partial = out.with_name(f".{out.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield partial
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(out)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


class _Csv:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = pa.schema([pa.field(field.name, _csv_type(field.type)) for field in schema])
        options = pa_csv.WriteOptions(include_header=True, quoting_style="needed")
        self._writer = pa_csv.CSVWriter(str(path), self._schema, write_options=options)

    def write(self, batch: pa.RecordBatch) -> None:
        columns = [
            column
            if column.type == field.type
            else pa.array([_csv_text(value, column.type) for value in python_values(column)], pa.string())
            for column, field in zip(batch.columns, self._schema, strict=True)
        ]
        self._writer.write(pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def _csv_type(kind: pa.DataType) -> pa.DataType:
    """What CSV can say of a column; everything else is said as text."""
    types = pa.types
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_string(kind):
        return kind
    return kind if types.is_date(kind) or types.is_timestamp(kind) else pa.string()


def _csv_text(value: Any, kind: pa.DataType) -> str | None:
    plain = _plain(value, kind)
    return plain if plain is None or isinstance(plain, str) else json.dumps(plain, ensure_ascii=False, allow_nan=False)


class _JsonLines:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        repeated = [name for name in schema.names if schema.names.count(name) > 1]
        if repeated:
            raise ConfigError(STAGE, expected="columns of different names", found=f"'{repeated[0]}' twice", remedy="Use AS.")
        self._names = schema.names
        self._stream = path.open("w", encoding="utf-8", newline="\n")

    def write(self, batch: pa.RecordBatch) -> None:
        types = [field.type for field in batch.schema]
        for row in zip(*[python_values(column) for column in batch.columns], strict=True):
            values = {name: _plain(value, kind) for name, value, kind in zip(self._names, row, types, strict=True)}
            self._stream.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")

    def close(self) -> None:
        self._stream.close()


def _plain(value: Any, kind: pa.DataType) -> Any:
    """As JSON has it: maps as objects, their keys as texts; bytes as base64, times as ISO texts, no NaN."""
    types = pa.types
    if value is None or isinstance(value, str):
        return value
    if types.is_map(kind):
        return {str(_plain(key, kind.key_type)): _plain(item, kind.item_type) for key, item in value}
    if types.is_struct(kind):
        return {name: _plain(item, kind.field(name).type) for name, item in value.items()}
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return [_plain(item, kind.value_type) for item in value]
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> str | bool | int | float | None:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value if isinstance(value, str | bool | int | float) else str(value)


class _Parquet:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(str(path), schema)

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch, row_group_size=_BATCH_ROWS)

    def close(self) -> None:
        self._writer.close()


_WRITERS: dict[str, Callable[[Path, pa.Schema], _Writer]] = {"csv": _Csv, "jsonl": _JsonLines, "parquet": _Parquet}
