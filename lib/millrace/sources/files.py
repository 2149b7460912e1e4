"""The raw files that a source's path means, and what identifies each."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import fsspec

from millrace.errors import SourceError
from millrace.lake.ledger import RawFile
from millrace.sources.encodings import has_marks, shown
from millrace.sources.opening import COMPRESSIONS, unreadable

UNREAD = (".7z", ".Z", ".br", ".bzip2", ".gzip", ".lz4", ".lzma", ".lzo", ".rar", ".snappy", ".sz", ".xz", ".zlib", ".zstd")
"""Ends of names that say that a file is compressed in a way, or called in one, that nothing here reads."""

_YOUNG_SECONDS = 2.0
_TELLING = ("mtime", "ETag", "etag", "LastModified", "last_modified", "updated", "generation")
"""What local and remote file systems call that which changes whenever a file does."""
_STAMPED = ("size", "created", "ino", *_TELLING)


def list_files(path: str, suffixes: tuple[str, ...]) -> list[str]:
    """The files at `path` (a file, a directory or a glob), sorted; none where nothing is there.

    Of a directory only names that end in one of `suffixes` count. A name that ends in .tmp, or starts with `.` or `_` (or is in a
    directory whose name does, as Spark's _temporary), is a file in the making and passed over. Raises SourceError for a file that
    would count if it were not compressed in another way than those that are read, and for a name that is not in UTF-8.
    """
    files, root = fsspec.core.url_to_fs(path)
    is_directory = files.isdir(root)
    if is_directory:
        found = list(files.find(root))
    else:
        found = [root] if files.isfile(root) else [name for name in files.glob(root) if files.isfile(name)]
    base = root if is_directory else re.split(r"[*?[]", root)[0].rpartition("/")[0]  # what the user has named is not judged
    kept = [name for name in found if not is_in_the_making(name.removeprefix(base))]
    counted = tuple(suffix + packed for suffix in suffixes for packed in (*UNREAD, *COMPRESSIONS))
    unread = counted if is_directory else UNREAD
    _refuse([name for name in kept if name.endswith(unread) and not name.endswith(suffixes)], suffixes)
    if is_directory:
        kept = [name for name in kept if name.endswith(suffixes)]
    _refuse_marks(kept)
    return sorted(files.unstrip_protocol(name) if "://" in path else name for name in kept)


def relative_path(root: str, path: str) -> str:
    """A file's place under what a source's path names: the directory, or the one that the file or the glob lies in."""
    top, name = (fsspec.core.url_to_fs(each)[1] for each in (root, path))
    fixed = re.split(r"[*?[]", top)[0]
    base = fixed.rpartition("/")[0] if fixed != top or name == top else fixed.rstrip("/")
    return str(name.removeprefix(f"{base}/"))


def _refuse_marks(names: list[str]) -> None:
    """A name that is no text can stand in no table."""
    strange = [shown(name) for name in names if has_marks(name)]
    if strange:
        remedy = "Rename it, for example with `convmv -f gb18030 -t utf-8`."
        raise SourceError("ingest", expected="names of files in UTF-8", found=_first_of(strange), remedy=remedy)


def _first_of(names: list[str]) -> str:
    return min(names) + (f", and {len(names) - 1} more" if len(names) > 1 else "")


def _refuse(names: list[str], suffixes: tuple[str, ...]) -> None:
    if names:
        raise SourceError(
            "ingest",
            expected=f"names that end in {', '.join(suffixes)}",
            found=f"{_first_of(names)}, compressed in a way that is not read",
            remedy="Unpack what is compressed otherwise, compress it as one of these, or move it out of source.path.",
        )


def is_in_the_making(name: str) -> bool:
    """Whether a name, or a directory in it, is one of files that are still written."""
    return name.endswith(".tmp") or any(part.startswith((".", "_")) for part in name.split("/"))


def exists(path: str) -> bool:
    """Whether there is a file."""
    files, name = fsspec.core.url_to_fs(path)
    return bool(files.isfile(name))


def stamps(paths: Sequence[str]) -> dict[str, str]:
    """For each file whose system tells when it changes, a hash of what it says.

    Files younger than two seconds are left out: a change in the same tick of a coarse clock would not show.
    """
    found = {}
    for path in paths:
        files, name = fsspec.core.url_to_fs(path)
        files.invalidate_cache(name)
        try:
            info = files.info(name)
        except OSError:
            continue
        if any(info.get(field) for field in _TELLING) and not _is_young(info.get("mtime")):
            told = [(field, str(info[field])) for field in _STAMPED if info.get(field)]
            found[path] = hashlib.sha256(repr(told).encode()).hexdigest()
    return found


def _is_young(changed_at: Any) -> bool:
    seconds = changed_at.timestamp() if isinstance(changed_at, datetime) else changed_at
    return isinstance(seconds, int | float) and time.time() - seconds < _YOUNG_SECONDS


def identify(paths: list[str]) -> tuple[RawFile, ...]:
    """Size and SHA-256 of each file. Raises SourceError for one that cannot be read."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        return tuple(pool.map(_identify, paths))


def _identify(path: str) -> RawFile:
    digest, num_bytes = hashlib.sha256(), 0
    try:
        with fsspec.open(path, "rb", compression=None) as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
                num_bytes += len(block)
    except OSError as error:
        raise unreadable(path, error) from None
    return RawFile(path, num_bytes, digest.hexdigest())
