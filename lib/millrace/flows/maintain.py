"""Maintenance of a whole lake: small files are put together, and what nobody needs any more is removed.

Each pipeline is done under the lock that its steps take. Compaction is a step of the ledger: its commit is a new version that
readers move to once `succeeded` names it, and one that was killed is undone by the table's next writer, like any other. Done:
silver, signatures, predictions, metrics and the registry. Left as they are: gold, whose row groups in hash order are what a
training is planned on, and which trainings and models pin; bronze, whose nights are told apart by the names of their files;
quarantine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from millrace import observe
from millrace.config.load import hash_of, nearest
from millrace.errors import ConfigError
from millrace.flows.context import code_revision
from millrace.flows.inspect import existing
from millrace.lake import locks, log, protocol
from millrace.lake import maintain as upkeep
from millrace.lake.layout import CONTRACTS, Lake, gold, predictions, rejects_of_gold, rejects_of_pipeline, signatures, silver
from millrace.lake.ledger import Attempt, Inputs, Ledger, Outcome, Run, TableVersion
from millrace.lake.versions import Sessions, no_session, versions_of

STEP = upkeep.STEP


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is done, and how much of the past is kept."""

    retention: timedelta = timedelta(days=7)
    """Versions that were the newest within this time stay readable."""
    zorder: tuple[str, ...] = ()
    """Columns that silver is sorted by along a Z-curve; tables that lack one of them are compacted."""
    dry_run: bool = False
    """Say what would go, and change nothing. What compaction would replace is not counted."""
    night: str
    """The date that the ledger's entry carries."""


@dataclass(frozen=True)
class Report:
    """What was removed, or would be, and how many small files compaction has found."""

    removed: tuple[upkeep.Unneeded, ...]
    small_files: dict[str, int]


def maintain(lake: Lake, options: Options, sessions: Sessions = no_session) -> Report:
    """Compacts, then removes. `sessions` opens Spark, for tables that have features which deltalake does not know.

    Raises ConfigError for options that do not fit the lake, LakeError where a lock is held.
    """
    existing(lake)
    _check(lake, options, sessions)
    small = {table: upkeep.num_small_files(lake, table, sessions=sessions) for table in _compacted(lake)}
    removed: list[upkeep.Unneeded] = []
    if not options.dry_run:
        lake.open_for_writing()
        for table in sorted(set(CONTRACTS) & set(upkeep.tables_of(lake))):
            with locks.short(lake, table):
                upkeep.compact(lake, table, metadata={"step": STEP})
    for pipeline in _pipelines(lake):
        with _held(lake, f"pipeline-{pipeline}", options):
            if not options.dry_run:
                _compact_pipeline(lake, pipeline, options, sessions)
            own = [name(pipeline) for name in (silver, signatures, gold, predictions, rejects_of_pipeline, rejects_of_gold)]
            removed += _clear(lake, own, options, sessions)
            removed += _clear_artifacts(lake, pipeline, options)
    for source in sorted(table.partition("/")[2] for table in upkeep.tables_of(lake) if table.startswith("bronze/")):
        with _held(lake, f"source-{source}", options):
            removed += _clear(lake, [f"bronze/{source}", f"quarantine/sources/{source}"], options, sessions)
    for table in sorted(CONTRACTS):
        with locks.short(lake, table) if not options.dry_run else _nothing():
            removed += _clear(lake, [table], options, sessions)
    return Report(tuple(found for found in removed if found.paths), {table: count for table, count in small.items() if count > 1})


def _check(lake: Lake, options: Options, sessions: Sessions) -> None:
    if options.retention < timedelta(days=1) and not lake.is_local:
        raise ConfigError(
            STEP,
            expected="a retention of a day or more where writers take no locks",
            found=f"{options.retention.total_seconds() / 86400:g} days at {lake.uri}",
            remedy="A file that is being written looks like one that nobody needs.",
        )
    if not options.zorder:
        return
    columns = {name for table in _silver_tables(lake) for name in versions_of(lake, table, sessions).columns()}
    for column in options.zorder:
        if column not in columns:
            raise ConfigError(STEP, expected="--zorder a column of silver", found=f"'{column}'", remedy=nearest(column, columns))


def _compact_pipeline(lake: Lake, pipeline: str, options: Options, sessions: Sessions) -> None:
    """One step of the ledger: a pipeline's silver, its signatures and predictions, at the versions that it names."""
    wanted = [silver(pipeline), signatures(pipeline), predictions(pipeline)]

    def find_inputs(ledger: Ledger) -> Inputs:
        found = [(table, ledger.version_of(table)) for table in wanted]
        return Inputs(tuple(TableVersion(table, version) for table, version in found if version is not None))

    def work(attempt: Attempt) -> Outcome:
        outputs = []
        for used in attempt.inputs.tables:
            if log.latest_version(lake.path(used.table)) != used.version:
                observe.say(f"{used.table}: left alone, since an unfinished try has written to it; its next run undoes that")
                continue
            known = versions_of(lake, used.table, sessions)
            has_all = used.table == silver(pipeline) and set(options.zorder) <= set(known.columns())
            zorder = options.zorder if has_all else ()
            version = upkeep.compact(lake, used.table, zorder=zorder, metadata=attempt.mark, sessions=sessions)
            assert version is not None
            outputs.append(TableVersion(used.table, version))
        return Outcome(tuple(outputs))

    config_hash = hash_of(STEP, list(options.zorder))
    run = Run(pipeline, options.night, f"{pipeline}-{options.night}-{STEP}", config_hash, code_revision())
    step = protocol.Step(STEP, f"pipeline-{pipeline}", [pipeline, list(options.zorder)], find_inputs, work)
    ledger = Ledger.read(lake)
    inputs = find_inputs(ledger)
    if inputs.tables and not _is_done(ledger, inputs, config_hash):
        protocol.run_step(lake, run, step)


def _is_done(ledger: Ledger, inputs: Inputs, config_hash: str) -> bool:
    """Whether these versions are what a maintenance like this one has left."""
    left = [entry for entry in ledger.entries if entry.step == STEP and entry.status == "succeeded"]
    return any(set(inputs.tables) <= set(entry.outputs) and entry.run.config_hash == config_hash for entry in left)


def _clear(lake: Lake, tables: list[str], options: Options, sessions: Sessions) -> list[upkeep.Unneeded]:
    """Removes what no kept version of these tables needs. The ledger is read anew: under the lock it says what stands."""
    pinned = upkeep.pinned_versions(lake, Ledger.read(lake))
    since = datetime.now(UTC) - options.retention
    found = []
    for table in tables:
        if log.exists(lake.path(table)):
            versions = {used.version for used in pinned if used.table == table}
            found.append(upkeep.unneeded_files(lake, table, versions, since=since, sessions=sessions))
            if not options.dry_run:
                upkeep.remove(found[-1])
    return found


def _clear_artifacts(lake: Lake, pipeline: str, options: Options) -> list[upkeep.Unneeded]:
    table, since = gold(pipeline), datetime.now(UTC) - options.retention
    kept: set[tuple[str, int]] = set()
    if log.exists(lake.path(table)):
        pinned = {used.version for used in upkeep.pinned_versions(lake, Ledger.read(lake)) if used.table == table}
        identity = str(log.open_table(lake.path(table)).metadata().id)
        versions = versions_of(lake, table, no_session)  # gold is for deltalake too
        kept = {(identity, version) for version in upkeep.kept_versions(versions, pinned, since=since)}
    found = upkeep.unneeded_artifacts(lake, pipeline, kept, since=since)
    if not options.dry_run:
        upkeep.remove(found)
    return [found]


def _compacted(lake: Lake) -> list[str]:
    return [
        table
        for table in upkeep.tables_of(lake)
        if table in CONTRACTS or table.startswith(("silver/", "signatures/", "predictions/"))
    ]


def _silver_tables(lake: Lake) -> list[str]:
    return [table for table in upkeep.tables_of(lake) if table.startswith("silver/")]


def _pipelines(lake: Lake) -> list[str]:
    """Those that have a table or an entry in the ledger."""
    parents = ("silver/", "signatures/", "gold/", "predictions/", "quarantine/pipelines/", "quarantine/gold/")
    named = {table.rpartition("/")[2] for table in upkeep.tables_of(lake) if table.startswith(parents)}
    return sorted(named | {entry.run.pipeline for entry in Ledger.read(lake).entries})


@contextmanager
def _held(lake: Lake, name: str, options: Options) -> Iterator[None]:
    """The lock, which a dry run leaves alone: it changes nothing, and what it says may be old by the next second."""
    if options.dry_run:
        yield
        return
    with locks.exclusive(lake, name, run_id=STEP):
        yield


@contextmanager
def _nothing() -> Iterator[None]:
    yield
