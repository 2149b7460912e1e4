"""The SHA-256 of an export, as registry/models keeps it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from millrace.errors import ExportError

_READ_BYTES = 1024 * 1024


def sha256_of(path: Path) -> str:
    """64 hex digits over an export's content.

    A file: the SHA-256 of its bytes, as `sha256sum` prints it. A directory: the SHA-256 of one line "DIGEST  PATH\\n" for each
    file below it, sorted by its path relative to the directory; in the directory the same comes from
    `find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum`.
    Raises ExportError where nothing is at `path`.
    """
    if path.is_file():
        return _of_file(path)
    if not path.is_dir():
        raise ExportError("checksum", expected=f"an export at {path}", found="nothing there", remedy="Publish the run again.")
    files = {found.relative_to(path).as_posix(): found for found in path.rglob("*") if found.is_file()}
    lines = [f"{_of_file(files[name])}  {name}\n" for name in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
