"""bronze -> silver -> gold: typed, checked, deduplicated, split, encoded. Only nights that are new or have changed are done."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pyarrow.dataset as ds
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace import observe
from millrace.config.cleaning import looks_at_other_rows
from millrace.config.load import hash_of
from millrace.contracts.evolution import check_retyped
from millrace.contracts.spark import column_conditions
from millrace.errors import LakeError
from millrace.fit.state import FittedState
from millrace.flows import raw_to_gold, rejects
from millrace.flows.check_gold import may_be_torn
from millrace.flows.classes import classes_and_unseen
from millrace.flows.context import Context
from millrace.flows.fitting import fit
from millrace.flows.gold import Gold, rules_of_gold, write_gold
from millrace.flows.ingest import cached
from millrace.flows.looking import look_at
from millrace.flows.near_duplicates import write_signatures
from millrace.flows.rows import Rows, drop_rules, label_rules, superseded_rows
from millrace.flows.scope import (
    STEP,
    Scope,
    all_again,
    deciding,
    everything,
    find_scope,
    leave_standing,
    newest_preprocess,
    sections,
)
from millrace.lake import ledger as books
from millrace.lake import protocol
from millrace.lake.layout import bronze, gold, rejects_of_gold, rejects_of_pipeline, signatures, silver
from millrace.lake.read import read_version
from millrace.lake.views import to_dataset
from millrace.lake.write import PLAIN, UPDATED, merge_rows, write_nights
from millrace.quality.across import across_rules
from millrace.quality.keys import check_disjoint
from millrace.quality.rules import rules_of
from millrace.transforms.deduplicate import GAVE_WAY

_TABLES = (silver, signatures, gold, rejects_of_pipeline, rejects_of_gold)
"""What the step brings up to date, by the pipeline's name."""
_ROWS_PER_FILE = 8_192
"""At least so many rows of silver in a file, unless the night has fewer."""


def step(context: Context) -> protocol.Step:
    """The step as the ledger runs it."""
    if context.config.only_gold:
        return raw_to_gold.step(context)
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
    """Bronze, and what the contract refers to, as the newest succeeded steps left them. Raises LakeError where one is missing."""
    own = bronze(context.config.source.name)
    tables = []
    for table in dict.fromkeys((own, *(reference.table for reference in context.contract.references))):
        version = ledger.version_of(table)
        if version is None:
            remedy = (
                "Run jobs/ingest.py first." if table == own else f"{context.contract.name} refers to it: run what fills it first."
            )
            raise LakeError(STEP, expected=f"rows in {table}", found="none", remedy=remedy)
        tables.append(books.TableVersion(table, version))
    return books.Inputs(tables=tuple(tables))


def preprocess(context: Context, attempt: books.Attempt) -> books.Outcome:
    """Brings silver, gold and quarantine up to the pinned version of bronze."""
    scope = find_scope(context, attempt)
    if not scope.nights and scope.standing is not None:
        say_who_waits(context, attempt, scope)
        return leave_standing(context, attempt, scope.standing, _TABLES)
    cleans_anew = context.config.fit.refit == "always" and scope.standing is not None and scope.standing.cleaning is not None
    outcome = None if cleans_anew else preprocess_scope(context, attempt, scope)
    if outcome is None:
        outcome = preprocess_scope(context, attempt, all_again(scope, is_again=True))
    elif not scope.rebuild:
        say_who_waits(context, attempt, scope)
    assert outcome is not None
    return outcome


def say_who_waits(context: Context, attempt: books.Attempt, scope: Scope) -> None:
    """Warns of rows in quarantine, of nights that this run leaves as they are, whose partner may have come since."""
    name = context.config.name
    before = newest_preprocess(context, attempt.ledger)
    pinned = {each.table: each.version for each in before.inputs.tables} if before else {}
    changed = {
        each.rule: each.table
        for each in context.contract.references
        if pinned.get(each.table) not in (None, attempt.input_version(each.table))
    }
    version = attempt.ledger.version_of(rejects_of_pipeline(name))
    if not changed or version is None:
        return
    waiting = ds.field("rule").isin(list(changed)) & ~ds.field("_night").isin(list(scope.nights))
    rejected = to_dataset(context.lake, rejects_of_pipeline(name), version).to_table(columns=["rule", "_night"], filter=waiting)
    if rejected.num_rows:
        tables = ", ".join(sorted({changed[rule] for rule in rejected.column("rule").to_pylist()}))
        night = min(rejected.column("_night").to_pylist())
        observe.warn(
            f"preprocess: {rejected.num_rows} rows of other nights are in quarantine for want of a row in {tables}, which has "
            f"changed since; preprocess with --force --night {night} looks at them again"
        )


def preprocess_scope(context: Context, attempt: books.Attempt, scope: Scope) -> books.Outcome | None:
    """Does the nights of a scope; None where rows of other nights have to be looked at again: a class has come that the standing
    state does not have, rows give way that others were dropped as equal to, or what cleans them has to be fitted anew."""
    with ExitStack() as stack:

        def keep(rows: DataFrame) -> DataFrame:
            return stack.enter_context(cached(rows))

        made = Rows(context, attempt, scope, keep)
        tagged = keep(made.tagged())
        tally = rejects.count(tagged)
        unseen = classes_and_unseen(context, scope, tagged)
        if scope.standing is not None and scope.standing.classes != unseen.classes:
            return None
        tally = tally.and_quarantined(unseen.rule, unseen.num_rows)
        rows = unseen.tag(tagged)
        superseded = superseded_rows(context, attempt, scope, rows)
        given_way, lost = count_by_night(superseded)
        if lost or (given_way and any(looks_at_other_rows(step) for step in context.config.clean)):
            return None
        where = write_rejects(context, attempt, scope, rows, superseded if given_way else None, tally)
        check_retyped(context.contract, tally.quarantined, stage=STEP)
        rejects.check_budget(context, attempt, tally)
        num_kept = tally.counts().num_rows_kept
        written_silver = write_silver(context, attempt, scope, rows, num_rows=num_kept)
        where += write_signatures(attempt, scope, rows, made.signed)
    silver_rows = read_version(context.spark(), context.lake, written_silver.table, written_silver.version)
    torn = may_be_torn(context.config, context.contract)
    if torn:
        check_disjoint(silver_rows, columns=torn, stage=STEP)
    recount = bool(given_way)
    looked = look_at(context, scope, silver_rows, recount=recount)
    if looked.refit and made.cleaning is not None:
        return None
    profiles = looked.write(attempt, written_silver)
    fitted = fit(context, silver_rows, nights=scope.nights, standing=scope.standing, refit=looked.refit, recount=recount)
    state = FittedState(
        hash_of(deciding(context)),
        scope.seen,
        unseen.classes,
        num_silver_rows=num_kept + (scope.standing.num_silver_rows if scope.standing else 0) - sum(given_way.values()),
        features=fitted.features,
        tokenizers=fitted.tokenizers,
        statistics=fitted.statistics,
        cleaning=made.cleaning,
        profile=looked.profile,
        reference=looked.reference,
    )
    encoded, num_encoded = replace(scope, nights=tuple(sorted({*scope.nights, *given_way}))), None if given_way else num_kept
    if looked.refit or context.config.windows is not None:  # windows reach from night to night
        encoded, num_encoded = everything(scope.seen), state.num_silver_rows
    gold_rows = silver_rows.filter(F.col("_night").isin(list(encoded.nights)))
    gold_made = write_gold(context, attempt, encoded, state, gold_rows, num_rows=num_encoded)
    replace(state, num_rows=gold_made.num_rows).save(context.lake, context.config.name, context.run.run_id, attempt.step_key)
    stood = scope.standing.num_silver_rows if scope.standing else 0
    left = rejects.Tally(stood, {}, {GAVE_WAY: sum(given_way.values())}) if context.contract.upsert else None
    quality = write_quality(context, attempt, written_silver, tally, gold_made, left=left)
    outputs = (written_silver, gold_made.table, *where, *gold_made.rejected, *profiles, quality)
    return books.Outcome(outputs=outputs, counts=tally.counts())


def write_quality(
    context: Context,
    attempt: books.Attempt,
    written: books.TableVersion,
    tally: rejects.Tally,
    made: Gold,
    *,
    left: rejects.Tally | None = None,
) -> books.TableVersion:
    """metrics/data_quality: every rule of silver, and of gold where that has rows of another grain. `left`: of the rows that
    stood in silver, those that have given way."""
    known: dict[str, str | None] = {rule.name: rule.column for rule in rules_of(context.contract)}
    known |= {rule.name: rule.column for rule in label_rules(context)}
    known |= {rule: ", ".join(columns) for rule, columns in across_rules(context.contract).items()}
    rows = rejects.quality_rows(attempt, written, tally, known=[*known, *drop_rules(context)], columns=known)
    if left is not None:
        rows += rejects.quality_rows(attempt, written, left, known=())
    if made.tally is not None:
        rows += rejects.quality_rows(attempt, made.table, made.tally, known=rules_of_gold(context))
    return rejects.write_data_quality(attempt, rows)


def count_by_night(superseded: DataFrame | None) -> tuple[dict[str, int], int]:
    """How many rows of each night give way (of nights without any there is nothing), and how many lose their place to a row that
    is not kept itself: only when all is done again they go too."""
    if superseded is None:
        return {}, 0
    found = superseded.groupBy("_night", "_by_kept").count().collect()
    given_way = {row["_night"]: row["count"] for row in found if row["_by_kept"]}
    return given_way, sum(row["count"] for row in found if not row["_by_kept"])


def write_rejects(
    context: Context,
    attempt: books.Attempt,
    scope: Scope,
    rows: DataFrame,
    superseded: DataFrame | None,
    tally: rejects.Tally,
) -> tuple[books.TableVersion, ...]:
    """Stores what is not kept, and the rows of silver that give way, under the night that has the newer ones."""
    rejected = rejects.as_quarantine(rows, attempt)
    if superseded is not None:
        given_way = superseded.withColumns(
            {
                "_source_file": F.lit(None).cast("string"),
                "_rule": F.lit(GAVE_WAY),
                "_reason": F.concat(F.lit("a newer night has a row with this key; this one was of "), F.col("_night")),
                "_action": F.lit("dropped"),
                "_record": F.lit(None).cast("string"),
                "_night": F.col("_newer_night"),
            }
        )
        rejected = rejected.unionByName(rejects.as_quarantine(given_way, attempt))
    table = rejects_of_pipeline(context.config.name)
    return rejects.write(attempt, table, rejected, scope.nights, tally, rebuild=scope.rebuild, has_more=superseded is not None)


def stands(context: Context, ledger: books.Ledger, entry: books.Entry) -> bool:
    """Whether silver and gold are still what an entry has made."""
    tables = (silver(context.config.name), gold(context.config.name))
    return all(entry.output(table) == ledger.version_of(table) for table in tables)


def write_silver(context: Context, attempt: books.Attempt, scope: Scope, rows: DataFrame, *, num_rows: int) -> books.TableVersion:
    """One row per row that was kept, `num_rows` of them: the contract's columns, row_id, split, _night.

    The contract's rules are the table's constraints. A small night adds few files, however many partitions a cluster shuffles
    its rows into.
    """
    kept = rows.filter(F.col("_rule").isNull()).select(*context.silver.columns, "row_id", "split", "_night")
    conditions = {
        rule: text for name, column in context.contract.columns.items() for rule, text in column_conditions(name, column).items()
    }
    constraints = {f"delta.constraints.{rule}": condition for rule, condition in conditions.items()}
    table = silver(context.config.name)
    if context.contract.upsert and not scope.rebuild:
        return merge_rows(attempt, table, kept, properties={**UPDATED, **constraints})
    base = UPDATED if context.contract.upsert else PLAIN
    kept = kept.coalesce(max(1, num_rows // _ROWS_PER_FILE))
    return write_nights(attempt, table, kept, scope.nights, properties={**base, **constraints}, rebuild=scope.rebuild)
