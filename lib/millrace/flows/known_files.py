"""What raw files were when they were taken, so that a night does not read all the old ones to see that they are old."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millrace.errors import LakeError
from millrace.lake import artifacts
from millrace.lake.layout import Lake
from millrace.lake.ledger import RawFile
from millrace.sources.reader import RawSource


@dataclass(frozen=True)
class KnownFiles:
    """By path: the stamp that a file had when it was taken, its bytes and its SHA-256. Of use as long as the stamp is the same;
    the ledger does not need it, and where it is lost files are read again."""

    files: Mapping[str, Mapping[str, Any]]

    @classmethod
    def load(cls, lake: Lake, source: str) -> KnownFiles:
        """What is known of a source's files."""
        try:
            return cls(artifacts.read_json(_address(lake, source)))
        except LakeError:
            return cls({})

    def identify(self, raw: RawSource, addresses: Sequence[str]) -> tuple[RawFile, ...]:
        """What each is; only what is not known is read. Raises SourceError for one that cannot be read."""
        known = {address: self._known(address, stamp) for address, stamp in raw.stamps(addresses).items()}
        unknown = [address for address in addresses if known.get(address) is None]
        found = {**known, **dict(zip(unknown, raw.identify(unknown), strict=True))}
        return tuple(file for address in addresses if (file := found[address]) is not None)

    def save_with(self, lake: Lake, source: str, files: Sequence[RawFile], stamps: Mapping[str, str]) -> None:
        """Keeps it, with more files. `stamps` were taken before the files were last read."""
        new = {file.path: {**vars(file), "stamp": stamps[file.path]} for file in files if file.path in stamps}
        if new:
            artifacts.write_json(_address(lake, source), {**self.files, **new})

    def _known(self, address: str, stamp: str) -> RawFile | None:
        entry = self.files.get(address)
        if entry is None or entry["stamp"] != stamp:
            return None
        return RawFile(address, entry["num_bytes"], entry["sha256"])


def _address(lake: Lake, source: str) -> str:
    return lake.path("artifacts", "_sources", source, "_files", "known.json")
