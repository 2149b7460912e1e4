"""Rows on their way into Arrow batches: bounded by rows and by bytes, each row good, or broken with rule, reason and record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from millrace.contracts.table import TableContract
from millrace.errors import ContractError
from millrace.sources.reader import REJECTS

BATCH_ROWS = 5_000
BATCH_BYTES = 16 * 1024**2
RECORD_CHARACTERS = 64 * 1024
"""What is kept at most of a broken row's text."""


@dataclass(frozen=True)
class Row:
    """One raw row: a value for each of the contract's columns, or what is wrong with it."""

    source_file: str
    values: Mapping[str, Any] = field(default_factory=dict)
    rule: str | None = None
    reason: str | None = None
    record: str | None = None
    num_bytes: int = 0
    """About what it takes in memory."""


def broken(source_file: str, rule: str, reason: str, record: str | bytes) -> Row:
    """A row for quarantine; of its raw text what fits is kept, bytes that are no UTF-8 as \\xNN."""
    if isinstance(record, bytes):
        record = record[:RECORD_CHARACTERS].decode("utf-8", "backslashreplace")
    text = record[:RECORD_CHARACTERS].encode("utf-8", "backslashreplace").decode()
    return Row(source_file, rule=rule, reason=reason, record=text, num_bytes=len(text))


def row_schema(contract: TableContract, types: Mapping[str, pa.DataType]) -> pa.Schema:
    """The contract's columns, as text where `types` does not name another type, _source_file and REJECTS; all nullable."""
    fields = [pa.field(name, types.get(name, pa.string())) for name in contract.columns]
    return pa.schema([*fields, *(pa.field(name, pa.string()) for name in ("_source_file", *REJECTS))])


def batches(rows: Iterator[Row], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """`rows` as record batches of `schema`."""
    columns: list[list[Any]] = [[] for _ in schema]
    num_bytes = 0
    for row in rows:
        own = {
            **row.values,
            "_source_file": row.source_file,
            "_rule": row.rule,
            "_reason": row.reason,
            "_record": row.record,
        }
        for column, name in zip(columns, schema.names, strict=True):
            column.append(own.get(name))
        num_bytes += row.num_bytes
        if len(columns[0]) >= BATCH_ROWS or num_bytes >= BATCH_BYTES:
            yield pa.record_batch(columns, schema=schema)
            columns, num_bytes = [[] for _ in schema], 0
    if columns[0]:
        yield pa.record_batch(columns, schema=schema)


def check_columns(contract: TableContract, offered: Sequence[str], needed: Sequence[str], where: str) -> None:
    """Raises ContractError where the contract has a column that the format does not give, or lacks one that it must have."""
    strange = [name for name in contract.columns if name not in offered]
    missing = [name for name in needed if name not in contract.columns]
    if strange or missing:
        raise ContractError(
            "ingest",
            expected=f"columns among {', '.join(offered)} in {contract.name}" + (f", with {', '.join(needed)}" if needed else ""),
            found=f"{', '.join(strange)} too" if strange else f"no {', '.join(missing)}",
            remedy=f"Mend the contract, or {where}.",
        )


def check_type(contract: TableContract, column: str, allowed: Sequence[str]) -> None:
    """Raises ContractError where a column has a type that the format cannot give."""
    if column in contract.columns and contract.columns[column].type not in allowed:
        raise ContractError(
            "ingest",
            expected=f"the column {column} of {contract.name} to be {' or '.join(allowed)}",
            found=contract.columns[column].type,
            remedy="Mend the contract.",
        )
