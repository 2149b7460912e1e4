"""Arrow's values as Python's."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def python_values(column: pa.Array) -> list[Any]:
    """One value per row; a row with a date or time that Python does not have is a text of it, as Arrow shows it."""
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        if len(column) > 1:
            return [value for row in range(len(column)) for value in python_values(column.slice(row, 1))]
        return [" ".join(column.to_string().split()).strip("[] ")]
