"""bronze -> silver -> gold: typed, checked, deduplicated, split, encoded. Only nights that are new or have changed are done."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace import observe
from millrace.config.load import hash_of
from millrace.contracts.spark import column_conditions
from millrace.errors import LakeError, QualityError
from millrace.fit.state import FittedState, merge_classes
from millrace.flows import rejects
from millrace.flows.context import Context
from millrace.flows.ingest import cached
from millrace.lake import ledger as books
from millrace.lake import log, protocol
from millrace.lake.layout import bronze, gold, rejects_of_pipeline, silver
from millrace.lake.read import read_version
from millrace.lake.write import PLAIN, write_nights
from millrace.quality.rules import rules_of, tag
from millrace.transforms import encode as encoding
from millrace.transforms.cast import CAST_FAILED, cast_columns, raw_text
from millrace.transforms.deduplicate import tag_duplicates
from millrace.transforms.identity import with_row_id
from millrace.transforms.split import SPLITS, split_of

STEP = "preprocess"
_GOLD_FILE_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class Scope:
    """Which nights are done, and whether all that stands is made anew."""

    nights: tuple[str, ...]
    rebuild: bool
    seen: dict[str, str]
    standing: FittedState | None


def step(context: Context) -> protocol.Step:
    """The step as the ledger runs it."""
    return protocol.Step(
        name=STEP,
        lock=context.pipeline_lock,
        sections=sections(context),
        find_inputs=lambda ledger: find_bronze(context, ledger),
        work=lambda attempt: preprocess(context, attempt),
        stands=lambda ledger, entry: stands(context, ledger, entry),
        prepare=context.spark,
    )


def sections(context: Context) -> list[object]:
    """The parts of the config that decide which rows silver and gold have."""
    config = context.config
    return [
        config.name,
        config.source.name,
        context.contract,
        config.quality,
        config.clean,
        config.split,
        config.features,
        config.label,
    ]


def find_bronze(context: Context, ledger: books.Ledger) -> books.Inputs:
    """Bronze as the newest succeeded ingest left it. Raises LakeError where there is none."""
    table = bronze(context.config.source.name)
    version = ledger.version_of(table)
    if version is None:
        raise LakeError(STEP, expected=f"rows in {table}", found="none", remedy="Run jobs/ingest.py first.")
    return books.Inputs(tables=(books.TableVersion(table, version),))


def preprocess(context: Context, attempt: books.Attempt) -> books.Outcome:
    """Brings silver, gold and quarantine up to the pinned version of bronze."""
    scope = find_scope(context, attempt)
    if not scope.nights and scope.standing is not None:
        return leave_standing(context, attempt, scope.standing)
    outcome = preprocess_scope(context, attempt, scope)
    if outcome is None:  # a class has come: rows of other nights that were rejected for it have to be looked at again
        outcome = preprocess_scope(context, attempt, everything(scope.seen))
    assert outcome is not None
    return outcome


def leave_standing(context: Context, attempt: books.Attempt, state: FittedState) -> books.Outcome:
    """Nothing in bronze is new or has changed: silver and gold stay the versions that they are."""
    state.save(context.lake, context.config.name, context.run.run_id, attempt.step_key)
    tables = [silver(context.config.name), gold(context.config.name), rejects_of_pipeline(context.config.name)]
    versions = [(table, attempt.ledger.version_of(table)) for table in tables]
    return books.Outcome(tuple(books.TableVersion(table, version) for table, version in versions if version is not None))


def preprocess_scope(context: Context, attempt: books.Attempt, scope: Scope) -> books.Outcome | None:
    """Does the nights of a scope; None, and nothing written, where a class has come that the standing state does not have."""
    with cached(tagged_rows(context, attempt, scope)) as tagged:
        tally = rejects.count(tagged)
        unseen = classes_and_unseen(context, scope, tagged)
        if scope.standing is not None and scope.standing.classes != unseen.classes:
            return None
        tally = tally.and_quarantined(f"{label_of(context)}_unseen_in_train", unseen.num_rows)
        rows = unseen.tag(tagged)
        rejected = rejects.as_quarantine(rows, attempt)
        where = rejects.write(
            attempt, rejects_of_pipeline(context.config.name), rejected, scope.nights, tally, rebuild=scope.rebuild
        )
        rejects.check_budget(context, attempt, tally)
        written_silver = write_silver(context, attempt, scope, rows)
    state = FittedState(hash_of(sections(context)), scope.seen, unseen.classes)
    written_gold, num_rows = write_gold(context, attempt, scope, state, written_silver)
    FittedState(state.sections_hash, state.nights, state.classes, num_rows).save(
        context.lake, context.config.name, context.run.run_id, attempt.step_key
    )
    known = {rule.name: rule.column for rule in rules_of(context.contract)}
    rejects.write_data_quality(attempt, written_silver, tally, known=[*known, *drop_rules(context)], columns=known)
    return books.Outcome(outputs=(written_silver, written_gold, *where), counts=tally.counts())


def find_scope(context: Context, attempt: books.Attempt) -> Scope:
    """The nights of bronze that are not in silver as they are now; all of them where what decides about rows has changed."""
    table = bronze(context.config.source.name)
    seen = night_files(context.lake.path(table), attempt.input_version(table))
    standing = standing_state(context, attempt.ledger)
    if standing is None or standing.sections_hash != hash_of(sections(context)):
        return everything(seen)
    changed = {night for night in {*seen, *standing.nights} if seen.get(night) != standing.nights.get(night)}
    if context.force:
        changed |= {context.run.night} & set(seen)
    if changed & set(standing.nights):
        # Rows that other nights had dropped as equal to rows of a night that changes may have to come back.
        return everything(seen)
    return Scope(tuple(sorted(changed)), False, seen, standing)


def everything(seen: dict[str, str]) -> Scope:
    """All nights, made anew."""
    return Scope(tuple(sorted(seen)), True, seen, None)


def stands(context: Context, ledger: books.Ledger, entry: books.Entry) -> bool:
    """Whether silver and gold are still what an entry has made."""
    tables = (silver(context.config.name), gold(context.config.name))
    return all(entry.output(table) == ledger.version_of(table) for table in tables)


def night_files(uri: str, version: int | None) -> dict[str, str]:
    """For each night of bronze the hash of the names of its files: it changes when the night is ingested again."""
    actions = pa.table(log.open_table(uri, version).get_add_actions(flatten=True))
    by_night: dict[str, list[str]] = {}
    for path, night, rows in zip(
        *(actions.column(name).to_pylist() for name in ("path", "min._night", "num_records")), strict=True
    ):
        if rows:
            by_night.setdefault(night, []).append(path)
    return {night: hash_of(sorted(paths)) for night, paths in sorted(by_night.items())}


def standing_state(context: Context, ledger: books.Ledger) -> FittedState | None:
    """The state of the newest succeeded preprocess of this pipeline."""
    for entry in reversed(ledger.entries):
        if entry.step == STEP and entry.status == "succeeded" and entry.output(gold(context.config.name)) is not None:
            return FittedState.load(context.lake, entry.run.pipeline, entry.run.run_id, entry.step_key)
    return None


def tagged_rows(context: Context, attempt: books.Attempt, scope: Scope) -> DataFrame:
    """One row per bronze row of the scope: typed, with row_id and split.

    _rule, _reason, _action and _record are NULL for a row that is kept.
    """
    contract, table = context.contract, bronze(context.config.source.name)
    raw = read_version(context.spark(), context.lake, table, attempt.input_version(table)).filter(
        F.col("_night").isin(list(scope.nights))
    )
    typed = cast_columns(raw.withColumn("_raw", raw_text(raw, contract=contract)), contract=contract)
    identified = with_row_id(typed, key=contract.key, content="_raw").withColumn(
        "split", split_of(typed.schema, context.config.split)
    )
    checked = tag(identified, rules_of(contract))
    checked = checked.withColumn("_record", F.when(F.col("_rule").isNotNull(), F.col("_raw"))).drop("_raw", CAST_FAILED)
    standing = standing_silver(context, attempt, scope)
    for rule, columns in drop_rules(context).items():
        checked = tag_duplicates(checked, columns=columns, rule=rule, tie_break=list(contract.columns), standing=standing)
    return checked


def drop_rules(context: Context) -> dict[str, list[str]]:
    """The rules that drop a row, and the columns in which it equals another."""
    by_key = {"duplicate_key": list(context.contract.key)} if context.contract.key else {}
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


@dataclass(frozen=True)
class Unseen:
    """The classes of the label, and the rows whose class the train split does not have."""

    classes: tuple[str, ...] = ()
    label: str | None = None
    num_rows: int = 0

    def tag(self, rows: DataFrame) -> DataFrame:
        """The same rows, with those rows tagged."""
        if not self.num_rows or self.label is None:
            return rows
        unseen = F.col("_rule").isNull() & encoding.class_index(self.label, self.classes).isNull()
        return rows.withColumns(
            {
                "_rule": F.when(unseen, F.lit(f"{self.label}_unseen_in_train")).otherwise(F.col("_rule")),
                "_reason": F.when(unseen, F.lit("no row of the train split has this label")).otherwise(F.col("_reason")),
                "_action": F.when(unseen, F.lit("quarantined")).otherwise(F.col("_action")),
                "_record": F.when(unseen, F.to_json(F.struct("row_id", self.label))).otherwise(F.col("_record")),
            }
        )


def label_of(context: Context) -> str:
    """The name of the label's column, for rules."""
    return context.config.label.column if context.config.label else "label"


def classes_and_unseen(context: Context, scope: Scope, rows: DataFrame) -> Unseen:
    """Fits the label's classes on the train split and counts the rows of other classes.

    Raises QualityError where the train split has no row.
    """
    if context.config.label is None:
        return Unseen()
    label = context.config.label.column
    found = rows.filter(F.col("_rule").isNull()).groupBy("split", label).count().collect()
    standing = scope.standing.classes if scope.standing else ()
    classes = merge_classes(standing, [row[label] for row in found if row["split"] == "train" and row[label] is not None])
    if not classes:
        raise QualityError(
            STEP, expected="rows in the train split", found="none", remedy="Look at split.fractions and at the rejects."
        )
    unseen = sum(row["count"] for row in found if row[label] is None or str(row[label]) not in classes)
    return Unseen(classes, label, unseen)


def write_silver(context: Context, attempt: books.Attempt, scope: Scope, rows: DataFrame) -> books.TableVersion:
    """One row per row that was kept: the contract's columns, row_id, split, _night.

    The contract's rules are the table's constraints.
    """
    kept = rows.filter(F.col("_rule").isNull()).select(*context.contract.columns, "row_id", "split", "_night")
    conditions = {
        rule: text for name, column in context.contract.columns.items() for rule, text in column_conditions(name, column).items()
    }
    constraints = {f"delta.constraints.{rule}": condition for rule, condition in conditions.items()}
    return write_nights(
        attempt, silver(context.config.name), kept, scope.nights, properties={**PLAIN, **constraints}, rebuild=scope.rebuild
    )


def write_gold(
    context: Context, attempt: books.Attempt, scope: Scope, state: FittedState, written: books.TableVersion
) -> tuple[books.TableVersion, dict[str, int]]:
    """Encodes silver's new nights into gold; all of silver where a class has come.

    Returns the version and the rows of each split.
    """
    config = context.config
    rebuild = scope.rebuild or scope.standing is None or scope.standing.classes != state.classes
    rows = read_version(context.spark(), context.lake, written.table, written.version)
    nights = list(scope.seen) if rebuild else list(scope.nights)
    chosen = rows.filter(F.col("_night").isin(nights))
    row_bytes = sum(
        tensor.num_bytes for feature in config.features if (tensor := context.contract.columns[feature.column].tensor)
    )
    num_rows = log.num_rows(context.lake.path(written.table), written.version, None if rebuild else scope.nights)
    encoded = encoding.encode(
        chosen, features=config.features, label=config.label.column if config.label else None, classes=state.classes
    )
    ordered = encoding.in_hash_order(encoded, seed=config.split.seed, num_partitions=num_files(num_rows * row_bytes))
    table = write_nights(attempt, gold(config.name), ordered, nights, partition_by=["split"], rebuild=rebuild)
    return table, rows_by_split(context.lake.path(table.table), table.version)


def num_files(num_bytes: int) -> int:
    """Files of a gold write: at most 64 MiB each, and a few even for little, so that writing and reading run side by side."""
    return max(1, min(4, num_bytes // (4 * 1024**2)), -(-num_bytes // _GOLD_FILE_BYTES))


def rows_by_split(uri: str, version: int) -> dict[str, int]:
    """Rows of each split in a version of gold, from the log."""
    actions = pa.table(log.open_table(uri, version).get_add_actions(flatten=True))
    counts = dict.fromkeys(SPLITS, 0)
    for split, rows in zip(actions.column("partition.split").to_pylist(), actions.column("num_records").to_pylist(), strict=True):
        counts[split] += rows
    observe.note("gold", num_rows=counts, version=version)
    return counts
