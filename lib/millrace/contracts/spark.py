"""What a contract means to Spark and Delta."""

from __future__ import annotations

from pyspark.sql import types as T

from millrace.contracts.limits import range_condition
from millrace.contracts.table import ColumnContract, TableContract
from millrace.contracts.types import DataType

CAST_FAILED = "_cast_failed"
"""The column with the names of the columns whose text was no value of their type: transforms fill it, quality rules read it."""

BEGIN, END = "\\A", "\\z"
"""Of a whole text, in Java: $ would also match before a line's end."""

_YEAR = "(?!0000)[0-9]{4}"
"""SQL's: Python, and what reads Delta tables by it, has no others."""
_DATE = rf"\A\s*{_YEAR}(-[0-9]{{1,2}}(-[0-9]{{1,2}}([ T]00:00(:00([.]0+)?)?(Z|[+-]00:?00)?)?)?)?\s*\z"
"""A date, also at midnight."""

_SPARK: dict[str, type[T.DataType]] = {
    "boolean": T.BooleanType,
    "tinyint": T.ByteType,
    "smallint": T.ShortType,
    "int": T.IntegerType,
    "bigint": T.LongType,
    "float": T.FloatType,
    "double": T.DoubleType,
    "string": T.StringType,
    "binary": T.BinaryType,
    "date": T.DateType,
    "timestamp": T.TimestampType,
}


def spark_type(kind: DataType) -> T.DataType:
    """The Spark type of a contract's type."""
    if kind.kind == "array":
        return T.ArrayType(spark_type(kind.inner[0]))
    if kind.kind == "map":
        return T.MapType(spark_type(kind.inner[0]), spark_type(kind.inner[1]))
    if kind.kind == "struct":
        return T.StructType([T.StructField(name, spark_type(inner)) for name, inner in zip(kind.names, kind.inner, strict=True)])
    return _SPARK[kind.kind]()


def struct_type(contract: TableContract) -> T.StructType:
    """The table's Spark schema."""
    return T.StructType(
        [T.StructField(name, spark_type(column.data_type), column.nullable) for name, column in contract.columns.items()]
    )


def column_conditions(name: str, column: ColumnContract, value: str | None = None) -> dict[str, str]:
    """Rule name -> SQL condition that every row of the column meets; `value`: the column in SQL where that is not its name.

    Where NULL is allowed the condition says so: Delta's CHECK, unlike standard SQL's, refuses a row for which it is NULL.
    """
    value = value or quoted(name)
    conditions = {}
    if not column.nullable:
        conditions[f"{name}_is_null"] = f"{value} IS NOT NULL"
    if column.range is not None:
        conditions[f"{name}_out_of_range"] = range_condition(value, column.type, *column.range)
    if column.one_of is not None:
        conditions[f"{name}_not_in_set"] = f"{value} IN ({', '.join(sql_literal(each) for each in column.one_of)})"
    if column.min_length is not None:
        conditions[f"{name}_too_short"] = f"length({value}) >= {column.min_length}"
    if column.max_length is not None:
        conditions[f"{name}_too_long"] = f"length({value}) <= {column.max_length}"
    if column.pattern is not None:  # after the lengths: Java matches long texts by recursion
        conditions[f"{name}_not_like_pattern"] = f"{value} RLIKE {sql_literal(f'{BEGIN}(?:{column.pattern}){END}')}"
    if column.tensor is not None:
        conditions[f"{name}_wrong_size"] = f"octet_length({value}) = {column.tensor.num_bytes}"
    if column.nullable:  # AND binds closer than OR
        return {rule: f"{value} IS NULL OR {condition}" for rule, condition in conditions.items()}
    return conditions


def from_text(text: str, kind: str) -> str:
    """In SQL the value of a text in one of the simple types, NULL where it is none: as Spark casts, but for what it takes for
    dates and timestamps besides: a time alone (for today's), other years than 1 to 9999, whatever stands behind a date.
    """
    if kind == "string":
        return text
    trimmed = f"trim({text})"
    value = f"try_cast({trimmed} AS {kind})"
    # A regular expression takes longer than the cast: it comes last.
    has_year = f"substr({trimmed}, 5, 1) IN ('-', '') AND NOT startswith({trimmed}, '0000')"
    if kind == "timestamp":
        return f"CASE WHEN {has_year} AND NOT contains(substr({trimmed}, 1, 4), ':') THEN {value} END"
    if kind == "date":
        is_alone = f"NOT contains({trimmed}, ' ') AND NOT contains({trimmed}, 'T')"
        return f"CASE WHEN {has_year} AND ({is_alone} OR {trimmed} RLIKE {sql_literal(_DATE)}) THEN {value} END"
    return value


def quoted(name: str) -> str:
    """A column's name in SQL; names of contracts have no backtick."""
    return f"`{name}`"


def sql_literal(value: object) -> str:
    """A text, number or boolean in SQL."""
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    return str(value).upper() if isinstance(value, bool) else repr(value)
