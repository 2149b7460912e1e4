"""bronze -> the rows of silver and what is rejected: typed, checked, cleaned, deduplicated, split.

The order: types and rules of the contract, the first steps of `clean` as far as they look at one row alone, keys, `clean` up to
its first step that looks at the train split, the split, the rest of `clean`, then values that may stand once only. The label's
rule, those of references and the contract's again on what cleaning has changed come before keys, or behind `clean` where it
changes values after them. What may reject a row for itself comes that early because the row then takes no other's place: so
nights that are done again together keep what they have kept one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, takewhile

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from millrace.config.cleaning import CleanStep, changes_values, fills_forward, looks_at_other_rows
from millrace.config.models import NumberLabelConfig
from millrace.config.near_duplicates import NearDuplicatesConfig
from millrace.config.splitting import GivenSplit, KFoldSplit, TimeSplit
from millrace.contracts.spark import quoted, spark_type
from millrace.fit.statistics import Statistics
from millrace.flows.check import CONTENT, FOLD, uses_content
from millrace.flows.cleaning import fit_cleaning
from millrace.flows.context import Context
from millrace.flows.near_duplicates import Keep, drop_near_duplicates, standing_signatures
from millrace.flows.scope import Scope
from millrace.lake import ledger as books
from millrace.lake import log
from millrace.lake.layout import bronze, silver
from millrace.lake.read import read_version
from millrace.quality.across import across_rules, tag_values_twice, tag_without_partners
from millrace.quality.rules import Rule, rules_of, tag, value_rules
from millrace.transforms.cast import CAST_FAILED, added_text, cast_columns, raw_text
from millrace.transforms.cleaning import apply_fitted, apply_run, num_before_split, rules_of_clean, statistics_of
from millrace.transforms.deduplicate import DUPLICATE_KEY, SUPERSEDED, alike, tag_duplicates, tag_superseded
from millrace.transforms.encode import no_label
from millrace.transforms.identity import with_row_id
from millrace.transforms.near_duplicates import signatures
from millrace.transforms.split import UNKNOWN, fold_of, split_of, tag_without_split

TOOK_PLACE = "_took_place"
"""With `upsert`: whether a row was the newest of its key when keys were looked at. Where it is not kept in the end, it has taken
an older row's place all the same."""
_FEW = 20
"""Rows that come to a table of this many times as many are few: they are compared with those that may be alike only."""


class Rows:
    """Makes the rows of a scope, step by step."""

    def __init__(self, context: Context, attempt: books.Attempt, scope: Scope, keep: Keep) -> None:
        self._context, self._attempt, self._scope, self._keep = context, attempt, scope, keep
        self._standing = self._standing_rows()
        self._few = self._standing is not None and self._is_few()
        self._order = list(context.contract.columns)
        self.cleaning: Statistics | None = scope.standing.cleaning if scope.standing else None
        """What the steps of `clean` that look at the train split have taken from it."""
        self.signed: list[DataFrame] = []
        """For each step that drops near-duplicates the signatures of the rows that came to it."""

    def tagged(self) -> DataFrame:
        """One row per bronze row of the scope: the columns of silver; _rule, _reason, _action and _record, NULL for a row that is
        kept."""
        contract, steps = self._context.contract, self._context.config.clean
        first_fitted = num_before_split(steps)
        num_alone = len(steps_of_one_row(steps[:first_fitted]))
        rows = self._cleaned(self._checked(), steps[:num_alone])
        is_as_it_stays = not changes_values(steps[num_alone:])
        if is_as_it_stays:  # a row that is rejected for itself takes no other's place
            rows = self._judged(rows)
        rows = self._split(self._cleaned(self._with_keys(rows), steps[num_alone:first_fitted]))
        rows = self._fitted(rows, steps[first_fitted:])
        if not is_as_it_stays:
            rows = self._judged(rows)
        rows = tag_values_twice(rows, contract=contract, standing=self._standing)
        return rows.withColumn("_record", F.when(F.col("_action") == "quarantined", self._raw())).drop("_raw")

    def _judged(self, rows: DataFrame) -> DataFrame:
        """The same rows; those that break a rule by the values that `clean` has left are tagged."""
        contract = self._context.contract
        if changes_values(self._context.config.clean):
            rows = tag(rows, value_rules(contract))
        rows = tag(rows, label_rules(self._context))
        tables = {each.table: read_pinned(self._context, self._attempt, each.table) for each in contract.references}
        return tag_without_partners(rows, contract=contract, tables=tables)

    def _raw(self) -> Column:
        """The text that is kept of a row in quarantine."""
        return F.col("_raw")

    def _standing_rows(self) -> DataFrame | None:
        return standing_silver(self._context, self._attempt, self._scope)

    def _is_few(self) -> bool:
        return is_few(self._context, self._attempt, self._scope)

    def _typed(self) -> DataFrame:
        """One row per raw row of the scope: the contract's columns in its types, _raw, _source_file, _night, CAST_FAILED."""
        contract = self._context.contract
        raw = bronze_rows(self._context, self._attempt, self._scope)
        return cast_columns(raw.withColumn("_raw", raw_text(raw, contract=contract)), contract=contract)

    def _by_contract(self, rows: DataFrame) -> DataFrame:
        """The same rows; those that break a rule of the contract are tagged."""
        return tag(rows, rules_of(self._context.contract)).drop(CAST_FAILED)

    def _checked(self) -> DataFrame:
        contract, typed = self._context.contract, self._typed()
        if uses_content(self._context.config):
            typed = typed.withColumn(CONTENT, F.sha2("_raw", 256))
        checked = self._by_contract(with_row_id(typed, key=contract.key, content="_raw"))
        if may_be_quarantined_later(self._context):
            return checked
        # the text of a row that breaks no rule now, often most of the row, need not travel on
        return checked.withColumn("_raw", F.when(F.col("_rule").isNotNull(), F.col("_raw")))

    def _with_keys(self, rows: DataFrame) -> DataFrame:
        contract = self._context.contract
        if contract.upsert:
            rows = self._kept_if_few(rows)
            rows = tag_superseded(rows, tie_break=self._order, standing=self._alike(rows, ["row_id"]))
            return rows.withColumn(TOOK_PLACE, F.col("_rule").isNull())
        if contract.key:
            return self._without_duplicates(rows, DUPLICATE_KEY, ["row_id"], named=contract.key)
        return rows

    def _cleaned(self, rows: DataFrame, steps: Sequence[CleanStep]) -> DataFrame:
        for looks_around, run in groupby(steps, key=looks_at_other_rows):
            if not looks_around:
                rows = apply_run(rows, list(run), tie_break=self._order, older=self._standing)
                continue
            for step in run:
                if isinstance(step.options, NearDuplicatesConfig):
                    rows = self._without_near_duplicates(rows, step.options)
                else:
                    (rule,) = rules_of_clean(step)
                    rows = self._without_duplicates(rows, rule, step.drop_duplicates)
        return rows

    def _split(self, rows: DataFrame) -> DataFrame:
        config = self._context.config.split
        if isinstance(config, KFoldSplit):
            rows = rows.withColumn(FOLD, fold_of(rows.schema, config))
        return tag_without_split(rows.withColumn("split", split_of(rows.schema, config)))

    def _fitted(self, rows: DataFrame, steps: Sequence[CleanStep]) -> DataFrame:
        if not steps:
            return rows
        if self.cleaning is None:
            rows = self._keep(rows)
        self.cleaning, figures = fit_cleaning(rows, steps, self.cleaning)
        for step in steps:
            if statistics_of(step):
                rows = apply_fitted(rows, step, figures)
            else:
                rows = apply_run(rows, [step], tie_break=self._order, older=self._standing)
        return rows

    def _without_duplicates(self, rows: DataFrame, rule: str, columns: Sequence[str], named: Sequence[str] = ()) -> DataFrame:
        rows = self._kept_if_few(rows)
        known = self._without_those_of(rows, self._alike(rows, columns))
        return tag_duplicates(rows, columns=columns, rule=rule, tie_break=self._order, standing=known, named=named)

    def _without_near_duplicates(self, rows: DataFrame, config: NearDuplicatesConfig) -> DataFrame:
        rows = self._keep(rows)
        signed = self._keep(signatures(rows, config=config))
        standing = None
        if self._standing is not None:
            signed_before = standing_signatures(self._context, self._attempt, self._scope, number=len(self.signed))
            standing = self._without_those_of(rows, signed_before)
        self.signed.append(signed)
        return drop_near_duplicates(
            rows,
            config=config,
            signed=signed,
            keep=self._keep,
            standing=standing,
            few=self._few,
            by_night=len(self._scope.nights) > 1,
        )

    def _without_those_of(self, rows: DataFrame, standing: DataFrame | None) -> DataFrame | None:
        """With `upsert` what stands without the rows whose place `rows` take: a row is not compared with these."""
        if standing is None or not self._context.contract.upsert:
            return standing
        newer = rows.filter(F.col("_rule").isNull()).select("row_id")
        return standing.join(F.broadcast(newer) if self._few else newer, on="row_id", how="left_anti")

    def _kept_if_few(self, rows: DataFrame) -> DataFrame:
        """Few rows are looked up in many: what was done to them so far is then planned and done once, not again for each look."""
        return self._keep(rows) if self._few else rows

    def _alike(self, rows: DataFrame, columns: Sequence[str]) -> DataFrame | None:
        if self._standing is None or not self._few:
            return self._standing
        return alike(self._standing, rows, columns)


def steps_of_one_row(steps: Sequence[CleanStep]) -> list[CleanStep]:
    """The first steps, up to one that looks at other rows: what they do to a row depends on it alone."""
    return list(takewhile(lambda step: not (statistics_of(step) or looks_at_other_rows(step) or fills_forward(step)), steps))


def may_be_quarantined_later(context: Context) -> bool:
    """Whether a row that has broken no rule of the contract may still be quarantined, and be stored with its raw text."""
    contract, config = context.contract, context.config
    by_itself = changes_values(config.clean) or label_rules(context) or isinstance(config.split, TimeSplit | GivenSplit)
    return bool(by_itself or across_rules(contract))


def bronze_rows(context: Context, attempt: books.Attempt, scope: Scope) -> DataFrame:
    """The raw rows of the scope's nights, with all columns of the contract: those that bronze is older than are texts out of the
    map of added columns, or NULL."""
    rows = read_pinned(context, attempt, bronze(context.config.source.name)).filter(F.col("_night").isin(list(scope.nights)))
    for name, column in context.contract.columns.items():
        known = dict(rows.dtypes)
        kept = added_text(rows, name, column)
        if name not in known:
            rows = rows.withColumn(name, F.lit(None).cast(spark_type(column.data_type)) if kept is None else F.expr(kept))
        elif kept is not None and known[name] == "string":
            rows = rows.withColumn(name, F.coalesce(name, F.expr(kept)))
    return rows


def read_pinned(context: Context, attempt: books.Attempt, table: str) -> DataFrame:
    """A table at the version that the step has pinned."""
    return read_version(context.spark(), context.lake, table, attempt.input_version(table))


def label_rules(context: Context) -> tuple[Rule, ...]:
    """A row without a number or a class to predict is of no use. (Which classes there are is known only when they have been
    counted.)"""
    label = context.config.label
    if label is None:
        return ()
    column = quoted(label.column)
    condition = f"{column} IS NOT NULL"
    if isinstance(label, NumberLabelConfig):
        condition += f" AND NOT isnan({column})"
    elif not context.silver.columns[label.column].nullable:  # the contract says so already
        return ()
    return (Rule(no_label(label.column), label.column, condition, "the label has no value"),)


def drop_rules(context: Context) -> list[str]:
    """The rules that may take a row after those of the contract, in their order."""
    contract, config = context.contract, context.config
    keys = [SUPERSEDED] if contract.upsert else [DUPLICATE_KEY] if contract.key else []
    num_alone = len(steps_of_one_row(config.clean))
    alone, later = (
        [rule for step in steps for rule in rules_of_clean(step)]
        for steps in (config.clean[:num_alone], config.clean[num_alone:])
    )
    return [*alone, *keys, *later, *([UNKNOWN] if isinstance(config.split, TimeSplit | GivenSplit) else [])]


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
    return log.num_rows(context.lake.path(came), version, scope.nights) * _FEW <= scope.standing.num_silver_rows


def superseded_rows(context: Context, attempt: books.Attempt, scope: Scope, rows: DataFrame) -> DataFrame | None:
    """The rows of silver whose place is taken by `rows`, and as _by_kept whether by one that is kept; None where the contract
    does not ask for it."""
    standing = standing_silver(context, attempt, scope) if context.contract.upsert else None
    if standing is None:
        return None
    newer = rows.filter(TOOK_PLACE).select(
        "row_id", F.col("_night").alias("_newer_night"), F.col("_rule").isNull().alias("_by_kept")
    )
    return standing.join(newer, on="row_id", how="inner")
