"""bronze -> the rows of silver and what is rejected: typed, checked, cleaned, deduplicated, split."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace.contracts.spark import spark_type
from millrace.flows.context import Context
from millrace.flows.scope import Scope
from millrace.lake import ledger as books
from millrace.lake import log
from millrace.lake.layout import bronze, silver
from millrace.lake.read import read_version
from millrace.quality.rules import rules_of, tag
from millrace.transforms.cast import CAST_FAILED, cast_columns, raw_text
from millrace.transforms.deduplicate import alike, tag_duplicates, tag_superseded
from millrace.transforms.identity import with_row_id
from millrace.transforms.split import split_of

_FEW = 20
"""Rows that come to a table of this many times as many are few: they are compared with those that may be alike only."""


def tagged_rows(context: Context, attempt: books.Attempt, scope: Scope) -> DataFrame:
    """One row per bronze row of the scope: typed, with row_id and split.

    _rule, _reason, _action and _record are NULL for a row that is kept.
    """
    contract = context.contract
    raw = bronze_rows(context, attempt, scope)
    typed = cast_columns(raw.withColumn("_raw", raw_text(raw, contract=contract)), contract=contract)
    identified = with_row_id(typed, key=contract.key, content="_raw").withColumn(
        "split", split_of(typed.schema, context.config.split)
    )
    checked = tag(identified, rules_of(contract))
    checked = checked.withColumn("_record", F.when(F.col("_rule").isNotNull(), F.col("_raw"))).drop("_raw", CAST_FAILED)
    standing = standing_silver(context, attempt, scope)
    few = standing is not None and is_few(context, attempt, scope)
    order = list(contract.columns)
    if contract.upsert:
        known = alike(standing, checked, ["row_id"]) if standing is not None and few else standing
        checked = tag_superseded(checked, tie_break=order, standing=known)
    for rule, columns in drop_rules(context).items():
        known = alike(standing, checked, columns) if standing is not None and few else standing
        checked = tag_duplicates(checked, columns=columns, rule=rule, tie_break=order, standing=known)
    return checked


def bronze_rows(context: Context, attempt: books.Attempt, scope: Scope) -> DataFrame:
    """The raw rows of the scope's nights, with all columns of the contract: those that bronze is older than are NULL."""
    table = bronze(context.config.source.name)
    rows = read_version(context.spark(), context.lake, table, attempt.input_version(table))
    rows = rows.filter(F.col("_night").isin(list(scope.nights)))
    for name, column in context.contract.columns.items():
        if name not in rows.columns:
            rows = rows.withColumn(name, F.lit(None).cast(spark_type(column.data_type)))
    return rows


def drop_rules(context: Context) -> dict[str, list[str]]:
    """The rules that drop a row, and the columns in which it equals another."""
    contract = context.contract
    by_key = {"duplicate_key": list(contract.key)} if contract.key and not contract.upsert else {}
    return by_key | {
        f"drop_duplicates({', '.join(step.drop_duplicates)})": list(step.drop_duplicates) for step in context.config.clean
    }


def standing_silver(context: Context, attempt: books.Attempt, scope: Scope) -> DataFrame | None:
    """Silver's rows of the nights that stay as they are; a row that is there already stays."""
    table = silver(context.config.name)
    version = attempt.ledger.version_of(table)
    if scope.rebuild or version is None or not set(scope.seen) - set(scope.nights):
        return None
    return read_version(context.spark(), context.lake, table, version).filter(~F.col("_night").isin(list(scope.nights)))


def is_few(context: Context, attempt: books.Attempt, scope: Scope) -> bool:
    """Whether the scope has few rows beside those that stand."""
    came = bronze(context.config.source.name)
    version = attempt.input_version(came)
    assert version is not None and scope.standing is not None
    standing = sum((scope.standing.num_rows or {}).values())
    return log.num_rows(context.lake.path(came), version, scope.nights) * _FEW <= standing


def superseded_rows(context: Context, attempt: books.Attempt, scope: Scope, rows: DataFrame) -> DataFrame | None:
    """The rows of silver whose place is taken by `rows` that are kept; None where the contract does not ask for it."""
    standing = standing_silver(context, attempt, scope) if context.contract.upsert else None
    if standing is None:
        return None
    newer = rows.filter(F.col("_rule").isNull()).select("row_id", F.col("_night").alias("_newer_night"))
    return standing.join(newer, on="row_id", how="inner")
