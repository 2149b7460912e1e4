"""Decoded row groups on a local disk, for epochs and runs to come: Petastorm's cache interface, with a key that holds everything.

Petastorm's own disk cache leaves columns and file time out of its key, and unpickles what it finds. Here an entry is a file named
by the SHA-256 of its key, with a checksum, written aside and renamed: a torn or damaged one counts as absent. Writers of all
processes take one lock (flock, which the system frees when its holder dies), so that the directory never holds more than
`max_bytes`; readers take none, and what they have mapped stays readable when it is evicted. Only this user may write to it.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from petastorm.cache import CacheBase

from millrace.errors import ConfigError, SecurityError
from millrace.loading.columns import RowGroupColumns
from millrace.loading.wire import pack, unpack

_FORMAT = "millrace-rows-1"  # changes with the layout of the files, and with what decoding makes of a column
_HEAD = struct.Struct("<16sQQ")  # format, bytes of the content, CRC-32 of the content
_CONTENT_BEGIN = 64
_LOW_WATER = 0.9  # eviction goes down to this part of the limit, so that not every new entry evicts


class RowGroupCache(CacheBase):  # type: ignore[misc]  # Petastorm has no type hints
    """Row groups by key, at most `max_bytes` of them, shared by all processes that name the same directory."""

    def __init__(self, directory: str, max_bytes: int) -> None:
        """Raises ConfigError where the directory cannot be made or written to, SecurityError where others could write to it."""
        self._directory, self._max_bytes = Path(directory), max_bytes
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_foreign(self._directory)
            self._lock_file().touch()
        except OSError as error:
            raise ConfigError(
                "load",
                expected=f"cache_directory {directory} to be a local directory that can be written to",
                found=str(error),
                remedy="Name another directory, or leave cache_directory out.",
            ) from error

    def get(self, key: str, fill_cache_func: Callable[[], RowGroupColumns]) -> RowGroupColumns:
        """The entry of `key`; where there is none, what `fill_cache_func` gives, which is kept. A full disk keeps nothing."""
        path = self._directory / f"{hashlib.sha256(f'{_FORMAT}|{key}'.encode()).hexdigest()}.rows"
        found = _read(path, key)
        if found is not None:
            return found
        columns = fill_cache_func()
        with suppress(OSError):
            self._write(path, pack(columns, {"key": key}))
        return columns

    def _write(self, path: Path, content: memoryview) -> None:
        size = _CONTENT_BEGIN + content.nbytes
        if size > self._max_bytes:
            return
        head = _HEAD.pack(_FORMAT.encode(), content.nbytes, zlib.crc32(content)).ljust(_CONTENT_BEGIN, b"\0")
        with self._locked() as total:
            if total() + size > self._max_bytes:
                self._evict(int(_LOW_WATER * self._max_bytes) - size)
            partial = self._directory / "partial"  # only the holder of the lock writes, so one name is enough
            try:
                with partial.open("wb") as file:
                    file.write(head)
                    file.write(content)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)

    def _evict(self, limit: int) -> None:
        """Removes what was used longest ago until at most `limit` bytes are left."""
        entries = sorted((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in self._entries())
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total <= limit:
                return
            Path(path).unlink(missing_ok=True)
            total -= size

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        with os.scandir(self._directory) as found:
            yield from (entry for entry in found if entry.name.endswith(".rows"))

    @contextmanager
    def _locked(self) -> Iterator[Callable[[], int]]:
        """Alone among all processes and threads that write; gives what tells the bytes of all entries."""
        with self._lock_file().open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lambda: sum(entry.stat().st_size for entry in self._entries())

    def _lock_file(self) -> Path:
        return self._directory / "lock"


def _refuse_foreign(directory: Path) -> None:
    """Raises SecurityError where others could put rows there: an entry's checksum is for damage, and anybody can compute it."""
    found = directory.stat()
    writable = stat.S_IMODE(found.st_mode) & (stat.S_IWGRP | stat.S_IWOTH)
    if found.st_uid != os.getuid() or writable:
        raise SecurityError(
            "load",
            expected=f"cache_directory {directory} to be this user's own, and nobody else's to write to",
            found=f"mode {stat.S_IMODE(found.st_mode):03o}, owner {found.st_uid} where this user is {os.getuid()}",
            remedy="Name a directory that is not there yet, which is made with mode 700; or chmod go-w one of your own.",
        )


def _read(path: Path, key: str) -> RowGroupColumns | None:
    """The columns of an entry, mapped and not copied; None where it is absent or damaged. Marks it as used now."""
    try:
        with path.open("rb") as file:
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        name, size, checksum = _HEAD.unpack_from(mapped)
        content = mapped[_CONTENT_BEGIN:]
        if (name.rstrip(b"\0").decode(), content.nbytes, zlib.crc32(content)) != (_FORMAT, size, checksum):
            return None
        columns, fields = unpack(content)
        os.utime(path)
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None
    return columns if fields.get("key") == key else None
