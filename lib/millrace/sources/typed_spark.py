"""A DataFrame with typed columns (a Delta table's, a database's), matched to a contract.

Names are compared without case, as Spark and most databases do, and come out as the contract writes them.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from millrace.contracts.evolution import ADDED, OF_TABLE, reconcile, reconcile_schema
from millrace.contracts.spark import from_text, quoted, spark_type
from millrace.contracts.table import TableContract


def renamed(names: Sequence[str], contract: TableContract) -> list[str]:
    """A table's names as the contract writes them."""
    by_case = {name.lower(): name for name in contract.columns}
    return [by_case.get(name.lower(), name) for name in names]


def matched(rows: DataFrame, contract: TableContract, address: str, *, by_value: bool) -> DataFrame:
    """One row per row: the contract's columns in its types, _source_file, _rule, _reason, _record; _added where it evolves.

    `by_value`: whether a column of another type is read value by value, or treated as the contract's evolution says of columns.
    Raises ContractError where that refuses them.
    """
    rows = rows.toDF(*renamed(rows.columns, contract))
    names = rows.columns
    if by_value:
        verdict = reconcile(contract, names, where=address, place=OF_TABLE)
    else:
        verdict = reconcile_schema(contract, to_arrow_schema(rows.schema), where=address)
    values: dict[str, Column] = {}
    unfit: list[Column] = []
    for name, column in contract.columns.items():
        wanted = spark_type(column.data_type)
        if verdict.rule is not None or name in verdict.missing:
            values[name] = F.lit(None).cast(wanted)
            continue
        stored = rows.schema[name].dataType
        values[name], wrong = _fit(rows, name, stored, wanted)
        if wrong is not None:
            why = f"{name} is {stored.simpleString()} there, and its value is no {column.type}"
            unfit.append(F.when(wrong, F.lit(why)))
    if verdict.rule is not None:
        rule, reason = F.lit(verdict.rule), F.lit(verdict.reason)
    else:
        reason = F.coalesce(*unfit) if unfit else F.lit(None).cast("string")
        rule = F.when(reason.isNotNull(), F.lit("column_retyped"))
    record = F.when(rule.isNotNull(), F.make_valid_utf8(F.to_json(F.struct(*[F.col(quoted(name)) for name in names]))))
    return rows.select(
        *[value.alias(name) for name, value in values.items()],
        *([_added(rows, verdict.added).alias(ADDED)] if contract.evolution.added == "evolve" else []),
        F.lit(address).alias("_source_file"),
        rule.alias("_rule"),
        reason.alias("_reason"),
        record.alias("_record"),
    )


def _added(rows: DataFrame, names: Sequence[str]) -> Column:
    if not names:
        return F.lit(None).cast("map<string,string>")
    kinds = {name: rows.schema[name].dataType for name in names}
    texts = [
        F.base64(quoted(name)) if isinstance(kinds[name], T.BinaryType) else F.col(quoted(name)).cast("string") for name in names
    ]
    return F.create_map(*[part for name, text in zip(names, texts, strict=True) for part in (F.lit(name), text)])


def _fit(rows: DataFrame, name: str, stored: T.DataType, wanted: T.DataType) -> tuple[Column, Column | None]:
    """The column in the wanted type, and where its value is none of it (None: nowhere)."""
    column = F.col(name)
    if stored == wanted:
        return column, _strange(column, wanted)
    nothing = F.lit(None).cast(wanted)
    is_float = isinstance(stored, T.FloatType | T.DoubleType)
    if is_float and isinstance(wanted, T.StringType):  # a float's text differs between versions
        return nothing, column.isNotNull()
    is_text = isinstance(stored, T.StringType) and not isinstance(wanted, T.BinaryType)
    value = F.expr(from_text(quoted(name), wanted.simpleString())) if is_text else column.try_cast(wanted)
    wrong = column.isNotNull() & value.isNull()
    exact = isinstance(wanted, T.IntegralType | T.BooleanType | T.DateType) and not isinstance(stored, T.StringType)
    if exact:
        wrong = wrong | F.coalesce(value.try_cast(stored) != column, F.lit(False))
    if isinstance(wanted, T.FloatType) and isinstance(stored, T.DoubleType):
        largest = F.lit(3.4028234663852886e38)
        wrong = wrong | ((F.abs(column) > largest) & (F.abs(column) < F.lit(float("inf"))))
    strange = _strange(value, wanted)
    if strange is not None:
        wrong = wrong | F.coalesce(strange, F.lit(False))
    try:
        rows.select(value, wrong)
    except AnalysisException:  # no cast leads from the one to the other
        return nothing, column.isNotNull()
    return value, wrong


def _strange(value: Column, kind: T.DataType) -> Column | None:
    """Where a value is one that Spark has and others have not: a text that is no UTF-8, a year outside of SQL's."""
    if isinstance(kind, T.StringType):
        return ~F.is_valid_utf8(value)
    if isinstance(kind, T.DateType | T.TimestampType):
        return ~F.year(value).between(1, 9999)
    return None
