"""Rows that a reader makes one by one, gathered into Arrow batches of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from millrace.contracts.evolution import ADDED, added_field
from millrace.contracts.table import TableContract
from millrace.sources.reader import REJECTS

Verdict = tuple[str, str]
"""A rule that is broken, and the reason for people."""
BATCH_ROWS = 10_000
_BATCH_CHARACTERS = 16 * 1024**2


def text_schema(contract: TableContract) -> pa.Schema:
    """The contract's columns as text, the map of added ones where it evolves, the file; rule, reason and text of a broken row."""
    columns = [pa.field(name, pa.string()) for name in contract.columns]
    return pa.schema([*columns, *added_field(contract), *(pa.field(name, pa.string()) for name in ("_source_file", *REJECTS))])


class Gatherer:
    """Columns of one file's rows, until they are taken as a batch."""

    def __init__(self, path: str, contract: TableContract, batch_rows: int = BATCH_ROWS) -> None:
        self._path, self._batch_rows = path, batch_rows
        self.schema = text_schema(contract)
        self._has_added = ADDED in self.schema.names
        self._nothing = [None] * len(contract.columns)
        self._clear()

    def _clear(self) -> None:
        self._columns: list[list[Any]] = [[] for _ in self.schema]
        self._num_characters = 0

    @property
    def num_rows(self) -> int:
        """How many wait to be taken."""
        return len(self._columns[0])

    @property
    def is_full(self) -> bool:
        """Whether it is time to take them."""
        return self.num_rows >= self._batch_rows or self._num_characters > _BATCH_CHARACTERS

    def add(self, values: Sequence[str | None], num_characters: int, added: Mapping[str, str | None] | None = None) -> None:
        """A good row: the contract's columns in their order, about so long; and the columns that the contract does not have."""
        self._append(values, added, (None, None, None), num_characters)

    def add_broken(self, verdict: Verdict, record: str) -> None:
        """A row with what is wrong with it, and its text."""
        self._append(self._nothing, None, (*verdict, record), len(record))

    def take(self) -> pa.RecordBatch:
        """What was added since the last time."""
        batch = pa.record_batch(
            [pa.array(column, field.type) for column, field in zip(self._columns, self.schema, strict=True)], schema=self.schema
        )
        self._clear()
        return batch

    def _append(
        self,
        values: Sequence[str | None],
        added: Mapping[str, str | None] | None,
        rejects: tuple[str | None, ...],
        num_characters: int,
    ) -> None:
        self._num_characters += num_characters
        more = [list(added.items()) if added else None] if self._has_added else []
        for column, value in zip(self._columns, [*values, *more, self._path, *rejects], strict=True):
            column.append(value)
