"""Files of a run: written under a temporary name, then renamed, so that nobody reads half of one."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from millrace.errors import LakeError

UNFINISHED = ".tmp"
"""How the name of a file ends that is being written, or whose writer was killed."""

PART_BYTES = 16 * 1024**2
"""What is read or written at once of a file that may be large."""

_REMEDY = "Run the step that writes it, with --force."


def write_bytes(uri: str, content: bytes) -> None:
    """Writes `content` to `uri`, whole or not at all, and on this machine's disks for good. Raises OSError."""
    write_parts(uri, [content])


def write_parts(uri: str, parts: Iterable[bytes | memoryview]) -> None:
    """`write_bytes` of parts, one after the other. The next part, of about PART_BYTES, is asked for when the one before is on
    the disk or on its way to the store, so that whoever gives them sees how the work goes on. Raises OSError."""
    files, target = fsspec.core.url_to_fs(uri)
    unfinished = f"{target}.{uuid.uuid4().hex}{UNFINISHED}"
    if isinstance(files, LocalFileSystem):
        _write_local(Path(target), Path(unfinished), parts)
        return
    files.makedirs(target.rpartition("/")[0], exist_ok=True)
    num_bytes = 0
    with files.open(unfinished, "wb", block_size=PART_BYTES) as stream:
        for part in parts:
            stream.write(part)
            num_bytes += memoryview(part).nbytes
    _refuse_torn(unfinished, num_bytes, files.size(unfinished))
    files.mv(unfinished, target)


def read_parts(uri: str) -> Iterator[bytes]:
    """The content of a file in parts of PART_BYTES. Raises OSError."""
    files, path = fsspec.core.url_to_fs(uri)
    with files.open(path, "rb") as stream:
        while part := stream.read(PART_BYTES):
            yield part


def _refuse_torn(path: str, written: int, found: int | None) -> None:
    """Raises OSError where a store has kept less than it was given. None: it does not say."""
    if found is not None and found != written:
        raise OSError(f"{path} has {found:,} bytes of {written:,} that were written")


def _write_local(target: Path, unfinished: Path, parts: Iterable[bytes | memoryview]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        num_bytes = 0
        with unfinished.open("wb") as stream:
            for part in parts:
                stream.write(part)
                num_bytes += memoryview(part).nbytes
                stream.flush()
                os.fsync(stream.fileno())
        _refuse_torn(str(unfinished), num_bytes, unfinished.stat().st_size)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    directory = os.open(target.parent, os.O_RDONLY)  # the rename itself must reach the disk too
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_text(uri: str, text: str) -> None:
    """Writes `text` to `uri`, whole or not at all."""
    write_bytes(uri, text.encode())


def write_json(uri: str, value: Any) -> None:
    """Writes `value` as JSON to `uri`, whole or not at all."""
    write_text(uri, json.dumps(value, indent=1, sort_keys=True) + "\n")


def read_text(uri: str) -> str:
    """The text at `uri`. Raises LakeError where there is none."""
    files, path = fsspec.core.url_to_fs(uri)
    try:
        return str(files.cat_file(path).decode())
    except FileNotFoundError:
        raise LakeError("artifacts", expected=f"the file {uri}", found="none", remedy=_REMEDY) from None


def read_json(uri: str) -> Any:
    """The JSON at `uri`. Raises LakeError where there is none."""
    try:
        return json.loads(read_text(uri))
    except ValueError as error:
        raise LakeError("artifacts", expected=f"JSON in {uri}", found=str(error), remedy=_REMEDY) from None


def names(directory: str) -> list[str]:
    """What lies in a directory, sorted; nothing where there is none."""
    files, path = fsspec.core.url_to_fs(directory)
    files.invalidate_cache()
    return (
        sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in files.ls(path, detail=False)) if files.exists(path) else []
    )


def remove(uri: str) -> None:
    """Removes a file; that it is gone already is fine."""
    files, path = fsspec.core.url_to_fs(uri)
    with suppress(FileNotFoundError):
        files.rm_file(path)


def remove_directory(uri: str) -> None:
    """Removes a directory with all that is in it; that it is gone already is fine."""
    files, path = fsspec.core.url_to_fs(uri)
    with suppress(FileNotFoundError):
        files.rm(path, recursive=True)
