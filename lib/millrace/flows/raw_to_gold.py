"""raw files -> gold, for `materialize: [gold]`: the steps of preprocess without bronze and silver between.

Two passes over the files: one for rules, keys, classes, statistics and the profile, one that encodes, where that can be as it
reads. Tokenizers that are trained take one more. Nights are told by their raw files; those that are new are done, and all where
what decides about rows has changed, or has to be fitted anew.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace import observe
from millrace.config.load import hash_of
from millrace.config.models import ClassLabelConfig
from millrace.contracts.evolution import check_retyped
from millrace.contracts.spark import struct_type
from millrace.errors import LakeError
from millrace.fit.features import needs_of
from millrace.fit.state import FittedState
from millrace.fit.statistics import Statistics
from millrace.flows import rejects
from millrace.flows.classes import Unseen, unseen_of
from millrace.flows.context import Context
from millrace.flows.fitting import fit_from
from millrace.flows.gold import Gold, write_gold
from millrace.flows.ingest import cached
from millrace.flows.looking import is_profiled, look_at, profiled_columns
from millrace.flows.pinned import pin
from millrace.flows.raw_rows import Known, RawRows
from millrace.flows.rows import drop_rules, label_rules
from millrace.flows.scope import STEP, Scope, all_again, deciding, find_scope, leave_standing, sections
from millrace.flows.survey import Survey, surveyed
from millrace.flows.taken import raw_nights
from millrace.lake import ledger as books
from millrace.lake import protocol
from millrace.lake.layout import gold, rejects_of_pipeline
from millrace.quality.rules import rules_of
from millrace.sources.read import source_of
from millrace.transforms.features import EncodedWhenRead


def step(context: Context) -> protocol.Step:
    """The step as the ledger runs it."""
    return protocol.Step(
        name=STEP,
        lock=context.pipeline_lock,
        sections=sections(context),
        find_inputs=lambda ledger: find_raw(context, ledger),
        work=lambda attempt: preprocess(context, attempt),
        stands=lambda ledger, entry: entry.output(gold(context.config.name)) == ledger.version_of(gold(context.config.name)),
        prepare=context.spark,
    )


def find_raw(context: Context, ledger: books.Ledger) -> books.Inputs:
    """The raw files of all nights. Raises LakeError where none has taken any."""
    nights = raw_nights(context, ledger)
    if not nights:
        found = f"none that {context.config.name} has taken"
        raise LakeError(STEP, expected="raw files", found=found, remedy="Run jobs/ingest.py first.")
    return books.Inputs(files=tuple(file for files in nights.values() for file in files))


def preprocess(context: Context, attempt: books.Attempt) -> books.Outcome:
    """Brings gold and quarantine up to the raw files."""
    scope = find_scope(context, attempt)
    if scope.standing is not None:
        if not scope.nights:
            return leave_standing(context, attempt, scope.standing, (gold, rejects_of_pipeline))
        if context.config.fit.refit == "always" or (is_profiled(context) and scope.standing.profile is None):
            scope = all_again(scope)
    outcome = preprocess_scope(context, attempt, scope)
    if outcome is None:  # a class has come, or drift asks for a new fit: every night's rows are looked at again
        outcome = preprocess_scope(context, attempt, all_again(scope, is_again=True))
    assert outcome is not None
    return outcome


def preprocess_scope(context: Context, attempt: books.Attempt, scope: Scope) -> books.Outcome | None:
    """Does the nights of a scope; None, and nothing written, where those of all nights have to be done."""
    nights = raw_nights(context, attempt.ledger, attempt.inputs.files)
    files = {night: nights[night] for night in scope.nights}
    pinned = pin(context, files)
    with ExitStack() as stack:

        def keep(rows: DataFrame) -> DataFrame:
            return stack.enter_context(cached(rows))

        make = partial(RawRows, context, attempt, scope, keep, files=files)
        found, first = look_through(context, stack, make)
        tally, counted = found.tally(), found.classes()
        unseen = unseen_of(context, scope, counted)
        if scope.standing is not None and scope.standing.classes != unseen.classes:
            return None
        whole = tally.and_quarantined(unseen.rule, unseen.num_rows)

        def again(encoded: EncodedWhenRead | None = None, *, by_name: bool = False) -> RawRows:
            made = make(compares_keys=first.compares_keys, known=Known(tally.quarantined, encoded, by_name))
            made.cleaning = first.cleaning
            return made

        made = again()
        rows = unseen.tag(made.tagged())
        late = unseen.tag(again(by_name=True).tagged()) if unseen.num_rows else None
        where = write_rejects(context, attempt, scope, rejected_rows(found, unseen, late), whole)
        check_retyped(context.contract, whole.quarantined, stage=STEP)
        rejects.check_budget(context, attempt, whole)
        kept = kept_of(context, made, rows)
        profile = None if unseen.num_rows else found.profile()  # rows of unseen classes are not kept, and are in it
        looked = look_at(context, scope, kept, tonight=profile, packing=made.packing)
        if looked.refit and scope.standing is not None:
            return None
        with observe.timed("fit"):
            fitted = fit_from(context, statistics_of_all(context, scope, found), kept, standing=scope.standing, refit=False)
        state = FittedState(
            hash_of(deciding(context)),
            scope.seen,
            unseen.classes,
            features=fitted.features,
            tokenizers=fitted.tokenizers,
            statistics=fitted.statistics,
            cleaning=made.cleaning,
            profile=looked.profile,
            reference=looked.reference,
        )
        encoded = encoded_when_read(context, found, made, state)
        if encoded is not None:
            made = again(encoded)
            kept = kept_of(context, made, unseen.tag(made.tagged()))
        num_kept = whole.counts().num_rows_kept
        gold_made = write_gold(context, attempt, scope, state, kept, num_rows=num_kept, carrier=made.carrier)
        pinned.check()
    state = replace(state, num_rows=gold_made.num_rows)
    state.save(context.lake, context.config.name, context.run.run_id, attempt.step_key)
    quality = write_quality(context, attempt, whole, gold_made)
    profiles = looked.write(attempt, gold_made.table)
    return books.Outcome((gold_made.table, *where, *profiles, quality), whole.counts())


def look_through(context: Context, stack: ExitStack, make: Callable[..., RawRows]) -> tuple[Survey, RawRows]:
    """The survey of the scope's rows, which the stack keeps, and what made them: with keys compared where two may be equal."""
    label = context.config.label.column if isinstance(context.config.label, ClassLabelConfig) else None
    needs = needs_of(context.config.fitted_features)
    profiled = profiled_columns(context) if is_profiled(context) else None

    def survey(made: RawRows) -> Survey:
        schema = struct_type(context.contract)
        return stack.enter_context(
            surveyed(made.tagged(), schema=schema, needs=needs, label=label, packing=made.packing, profiled=profiled)
        )

    with observe.timed("survey"):
        made = make(compares_keys=False, is_survey=True)
        found = survey(made)
        if context.contract.key and found.has_equal_keys(made.standing_hashes()):
            cleaning = made.cleaning
            made = make(compares_keys=True, is_survey=True)
            made.cleaning = cleaning
            found = survey(made)
        return found, made


def kept_of(context: Context, made: RawRows, rows: DataFrame) -> DataFrame:
    """What gold is made of, out of tagged `rows`: the columns of silver, some of them as they travel."""
    columns = made.carrier.around(context.silver.columns) if made.carrier else context.silver.columns
    return rows.filter(F.col("_rule").isNull()).select(*columns, "row_id", "split", "_night")


def encoded_when_read(context: Context, found: Survey, made: RawRows, state: FittedState) -> EncodedWhenRead | None:
    """How rows are encoded in the pass that reads them, a way to Python and back less; None where that cannot be."""
    if made.packing is None or state.features is None or found.num_kept_texts != 0:
        return None
    return EncodedWhenRead.of(made.packing, state.features, context.contract)


def statistics_of_all(context: Context, scope: Scope, found: Survey) -> Statistics | None:
    """Of the train rows of all nights; None where no feature needs them."""
    if not context.config.fitted_features:
        return None
    known = scope.standing.statistics if scope.standing else None
    return found.statistics() if known is None else known + found.statistics()


def rejected_rows(found: Survey, unseen: Unseen, rows: DataFrame | None) -> DataFrame:
    """The rows that are not kept. Those of an unseen class, where there are any, are told by `rows`: only now it is known which
    classes there are."""
    rejected = found.rejected()
    if rows is None:
        return rejected
    late = rows.filter(F.col("_rule") == unseen.rule)
    return rejected.unionByName(late.select(*rejected.columns))


def write_rejects(
    context: Context, attempt: books.Attempt, scope: Scope, rejected: DataFrame, tally: rejects.Tally
) -> tuple[books.TableVersion, ...]:
    """Stores what is not kept. A row that broke while it was read has no row_id, as at ingest."""
    read_rules = source_of(context.config.source, context.run.night).rules
    named = rejected.withColumn("row_id", F.when(~F.col("_rule").isin(list(read_rules)), F.col("row_id")))
    table = rejects_of_pipeline(context.config.name)
    return rejects.write(attempt, table, rejects.as_quarantine(named, attempt), scope.nights, tally, rebuild=scope.rebuild)


def write_quality(context: Context, attempt: books.Attempt, tally: rejects.Tally, made: Gold) -> books.TableVersion:
    """metrics/data_quality: every rule of reading, of the contract and of cleaning."""
    known: dict[str, str | None] = dict.fromkeys(source_of(context.config.source, context.run.night).rules)
    known |= {rule.name: rule.column for rule in (*rules_of(context.contract), *label_rules(context))}
    rows = rejects.quality_rows(attempt, made.table, tally, known=[*known, *drop_rules(context)], columns=known)
    return rejects.write_data_quality(attempt, rows)
