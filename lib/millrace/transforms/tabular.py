"""Clean steps for columns of numbers and simple values. Rows that are tagged are passed over: they neither change nor count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from millrace.contracts.spark import from_text, quoted
from millrace.contracts.types import INTEGERS

WHITE_SPACE = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
)
"""What Python's str.strip takes away."""


def tag_dropped(rows: DataFrame, bad: Column, *, rule: str, reason: Column) -> DataFrame:
    """The same rows; those that have no tag and for which `bad` is true are tagged as dropped by `rule`."""
    is_new = F.col("_rule").isNull() & F.coalesce(bad, F.lit(False))
    return rows.withColumns(
        {
            "_rule": F.when(is_new, F.lit(rule)).otherwise(F.col("_rule")),
            "_reason": F.when(is_new, reason).otherwise(F.col("_reason")),
            "_action": F.when(is_new, F.lit("dropped")).otherwise(F.col("_action")),
        }
    )


def is_missing(rows: DataFrame, name: str) -> Column:
    """NULL, or NaN in a column of floats."""
    return F.col(name).isNull() | F.isnan(name) if _is_float(rows, name) else F.col(name).isNull()


def dropna(rows: DataFrame, *, columns: Sequence[str]) -> DataFrame:
    """Rows that miss one of the columns are dropped by rule dropna(COLUMN), the first that they miss."""
    for name in columns:
        rows = tag_dropped(rows, is_missing(rows, name), rule=f"dropna({name})", reason=F.lit(f"{name} is missing"))
    return rows


def fill_constant(rows: DataFrame, *, values: Mapping[str, Any]) -> DataFrame:
    """Gaps become the column's value. A float for a column of integers becomes the nearest one, halves to even."""
    return _where_kept(
        rows, {name: F.when(is_missing(rows, name), _literal(rows, name, value)) for name, value in values.items()}
    )


def coalesce(rows: DataFrame, *, columns: Sequence[str], into: str) -> DataFrame:
    """A column with the first value that one of the columns has; NULL where none has one."""
    value = F.coalesce(*[F.when(~is_missing(rows, name), F.col(name)) for name in columns])
    old = F.col(into) if into in rows.columns else F.lit(None)
    return rows.withColumn(into, F.when(F.col("_rule").isNull(), value).otherwise(old))


def cast_into(rows: DataFrame, *, column: str, type: str, into: str, drop_failed: bool = True) -> DataFrame:
    """A column with another's values in a type; without one it is NULL, or the row is dropped by cast(COLUMN)."""
    kind = rows.schema[column].dataType
    value = F.expr(from_text(quoted(column), type)) if isinstance(kind, T.StringType) else F.col(column).try_cast(type)
    if isinstance(kind, T.BinaryType):  # Spark takes any bytes for a text
        value = F.try_validate_utf8(value)
    if isinstance(kind, T.FractionalType) and type in INTEGERS:  # Spark cuts the fraction off
        value = F.when(value.cast(kind) == F.col(column), value)
    failed = F.col(column).isNotNull() & value.isNull()
    if drop_failed:
        rows = tag_dropped(rows, failed, rule=f"cast({column})", reason=F.lit(f"{column} is no {type}"))
    old = F.col(into) if into in rows.columns else F.lit(None)
    return rows.withColumn(into, F.when(F.col("_rule").isNull(), value).otherwise(old))


def trim(rows: DataFrame, *, columns: Sequence[str]) -> DataFrame:
    """Texts without white space at their ends."""
    return _where_kept(rows, {name: F.btrim(F.col(name), F.lit(WHITE_SPACE)) for name in columns})


def map_values(rows: DataFrame, *, column: str, values: Mapping[Any, Any], keep_others: bool = True) -> DataFrame:
    """Old values become new ones; others stay, or become NULL. NULL stays NULL."""
    pairs = [_literal(rows, column, value) for pair in values.items() for value in pair]
    table = F.create_map(*pairs)
    known = F.map_contains_key(table, F.col(column))
    new = F.when(F.col(column).isNotNull() & known, F.try_element_at(table, F.col(column)))
    kept = F.col("_rule").isNull()
    changed = F.when(known, new).otherwise(F.col(column) if keep_others else F.lit(None))
    return rows.withColumn(column, F.when(kept & F.col(column).isNotNull(), changed).otherwise(F.col(column)))


def clip(rows: DataFrame, *, bounds: Mapping[str, tuple[float | None, float | None]]) -> DataFrame:
    """Numbers below the low or above the high bound become the bound; None is no bound. NULL and NaN stay.

    Bounds of integers are taken inwards to the nearest integer.
    """
    clipped = {}
    for name, (low, high) in bounds.items():
        value = F.when(F.lit(False), F.col(name))
        if low is not None:
            value = value.when(F.col(name) < F.lit(low), _bound(rows, name, low, F.ceil))
        if high is not None:
            is_number = ~is_missing(rows, name)  # Spark takes NaN for greater than all numbers
            value = value.when(is_number & (F.col(name) > F.lit(high)), _bound(rows, name, high, F.floor))
        clipped[name] = value
    return _where_kept(rows, clipped)


def keep_where(rows: DataFrame, *, where: str, rule: str) -> DataFrame:
    """Rows for which the condition (Spark SQL) is false or NULL are dropped by the rule."""
    bad = ~F.coalesce(F.expr(where), F.lit(False))
    return tag_dropped(rows, bad, rule=rule, reason=F.lit(f"not: {where}"))


def drop_outside(rows: DataFrame, *, bounds: Mapping[str, tuple[float, float]]) -> DataFrame:
    """Rows with a number outside of its bounds are dropped by rule outliers(COLUMN); NULL and NaN are inside."""
    for name, (low, high) in bounds.items():
        number = F.col(name).cast("double")
        bad = ~is_missing(rows, name) & ((number < F.lit(low)) | (number > F.lit(high)))
        reason = F.format_string(f"{name} is %.6g, outside of {low:.6g} to {high:.6g}", number)
        rows = tag_dropped(rows, bad, rule=f"outliers({name})", reason=reason)
    return rows


def _where_kept(rows: DataFrame, values: Mapping[str, Column]) -> DataFrame:
    """New values for rows without a tag, where there is one; all else stays, also each column's type."""
    kept = F.col("_rule").isNull()
    return rows.withColumns(
        {name: F.when(kept, F.coalesce(value, F.col(name))).otherwise(F.col(name)) for name, value in values.items()}
    )


def _is_float(rows: DataFrame, name: str) -> bool:
    return isinstance(rows.schema[name].dataType, T.FractionalType)


def _literal(rows: DataFrame, name: str, value: Any) -> Column:
    kind = rows.schema[name].dataType
    if isinstance(kind, T.IntegralType) and isinstance(value, float):
        value = round(value)
    return F.lit(value).cast(kind)


def _bound(rows: DataFrame, name: str, bound: float, inwards: Any) -> Column:
    kind = rows.schema[name].dataType
    value = F.lit(bound)
    return (inwards(value) if isinstance(kind, T.IntegralType) else value).cast(kind)
