"""Raw files -> bronze. Takes the files that no other night has taken; broken rows go to quarantine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace import observe
from millrace.errors import SourceError
from millrace.flows import rejects
from millrace.flows.context import Context
from millrace.lake import ledger as books
from millrace.lake import log
from millrace.lake.layout import bronze, rejects_of_source
from millrace.lake.write import write_nights
from millrace.sources import read as sources
from millrace.sources.files import identify
from millrace.sources.samples import SAMPLES

STEP = "ingest"


def step(context: Context) -> books.Step:
    """The step as the ledger runs it."""
    source = context.config.source
    return books.Step(
        name=STEP,
        lock=f"source-{source.name}",
        sections=[source.name, source.format, context.contract, context.config.quality, context.run.night],
        find_inputs=lambda ledger: find_files(context, ledger),
        work=lambda attempt: ingest(context, attempt),
        before=lambda: lay_out_sample(context),
        prepare=context.spark,
    )


def lay_out_sample(context: Context) -> None:
    """Writes the source's sample to its path, unless something is there."""
    if context.config.source.sample is not None:
        SAMPLES[context.config.source.sample](context.source_path)


def find_files(context: Context, ledger: books.Ledger) -> books.Inputs:
    """Tonight's files: what is at the source's path and was not taken by another night. Checked as far as their first bytes show.

    Raises SourceError where nothing is there and the source must not be missing.
    """
    source = context.config.source
    paths = sources.files_of(source, context.source_path)
    if not paths and source.on_missing != "skip" and source.sample is None:
        raise SourceError(
            STEP,
            expected=f"{source.format} files at {context.source_path}",
            found="none",
            remedy="Check source.path, or say with source.on_missing whether to retry or to skip.",
            retry=source.on_missing == "retry",
        )
    taken = taken_by_other_nights(ledger, source.name, context.run.night)
    new = [path for path in paths if path not in taken]
    sources.check_files(source, new, context.contract)
    return books.Inputs(files=identify(new))


def taken_by_other_nights(ledger: books.Ledger, source: str, night: str) -> set[str]:
    """The paths of raw files that a succeeded ingest of another night has in bronze."""
    return {
        file.path
        for entry in ledger.entries
        if entry.step == STEP and entry.status == "succeeded" and entry.run.night != night
        for file in entry.inputs.files
        if entry.output(bronze(source)) is not None
    }


def ingest(context: Context, attempt: books.Attempt) -> books.Outcome:
    """Reads tonight's files into bronze and their broken rows into quarantine."""
    source, table = context.config.source, bronze(context.config.source.name)
    if not attempt.inputs.files and context.run.night not in log.nights_of(context.lake.path(table)):
        observe.say("ingest: no new files")
        standing = attempt.ledger.version_of(table)
        return books.Outcome(outputs=() if standing is None else (books.TableVersion(table, standing),))
    paths = [file.path for file in attempt.inputs.files]
    rows = sources.read_rows(context.spark(), source, paths, context.contract)
    with cached(rows) as rows:
        tally = rejects.count(rows)
        rejected = rejects.as_quarantine(
            rows.withColumns({"row_id": F.lit(None).cast("string"), "_action": F.lit("quarantined")}), attempt
        )
        where = rejects.write(attempt, rejects_of_source(source.name), rejected, [context.run.night], tally)
        rejects.check_budget(context, attempt, tally)
        written = write_nights(attempt, table, bronze_rows(rows, attempt), [context.run.night])
    rejects.write_data_quality(attempt, written, tally, known=("too_few_fields", "too_many_fields", "column_added", "not_utf8"))
    return books.Outcome(outputs=(written, *where), counts=tally.counts())


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
