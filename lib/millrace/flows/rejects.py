"""What a step did not keep: counted by rule, stored with its reason, held against the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace.flows.context import Context
from millrace.lake import log, small
from millrace.lake.layout import DATA_QUALITY
from millrace.lake.ledger import Attempt, Counts, TableVersion
from millrace.lake.write import write_nights
from millrace.quality import budget

QUARANTINE_COLUMNS = ("row_id", "record", "source_file", "stage", "rule", "reason", "action", "run_id", "_night")


@dataclass(frozen=True)
class Tally:
    """Rows in, and of those that were not kept how many each rule took."""

    num_rows_in: int
    quarantined: Mapping[str, int]
    dropped: Mapping[str, int]

    def counts(self) -> Counts:
        """For the ledger."""
        quarantined, dropped = sum(self.quarantined.values()), sum(self.dropped.values())
        return Counts(self.num_rows_in, self.num_rows_in - quarantined - dropped, quarantined, dropped)

    def and_quarantined(self, rule: str, num_rows: int) -> Tally:
        """The same, with more rows in quarantine."""
        if not num_rows:
            return self
        return Tally(self.num_rows_in, {**self.quarantined, rule: self.quarantined.get(rule, 0) + num_rows}, self.dropped)


def count(rows: DataFrame) -> Tally:
    """Counts rows by _rule and, where there is one, _action."""
    action = F.col("_action") if "_action" in rows.columns else F.when(F.col("_rule").isNotNull(), F.lit("quarantined"))
    found = rows.groupBy("_rule", action.alias("_action")).count().collect()
    by_action: dict[str, dict[str, int]] = {"quarantined": {}, "dropped": {}}
    for row in found:
        if row["_rule"] is not None:
            by_action[row["_action"]][row["_rule"]] = row["count"]
    return Tally(sum(row["count"] for row in found), by_action["quarantined"], by_action["dropped"])


def as_quarantine(rows: DataFrame, attempt: Attempt, *, stage: str | None = None) -> DataFrame:
    """One row per row that was not kept, in the columns of quarantine/. `stage` is the step where none is named."""
    night = F.col("_night") if "_night" in rows.columns else F.lit(attempt.run.night)
    return rows.filter(F.col("_rule").isNotNull()).select(
        "row_id",
        F.when(F.col("_action") == "quarantined", F.col("_record")).alias("record"),
        F.col("_source_file").alias("source_file"),
        F.lit(stage or attempt.step).alias("stage"),
        F.col("_rule").alias("rule"),
        F.col("_reason").alias("reason"),
        F.col("_action").alias("action"),
        F.lit(attempt.run.run_id).alias("run_id"),
        night.alias("_night"),
    )


def write(
    attempt: Attempt,
    table: str,
    rejected: DataFrame,
    nights: Sequence[str],
    tally: Tally,
    *,
    rebuild: bool = False,
    has_more: bool = False,
) -> tuple[TableVersion, ...]:
    """Replaces the rejects of `nights`. Nothing is written where there are none (but `has_more`) and the table has none."""
    uri, standing = attempt.lake.path(table), attempt.ledger.version_of(table)
    newest = log.latest_version(uri)
    if not has_more and not tally.quarantined and not tally.dropped and newest == standing:
        if standing is None:
            return ()
        known = log.nights_of(uri, standing)
        if not (known if rebuild else known & set(nights)):
            return (TableVersion(table, standing),)
    return (write_nights(attempt, table, rejected.repartition(1), nights, rebuild=rebuild),)


def check_budget(context: Context, attempt: Attempt, tally: Tally) -> None:
    """Raises QualityError where too much was quarantined."""
    budget.check_budget(
        attempt.step,
        num_rows_in=tally.num_rows_in,
        num_rows_quarantined=sum(tally.quarantined.values()),
        max_reject_ratio=context.config.quality.max_reject_ratio,
        where=f"`millrace quarantine {context.config.name} --night {context.run.night} --lake {context.lake.uri}`",
    )


def quality_rows(
    attempt: Attempt,
    written: TableVersion,
    tally: Tally,
    *,
    known: Sequence[str],
    columns: Mapping[str, str | None] | None = None,
    files: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """One row per rule for metrics/data_quality, also for rules that nothing broke. `files`: how many broke rules of files."""
    failed = {**tally.quarantined, **tally.dropped, **(files or {})}
    return [
        {
            "pipeline": attempt.run.pipeline,
            "run_id": attempt.run.run_id,
            "_night": attempt.run.night,
            "stage": attempt.step,
            "table": written.table,
            "version": written.version,
            "column": (columns or {}).get(rule),
            "rule": rule,
            "num_checked": len(attempt.inputs.files) if rule in (files or {}) else tally.num_rows_in,
            "num_failed": failed.get(rule, 0),
        }
        for rule in dict.fromkeys([*known, *failed])
    ]


def write_data_quality(attempt: Attempt, rows: Sequence[dict[str, Any]]) -> TableVersion:
    """Replaces what the step has said of quality."""
    where = {"run_id": attempt.run.run_id, "stage": attempt.step}
    return TableVersion(DATA_QUALITY, small.replace(attempt.lake, DATA_QUALITY, rows, where=where, metadata=attempt.mark))
