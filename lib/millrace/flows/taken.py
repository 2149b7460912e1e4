"""Which raw files the ledger says each night has taken: into bronze, or, where a pipeline has gold alone, for it."""

from __future__ import annotations

from collections.abc import Collection

from millrace.errors import SourceError
from millrace.flows.context import Context
from millrace.lake import ledger as books
from millrace.lake.layout import bronze

STEP = "ingest"


def is_ingest_of(context: Context, entry: books.Entry) -> bool:
    """Whether an entry has taken files: of the source, whatever the pipeline, into bronze; or of a pipeline that has gold alone,
    which reads them itself."""
    if entry.step != STEP or entry.status != "succeeded":
        return False
    is_in_bronze = entry.output(bronze(context.config.source.name)) is not None
    if not context.config.only_gold:
        return is_in_bronze
    return not is_in_bronze and bool(entry.inputs.files) and entry.run.pipeline == context.config.name


def standing_ingest(context: Context, ledger: books.Ledger, night: str) -> books.Entry | None:
    """The ingest whose rows stand for a night: the newest that succeeded."""
    for entry in reversed(ledger.entries):
        if is_ingest_of(context, entry) and entry.run.night == night:
            return entry
    return None


def nights_taken(context: Context, ledger: books.Ledger) -> dict[str, books.Entry]:
    """Each night with the ingest that stands for it, in the nights' order."""
    nights = sorted({entry.run.night for entry in ledger.entries if is_ingest_of(context, entry)})
    standing = {night: standing_ingest(context, ledger, night) for night in nights}
    return {night: entry for night, entry in standing.items() if entry is not None}


def taken_by_other_nights(context: Context, ledger: books.Ledger) -> set[tuple[str, str]]:
    """Path and SHA-256 of the raw files of other nights. A known path with new content is a new file."""
    others = [entry for night, entry in nights_taken(context, ledger).items() if night != context.run.night]
    return {(file.path, file.sha256) for entry in others for file in entry.inputs.files}


def raw_nights(
    context: Context, ledger: books.Ledger, among: Collection[books.RawFile] | None = None
) -> dict[str, tuple[books.RawFile, ...]]:
    """Each night's raw files; only those `among` some, where these are given."""
    wanted = None if among is None else set(among)
    found = {
        night: tuple(file for file in entry.inputs.files if wanted is None or file in wanted)
        for night, entry in nights_taken(context, ledger).items()
    }
    return {night: files for night, files in found.items() if files}


def name_of(path: str) -> str:
    """A file's name, whatever its directory."""
    return path.rpartition("/")[2]


def changed_under_way(stage: str, file: books.RawFile) -> SourceError:
    """The error for a file that is written to while a step reads it."""
    return SourceError(
        stage,
        expected=f"{file.path} to stay as it is while it is read",
        found="that it has changed",
        remedy="Run the night again when the file is complete.",
        retry=True,
    )
