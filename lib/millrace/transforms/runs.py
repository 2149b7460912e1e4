"""Rows that belong together and lie behind one another, out of Arrow batches that cut anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

Key = tuple[Any, ...]


def runs(batches: Iterable[pa.RecordBatch], keys: Sequence[str]) -> Iterator[tuple[Key, pa.RecordBatch]]:
    """(key, rows) of neighbours with equal values in `keys`; a run that reaches into the next batch comes in parts.

    The rows must be sorted so that equal keys are neighbours. NULL equals NULL.
    """
    for batch in batches:
        values: list[Key] = list(zip(*[batch.column(name).to_pylist() for name in keys], strict=True)) or [()] * batch.num_rows
        first = 0
        for row in range(1, batch.num_rows + 1):
            if row == batch.num_rows or values[row] != values[first]:
                yield values[first], batch.slice(first, row - first)
                first = row
