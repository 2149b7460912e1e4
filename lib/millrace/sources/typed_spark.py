"""A DataFrame with typed columns (a Delta table's, a database's), matched to a contract as `typed_arrow` matches files.

Names are compared without case, as Spark and most databases do, and come out as the contract writes them.
"""

from __future__ import annotations

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from millrace.contracts.spark import spark_type
from millrace.contracts.table import TableContract
from millrace.sources.typed_arrow import RULES, check_names

__all__ = ["RULES", "matched"]


def matched(rows: DataFrame, contract: TableContract, address: str) -> DataFrame:
    """One row per row: the contract's columns in its types, _source_file, _rule, _reason, _record. Raises ContractError."""
    by_case = {name.lower(): name for name in contract.columns}
    names = [by_case.get(name.lower(), name) for name in rows.columns]
    check_names(contract, names, address)
    rows = rows.toDF(*names)
    values: dict[str, Column] = {}
    unfit: list[Column] = []
    for name, column in contract.columns.items():
        stored, wanted = rows.schema[name].dataType, spark_type(column.data_type)
        values[name], wrong = _fit(rows, name, stored, wanted)
        if wrong is not None:
            why = f"{name} is {stored.simpleString()} there, and its value is no {column.type}"
            unfit.append(F.when(wrong, F.lit(why)))
    added = [name for name in names if name not in contract.columns]
    rule: Column
    reason: Column
    if added:
        rule = F.lit("column_added")
        reason = F.lit(f"the table has columns that the contract does not have: {', '.join(added)}")
    else:
        reason = F.coalesce(*unfit) if unfit else F.lit(None).cast("string")
        rule = F.when(reason.isNotNull(), F.lit("column_retyped"))
    record = F.when(rule.isNotNull(), F.to_json(F.struct(*[F.col(f"`{name}`") for name in names])))
    return rows.select(
        *[value.alias(name) for name, value in values.items()],
        F.lit(address).alias("_source_file"),
        rule.alias("_rule"),
        reason.alias("_reason"),
        record.alias("_record"),
    )


def _fit(rows: DataFrame, name: str, stored: T.DataType, wanted: T.DataType) -> tuple[Column, Column | None]:
    """The column in the wanted type, and where its value is none of it (None: nowhere)."""
    column = F.col(name)
    if stored == wanted:
        return column, None
    nothing = F.lit(None).cast(wanted)
    is_float = isinstance(stored, T.FloatType | T.DoubleType)
    if is_float and isinstance(wanted, T.StringType):  # a float's text differs between versions
        return nothing, column.isNotNull()
    text = F.trim(column) if isinstance(stored, T.StringType) and not isinstance(wanted, T.BinaryType) else column
    value = text.try_cast(wanted)
    wrong = column.isNotNull() & value.isNull()
    exact = isinstance(wanted, T.IntegralType | T.BooleanType | T.DateType) and not isinstance(stored, T.StringType)
    if exact:
        wrong = wrong | F.coalesce(value.try_cast(stored) != column, F.lit(False))
    if isinstance(wanted, T.FloatType) and isinstance(stored, T.DoubleType):
        largest = F.lit(3.4028234663852886e38)
        wrong = wrong | ((F.abs(column) > largest) & (F.abs(column) < F.lit(float("inf"))))
    try:
        rows.select(value, wrong)
    except AnalysisException:  # no cast leads from the one to the other
        return nothing, column.isNotNull()
    return value, wrong
