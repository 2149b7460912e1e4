"""Raw files -> bronze. Takes the files that no other night has taken; broken rows go to quarantine."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace import observe
from millrace.config.load import hash_of
from millrace.config.sources import DeltaSource, JdbcSource
from millrace.contracts.evolution import check_retyped
from millrace.errors import ConfigError, SourceError, in_short
from millrace.flows import rejects
from millrace.flows.context import Context
from millrace.flows.known_files import KnownFiles
from millrace.flows.taken import STEP, changed_under_way, is_ingest_of, nights_taken, standing_ingest, taken_by_other_nights
from millrace.lake import artifacts, protocol
from millrace.lake import ledger as books
from millrace.lake.layout import bronze, gold, rejects_of_source
from millrace.lake.write import write_nights
from millrace.sources.files import relative_path
from millrace.sources.read import source_of
from millrace.sources.reader import RawSource
from millrace.sources.samples import SAMPLES

_NOT_THE_ROWS = {"path", "sample", "on_missing"}
"""Of a source: what does not decide which rows a file has. Files count by their content, wherever they lie."""
CHANGED, LATE = "file_changed", "file_late"
"""Rules that files break, and not rows: a file that another night has taken with other content, and one that comes when a newer
night has been ingested already. Both are taken, and reported."""


def step(context: Context) -> protocol.Step:
    """The step as the ledger runs it."""
    source, only_gold = context.config.source, context.config.only_gold
    own = [context.config.name, list(context.config.materialize)] if only_gold else []
    return protocol.Step(
        name=STEP,
        lock=f"source-{source.name}",
        sections=[source.model_dump(mode="json", exclude=_NOT_THE_ROWS), context.contract, context.run.night, *own],
        find_inputs=lambda ledger: find_files(context, ledger),
        work=lambda attempt: take(context, attempt) if only_gold else ingest(context, attempt),
        before=lambda: lay_out_sample(context),
        stands=lambda ledger, entry: (
            entry is standing_ingest(context, ledger, context.run.night) or not is_ingest_of(context, entry)
        ),
        prepare=(lambda: None) if only_gold else context.spark,
    )


def lay_out_sample(context: Context) -> None:
    """Writes the source's sample to its path, unless something is there."""
    if context.config.source.sample is not None:
        SAMPLES[context.config.source.sample](context.source_path)


def find_files(context: Context, ledger: books.Ledger) -> books.Inputs:
    """Tonight's files: what is at the source's path and no other night has taken, checked as far as their first bytes show.

    A night that was ingested keeps its files: where one is gone from the source, or has become a file of another night, what
    bronze has of them stands. Raises
    SourceError where nothing is there and the source must not be missing, or a night is forced whose files are gone; ConfigError
    where another pipeline means something else by the source.
    """
    source = context.config.source
    if not context.config.only_gold:
        check_same_source(context)
    raw = source_of(source, context.run.night)
    paths = raw.find(context.source_path)
    standing = standing_ingest(context, ledger, context.run.night)
    gone = [file.path for file in standing.inputs.files if file.path not in paths] if standing else []
    if standing is not None and gone:
        return _as_it_stands(context, standing, f"{gone[0]} gone")
    if not paths and source.on_missing != "skip" and source.sample is None:
        raise SourceError(
            STEP,
            expected=f"{source.format} files at {context.source_path}",
            found="none",
            remedy="Check source.path, or say with source.on_missing whether to retry or to skip.",
            retry=source.on_missing == "retry",
        )
    taken = taken_by_other_nights(context, ledger)
    files = KnownFiles.load(context.lake, source.name).identify(raw, paths)
    new = _unmoved(context, raw, [file for file in files if (file.path, file.sha256) not in taken], taken)
    if standing is not None:
        left = {file.path for file in new}
        elsewhere = [file.path for file in standing.inputs.files if file.path not in left]
        if elsewhere:  # another night has taken what lies there now
            return _as_it_stands(context, standing, f"{elsewhere[0]} with content that another night has taken")
    raw.check([file.path for file in new], context.contract)
    return books.Inputs(files=new)


def _unmoved(
    context: Context, raw: RawSource, files: Sequence[books.RawFile], taken: Collection[tuple[str, str]]
) -> tuple[books.RawFile, ...]:
    """The files without those that other nights took when the whole source lay elsewhere: the same place under its root, the same
    content, and nothing left where it was. With {night} in the path, another root is another night's."""
    if "{night}" in context.config.source.path:
        return tuple(files)
    by_content: dict[str, list[str]] = {}
    for path, sha256 in taken:
        by_content.setdefault(sha256, []).append(path)
    new: list[books.RawFile] = []
    moved: list[books.RawFile] = []
    for file in files:
        before = by_content.get(file.sha256, [])
        if before and not isinstance(context.config.source, DeltaSource):  # whose content names the table
            under_root = f"/{relative_path(context.source_path, file.path)}"
            before = [path for path in before if path.endswith(under_root)]
        (moved if before and not any(_is_there(raw, path) for path in before) else new).append(file)
    if [file for file in moved if file.path not in KnownFiles.load(context.lake, context.config.source.name).files]:
        observe.warn(f"ingest: {_some([file.path for file in moved])} were taken by other nights from elsewhere, and not again")
    return tuple(new)


def _is_there(raw: RawSource, path: str) -> bool:
    """Whether a file is where it was; not where that place cannot be reached any more."""
    try:
        return raw.exists(path)
    except (OSError, ImportError, ValueError) as error:
        observe.say(f"ingest: {path} cannot be looked at ({in_short(str(error) or type(error).__name__)})")
        return False


def _remember_moved(context: Context, attempt: books.Attempt, raw: RawSource) -> None:
    """Keeps what files are that no night has taken by their address: those of a source that was moved are read once."""
    known = KnownFiles.load(context.lake, context.config.source.name)
    taken = {path for path, _ in taken_by_other_nights(context, attempt.ledger)}
    others = {*known.files, *taken, *(file.path for file in attempt.inputs.files)}
    paths = [path for path in raw.find(context.source_path) if path not in others]
    if paths:
        stamps = raw.stamps(paths)
        known.save_with(context.lake, context.config.source.name, raw.identify(paths), stamps)


def _as_it_stands(context: Context, standing: books.Entry, found: str) -> books.Inputs:
    """What a night took whose files are not what they were. Raises SourceError where it is to be done again by force."""
    if context.force:
        remedy = "Put them back, or leave out --force: what bronze has of the night stands."
        raise SourceError(STEP, expected=f"the files of {context.run.night}", found=found, remedy=remedy)
    return standing.inputs


def has_rows(context: Context) -> bool:
    """Whether any night has ever taken files."""
    ledger = books.Ledger.read(context.lake)
    if context.config.only_gold:
        return bool(nights_taken(context, ledger))
    return ledger.version_of(bronze(context.config.source.name)) is not None


def check_same_source(context: Context) -> None:
    """Raises ConfigError where another pipeline has filled the same bronze table from elsewhere, or by another contract."""
    own = _definition(context)
    directory = context.lake.path("artifacts", "_sources", context.config.source.name)
    files = context.lake.storage()
    for path in files.glob(f"{directory}/*.json"):
        pipeline = str(path).rpartition("/")[2].removesuffix(".json")
        other = json.loads(files.cat_file(path))
        different = [name for name in own if other.get(name) != own[name]]
        if pipeline != context.config.name and different:
            raise ConfigError(
                STEP,
                expected=f"{pipeline} and {context.config.name} to mean the same by the source {context.config.source.name}",
                found=f"another {' and '.join(different)}",
                remedy="Give one of them a source.name of its own.",
            )


def _definition(context: Context) -> dict[str, str]:
    source = context.config.source
    options = source.model_dump(mode="json", exclude=_NOT_THE_ROWS | {"name", "format", "contract"})
    return {"format": source.format, "path": source.path, "contract": hash_of(context.contract), "options": hash_of(options)}


def ingest(context: Context, attempt: books.Attempt) -> books.Outcome:
    """Reads tonight's files into bronze and their broken rows into quarantine."""
    source, table = context.config.source, bronze(context.config.source.name)
    raw = source_of(source, context.run.night)
    _remember_moved(context, attempt, raw)
    if not attempt.inputs.files:
        observe.say("ingest: no new files")
        standing = attempt.ledger.version_of(table)
        return books.Outcome(outputs=() if standing is None else (books.TableVersion(table, standing),))
    artifacts.write_json(
        context.lake.path("artifacts", "_sources", source.name, f"{context.config.name}.json"), _definition(context)
    )
    odd = odd_files(context, attempt)
    paths = [file.path for file in attempt.inputs.files]
    refuse_gone(raw, attempt.inputs.files)
    with cached(raw.rows(context.spark(), paths, context.contract)) as rows:
        tally = rejects.count(rows)
        tagged = rows.withColumns({"row_id": F.lit(None).cast("string"), "_action": F.lit("quarantined")})
        rejected = rejects.as_quarantine(tagged, attempt)
        where = rejects.write(attempt, rejects_of_source(source.name), rejected, [context.run.night], tally)
        check_retyped(context.contract, tally.quarantined, stage=STEP)
        rejects.check_budget(context, attempt, tally)
        written = write_nights(attempt, table, bronze_rows(rows, attempt), [context.run.night])
    stamps = raw.stamps(paths)
    refuse_changed(raw, attempt.inputs.files)
    KnownFiles.load(context.lake, source.name).save_with(context.lake, source.name, attempt.inputs.files, stamps)
    quality = rejects.write_data_quality(attempt, rejects.quality_rows(attempt, written, tally, known=raw.rules, files=odd))
    return books.Outcome(outputs=(written, *where, quality), counts=tally.counts())


def take(context: Context, attempt: books.Attempt) -> books.Outcome:
    """Takes tonight's files for a pipeline that has gold alone: preprocess reads them, and counts their rows."""
    _remember_moved(context, attempt, source_of(context.config.source, context.run.night))
    if not attempt.inputs.files:
        observe.say("ingest: no new files")
        return books.Outcome()
    odd, nothing = odd_files(context, attempt), rejects.Tally(0, {}, {})
    rows = rejects.quality_rows(attempt, books.TableVersion(gold(context.config.name), 0), nothing, known=(), files=odd)
    quality = rejects.write_data_quality(attempt, [{**row, "version": None} for row in rows])
    return books.Outcome(outputs=(quality,))


def odd_files(context: Context, attempt: books.Attempt) -> dict[str, int]:
    """Says which of tonight's files have changed since another night took them, and whether they are late. How many, by rule."""
    files = attempt.inputs.files
    known = {path for path, _ in taken_by_other_nights(context, attempt.ledger)}
    is_database = isinstance(context.config.source, JdbcSource)  # which is one address with other rows each night
    changed = [file.path for file in files if file.path in known and not is_database]
    newest = max(nights_taken(context, attempt.ledger), default="")
    late = [file.path for file in files] if newest > context.run.night else []
    if changed:
        observe.warn(f"ingest: {_some(changed)} have changed since another night took them; their rows come again")
    if late:
        observe.warn(f"ingest: {_some(late)} come late: {newest} has been ingested already")
    return {CHANGED: len(changed), LATE: len(late)}


def _some(paths: Sequence[str]) -> str:
    """A few names, for people."""
    names = [path.rpartition("/")[2] for path in paths]
    return f"{len(names)} files ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"


def refuse_gone(raw: RawSource, files: tuple[books.RawFile, ...]) -> None:
    """Raises SourceError where a file that this night took is not there any more."""
    for file in files:
        if not raw.exists(file.path):
            remedy = "Put it back, or let the night stand as it was ingested."
            raise SourceError(STEP, expected=f"the file {file.path}, which this night took", found="none", remedy=remedy)


def refuse_changed(raw: RawSource, files: tuple[books.RawFile, ...]) -> None:
    """Raises SourceError (retry) where a file is no longer what the ledger says was read."""
    refuse_gone(raw, files)
    for before, now in zip(files, raw.identify([file.path for file in files]), strict=True):
        if before != now:
            raise changed_under_way(STEP, before)


def bronze_rows(rows: DataFrame, attempt: books.Attempt) -> DataFrame:
    """One row per raw row that is whole: the source's columns, _source_file, _ingested_at, _run_id, _night."""
    whole = rows.filter(F.col("_rule").isNull()).drop("_rule", "_reason", "_record")
    return whole.withColumns(
        {"_ingested_at": F.current_timestamp(), "_run_id": F.lit(attempt.run.run_id), "_night": F.lit(attempt.run.night)}
    )


@contextmanager
def cached(rows: DataFrame) -> Iterator[DataFrame]:
    """Keeps what `rows` computes while the block reads it more than once."""
    kept = rows.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        yield kept
    finally:
        kept.unpersist()
