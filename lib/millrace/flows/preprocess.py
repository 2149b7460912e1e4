"""bronze -> silver -> gold: typed, checked, deduplicated, split, encoded. Only nights that are new or have changed are done."""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace import observe
from millrace.config.load import hash_of
from millrace.contracts.spark import column_conditions, spark_type
from millrace.errors import LakeError
from millrace.fit.state import FittedState
from millrace.flows import rejects
from millrace.flows.classes import classes_and_unseen, label_of
from millrace.flows.context import Context
from millrace.flows.ingest import cached
from millrace.flows.scope import STEP, Scope, everything, find_scope, sections
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

_GOLD_FILE_BYTES = 64 * 1024**2


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
    quality = rejects.write_data_quality(attempt, written_silver, tally, known=[*known, *drop_rules(context)], columns=known)
    return books.Outcome(outputs=(written_silver, written_gold, *where, quality), counts=tally.counts())


def stands(context: Context, ledger: books.Ledger, entry: books.Entry) -> bool:
    """Whether silver and gold are still what an entry has made."""
    tables = (silver(context.config.name), gold(context.config.name))
    return all(entry.output(table) == ledger.version_of(table) for table in tables)


def tagged_rows(context: Context, attempt: books.Attempt, scope: Scope) -> DataFrame:
    """One row per bronze row of the scope: typed, with row_id and split.

    _rule, _reason, _action and _record are NULL for a row that is kept.
    """
    contract, table = context.contract, bronze(context.config.source.name)
    raw = read_version(context.spark(), context.lake, table, attempt.input_version(table)).filter(
        F.col("_night").isin(list(scope.nights))
    )
    for name, column in contract.columns.items():
        if name not in raw.columns:  # bronze is older than the column
            raw = raw.withColumn(name, F.lit(None).cast(spark_type(column.data_type)))
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
    """Encodes silver's rows of the scope's nights into gold.

    Returns the version and the rows of each split.
    """
    config = context.config
    rows = read_version(context.spark(), context.lake, written.table, written.version)
    nights = list(scope.nights)
    chosen = rows.filter(F.col("_night").isin(nights))
    row_bytes = sum(
        tensor.num_bytes for feature in config.features if (tensor := context.contract.columns[feature.column].tensor)
    )
    num_rows = log.num_rows(context.lake.path(written.table), written.version, None if scope.rebuild else scope.nights)
    encoded = encoding.encode(
        chosen, features=config.features, label=config.label.column if config.label else None, classes=state.classes
    )
    ordered = encoding.in_hash_order(encoded, seed=config.split.seed, num_partitions=num_files(num_rows * row_bytes))
    table = write_nights(attempt, gold(config.name), ordered, nights, partition_by=["split"], rebuild=scope.rebuild)
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
