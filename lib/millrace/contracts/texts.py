"""Rows that are partly typed when they are read: numbers where every value is one, else their texts beside them."""

from __future__ import annotations

from millrace.contracts.table import ColumnContract, TableContract
from millrace.contracts.types import FLOATS, INTEGERS

TEXTS = "_texts"
"""The column with the texts of `typed_columns`, in their order, of a row that came as text; NULL where it came typed."""


def comes_typed(column: ColumnContract) -> bool:
    """Whether a column's values may come in its type."""
    return column.type in (*INTEGERS, *FLOATS)


def typed_columns(contract: TableContract) -> list[str]:
    """The columns whose values may come in their type."""
    return [name for name, column in contract.columns.items() if comes_typed(column)]


def rules_met_by_typed(contract: TableContract) -> frozenset[str]:
    """The rules that a row meets which came typed: it was looked at when it was read."""
    met = {f"{name}_is_null" for name in contract.columns}
    for name in typed_columns(contract):
        met |= {f"{name}_is_no_{contract.columns[name].type}", f"{name}_out_of_range"}
    met |= {f"{name}_is_no_string" for name, column in contract.columns.items() if column.type == "string"}
    return frozenset(met)
