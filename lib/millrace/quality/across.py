"""Rules that a row breaks because of other rows: values that stand twice, and keys that another table does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StringType

from millrace.contracts.table import Reference, TableContract


def across_rules(contract: TableContract) -> dict[str, tuple[str, ...]]:
    """Rule name -> its columns, in the order in which they are applied: references, then what is unique."""
    return {reference.rule: reference.column for reference in contract.references} | contract.unique_rules


def tag_without_partners(rows: DataFrame, *, contract: TableContract, tables: Mapping[str, DataFrame]) -> DataFrame:
    """The same rows; those that break one of the contract's `references` are tagged as quarantined, rows with a tag are passed
    over. `tables` holds each table that the references name, at the version that the step pinned."""
    for reference in contract.references:
        rows = tag_missing_partner(rows, reference=reference, table=tables[reference.table])
    return rows


def tag_values_twice(rows: DataFrame, *, contract: TableContract, standing: DataFrame | None = None) -> DataFrame:
    """The same rows; those that break one of the contract's `unique_rules` are tagged as quarantined, rows with a tag are passed
    over.

    `standing` are silver's rows of the nights that stay. Applied after duplicates are dropped: two versions of one row are not
    two rows with one value. And after rows without a partner: none of them takes a value from a row that has one.
    """
    tie_break = list(contract.columns)
    same = list(contract.key or ()) if contract.upsert else []
    for rule, columns in contract.unique_rules.items():
        rows = tag_not_unique(rows, columns=columns, rule=rule, tie_break=tie_break, standing=standing, same_row=same)
    return rows


def tag_missing_partner(rows: DataFrame, *, reference: Reference, table: DataFrame) -> DataFrame:
    """The same rows; one whose columns are all there and equal no row's key in `table` is tagged as quarantined.

    A NULL among its columns names nothing and passes. Where `table` holds texts (bronze), its keys are read as the column's type.
    """
    kinds = {field.name: field.dataType for field in rows.schema.fields}
    named = [f"_named_{number}" for number in range(len(reference.column))]
    pairs = list(zip(named, reference.key, reference.column, strict=True))
    there = table.select(*[_as_kind(table, key, kinds[column]).alias(name) for name, key, column in pairs]).distinct()
    same = [F.col(column) == F.col(name) for name, _, column in pairs]
    joined = rows.join(there.withColumn("_there", F.lit(True)), on=same, how="left")
    broken = _is_whole(reference.column) & F.col("_there").isNull()
    reason = f"{', '.join(reference.column)} is no {', '.join(reference.key)} of {reference.table}"
    return _tag(joined, broken, reference.rule, reason).select(*rows.columns)


def tag_not_unique(
    rows: DataFrame,
    *,
    columns: Sequence[str],
    rule: str,
    tie_break: Sequence[str],
    standing: DataFrame | None = None,
    same_row: Sequence[str] = (),
) -> DataFrame:
    """The same rows; of those equal in `columns` all but the first are tagged as quarantined by `rule`.

    First is the earliest by (_night, _source_file, row_id), then by `tie_break`, so that no chance decides. A row that `standing`
    (rows of other nights) has the value of is not unique, unless it is that row: equal to it in the columns `same_row`, by which
    a newer night replaces it. NULL equals nothing.
    """
    takes_part = F.col("_rule").isNull() & _is_whole(columns)
    # Rows that take no part are spread by their own id: as one group they would be one task's.
    apart = F.when(~takes_part, F.concat(F.lit("-"), F.coalesce("row_id", F.lit(""))))
    order = Window.partitionBy(*columns, "_apart").orderBy("_night", "_source_file", "row_id", *tie_break)
    ranked = rows.withColumn("_apart", apart).withColumn("_later", F.row_number().over(order) > 1)
    broken = F.col("_later")
    if standing is not None:
        owner = F.struct(*[F.col(name) for name in same_row]) if same_row else F.lit(None)
        known = standing.filter(_is_whole(columns)).groupBy(*columns).agg(F.collect_set(owner).alias("_owners"))
        ranked = ranked.join(known, on=list(columns), how="left")
        taken = F.col("_owners").isNotNull()
        if same_row:
            mine = F.struct(*[F.col(name) for name in same_row])
            taken = taken & F.exists("_owners", lambda other: other != mine)
        broken = broken | taken
    reason = f"equal to another row in {', '.join(columns)}"
    return _tag(ranked, _is_whole(columns) & F.coalesce(broken, F.lit(False)), rule, reason).select(*rows.columns)


def _as_kind(table: DataFrame, name: str, kind: DataType) -> Column:
    if not isinstance(table.schema[name].dataType, StringType) or isinstance(kind, StringType):
        return F.col(name).try_cast(kind)
    return F.trim(F.col(name)).try_cast(kind)


def _is_whole(columns: Sequence[str]) -> Column:
    whole = F.lit(True)
    for name in columns:
        whole = whole & F.col(name).isNotNull()
    return whole


def _tag(rows: DataFrame, broken: Column, rule: str, reason: str) -> DataFrame:
    now = F.col("_rule").isNull() & broken
    return rows.withColumn("_now", now).withColumns(
        {
            "_rule": F.when(F.col("_now"), F.lit(rule)).otherwise(F.col("_rule")),
            "_reason": F.when(F.col("_now"), F.lit(reason)).otherwise(F.col("_reason")),
            "_action": F.when(F.col("_now"), F.lit("quarantined")).otherwise(F.col("_action")),
        }
    )
