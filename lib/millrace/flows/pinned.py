"""Raw files that have to stay as they are while a step reads them more than once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import fsspec

from millrace.errors import SourceError
from millrace.flows.context import Context
from millrace.flows.scope import STEP
from millrace.flows.taken import changed_under_way
from millrace.lake.ledger import RawFile
from millrace.sources.read import FileSource, source_of
from millrace.sources.reader import RawSource


def pin(context: Context, files: Mapping[str, tuple[RawFile, ...]]) -> Pinned:
    """Files, by night, whose content is what the ledger says.

    Raises SourceError where one is gone or has other content.
    """
    source = source_of(context.config.source, context.run.night)
    wanted = [file for night in files.values() for file in night]
    for file in wanted:
        if not source.exists(file.path):
            remedy = "Put it back. With materialize: [bronze, silver, gold] bronze keeps the rows of files that go."
            raise SourceError(STEP, expected=f"the file {file.path}, which gold is made of", found="none", remedy=remedy)
    pinned = Pinned(source, wanted)  # before they are read, so that a change while they are shows later
    for before, now in zip(wanted, source.identify([file.path for file in wanted]), strict=True):
        if before != now:
            remedy = "Put the old one back, and give the new one a name of its own; or run jobs/ingest.py with --force."
            raise SourceError(STEP, expected=f"{before.path} as its night took it", found="other content", remedy=remedy)
    return pinned


class Pinned:
    """Files as they were when this was made, by what the file system says of them (size, time of change, inode); what is no file
    by its content."""

    def __init__(self, source: RawSource, files: Sequence[RawFile]) -> None:
        self._source, self._files = source, files
        self._marks = self._marks_now()

    def check(self) -> None:
        """Raises SourceError (retry) where a file has changed since."""
        for file, before, now in zip(self._files, self._marks, self._marks_now(), strict=True):
            if before != now:
                raise changed_under_way(STEP, file)

    def _marks_now(self) -> list[object]:
        if not isinstance(self._source, FileSource):
            return list(self._source.identify([file.path for file in self._files]))
        return [_mark(file.path) for file in self._files]


def _mark(path: str) -> object:
    """What tells a file from what it was before; None where it is gone."""
    files, name = fsspec.core.url_to_fs(path)
    files.invalidate_cache()
    try:
        return files.ukey(name)
    except OSError:
        return None
