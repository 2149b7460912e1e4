"""Raw files that have to stay as they are while a step reads them more than once."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import fsspec

from millrace.errors import SourceError
from millrace.flows.context import Context
from millrace.flows.scope import STEP
from millrace.lake.ledger import RawFile
from millrace.sources.read import FileSource, source_of


class Pinned:
    """A context in which files are as the ledger says: their content is compared on entering, and after that what the file system
    says of them (size, time of change, inode) each time that `check` is called. What is no file is compared by its content.

    Raises SourceError where one is gone, or (retry) has changed.
    """

    def __init__(self, context: Context, files: Mapping[str, tuple[RawFile, ...]]) -> None:
        self._source = source_of(context.config.source, context.run.night)
        self._files = [file for night in files.values() for file in night]
        self._marks: list[object] = []

    def __enter__(self) -> Self:
        for file in self._files:
            if not self._source.exists(file.path):
                remedy = "Put it back. With materialize: [bronze, silver, gold] bronze keeps the rows of files that go."
                raise SourceError(STEP, expected=f"the file {file.path}, which gold is made of", found="none", remedy=remedy)
        self._marks = self._marks_now()
        found = self._source.identify([file.path for file in self._files])
        for before, now in zip(self._files, found, strict=True):
            if before != now:
                remedy = "Put the old one back, and give the new one a name of its own; or run jobs/ingest.py with --force."
                raise SourceError(STEP, expected=f"{before.path} as its night took it", found="other content", remedy=remedy)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def check(self) -> None:
        """Raises SourceError (retry) where a file has changed since."""
        for file, before, now in zip(self._files, self._marks, self._marks_now(), strict=True):
            if before != now:
                raise SourceError(
                    STEP,
                    expected=f"{file.path} to stay as it is while it is read",
                    found="that it has changed",
                    remedy="Run the night again when the file is complete.",
                    retry=True,
                )

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
