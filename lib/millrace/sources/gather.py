"""Rows that a reader makes one by one, gathered into Arrow batches of texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from millrace.contracts.table import TableContract
from millrace.sources.reader import REJECTS

Verdict = tuple[str, str]
"""A rule that is broken, and the reason for people."""
BATCH_ROWS = 10_000
_BATCH_CHARACTERS = 16 * 1024**2


def text_schema(contract: TableContract) -> pa.Schema:
    """The contract's columns as text, the file, and of a broken row rule, reason and text."""
    names = [*contract.columns, "_source_file", *REJECTS]
    return pa.schema([pa.field(name, pa.string()) for name in names])


class Gatherer:
    """Columns of one file's rows, until they are taken as a batch."""

    def __init__(self, path: str, contract: TableContract, batch_rows: int = BATCH_ROWS) -> None:
        self._path, self._batch_rows = path, batch_rows
        self._schema, self._nothing = text_schema(contract), [None] * len(contract.columns)
        self._clear()

    def _clear(self) -> None:
        self._columns: list[list[str | None]] = [[] for _ in self._schema]
        self._num_characters = 0

    @property
    def num_rows(self) -> int:
        """How many wait to be taken."""
        return len(self._columns[0])

    @property
    def is_full(self) -> bool:
        """Whether it is time to take them."""
        return self.num_rows >= self._batch_rows or self._num_characters > _BATCH_CHARACTERS

    def add(self, values: Iterable[str | None], num_characters: int) -> None:
        """A good row: the contract's columns in their order, about so long."""
        self._append([*values, self._path, None, None, None], num_characters)

    def add_broken(self, verdict: Verdict, record: str) -> None:
        """A row with what is wrong with it, and its text."""
        self._append([*self._nothing, self._path, *verdict, record], len(record))

    def take(self) -> pa.RecordBatch:
        """What was added since the last time."""
        batch = pa.record_batch([pa.array(column, pa.string()) for column in self._columns], schema=self._schema)
        self._clear()
        return batch

    def _append(self, values: Sequence[str | None], num_characters: int) -> None:
        self._num_characters += num_characters
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)
