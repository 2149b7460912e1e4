"""A raw file's bytes through its compression (.gz, .bz2, .zst, .zip with one file in it), as a stream: never whole in memory.

What comes out is capped, so that a small file cannot fill a disk or a night: by `Limits.max_bytes`, and by `Limits.max_ratio`
where a file unpacks to more than text does. Whatever is wrong with a file ends as one SourceError when it is opened or read.
"""

from __future__ import annotations

import gzip
import io
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO, Any, cast

import fsspec
import zstandard

from millrace.errors import SourceError
from millrace.sources.streams import Bz2, Members, Zst

COMPRESSIONS = (".gz", ".bz2", ".zst", ".zip")
"""The ends of names that say how a file is compressed. Content is not looked at: a name that lies is a damaged file."""
_BUFFER_BYTES = 1 << 20
_DIRECTORY_BYTES = 1 << 20  # of a zip with one file
_RATIO_FROM_BYTES = 1024**3
_DAMAGE = (EOFError, OSError, zlib.error, zstandard.ZstdError, zipfile.BadZipFile, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Limits:
    """What a file may unpack to."""

    max_bytes: int = 64 * 1024**3
    """Bytes after decompression, per file. Files that are not compressed have no limit."""
    max_ratio: int = 10_000
    """Bytes that come out for each byte that went in, looked at from 1 GiB on."""


DEFAULT_LIMITS = Limits()


def with_compressions(*suffixes: str) -> tuple[str, ...]:
    """Each suffix plain and with each compression after it."""
    return tuple(suffix + compression for suffix in suffixes for compression in ("", *COMPRESSIONS))


def compression_of(path: str) -> str | None:
    """Which of COMPRESSIONS a name ends in."""
    return next((compression for compression in COMPRESSIONS if path.endswith(compression)), None)


def open_raw(path: str, limits: Limits = DEFAULT_LIMITS, start: int = 0) -> io.BufferedReader:
    """The bytes of a file, decompressed as its name says; several gzip, bz2 or zst members are read one after the other.

    One that is not compressed may be read from byte `start` on.

    Raises SourceError, here or from any read, for a file that cannot be read, is truncated or corrupt, or unpacks to too much.
    """
    file = open_file(path)
    if start:
        file.seek(start)
    return decompress(file, path, compression_of(path), limits)


def open_file(path: str) -> IO[bytes]:
    """The bytes of a file as they lie there. Raises SourceError for one that is not there or may not be read."""
    try:
        return cast(IO[bytes], fsspec.open(path, "rb", compression=None).open())
    except OSError as error:
        raise unreadable(path, error) from None


def decompress(file: IO[bytes], path: str, compression: str | None, limits: Limits = DEFAULT_LIMITS) -> io.BufferedReader:
    """What `file` unpacks to. It is closed with what is returned. `path` is its name in errors; see `open_raw`."""
    counted = _Counted(file)
    try:
        return io.BufferedReader(_Guarded(_unpack(counted, path, compression), counted, path, compression, limits), _BUFFER_BYTES)
    except SourceError:
        file.close()
        raise
    except _DAMAGE as error:
        file.close()
        raise damaged(path, str(error)) from None


def damaged(path: str, what: str) -> SourceError:
    """The error for a file that is not whole."""
    return SourceError(
        "ingest",
        expected=f"a whole file at {path}",
        found=f"that it is damaged ({what})",
        remedy="Fetch it again, then run the night again.",
    )


def unreadable(path: str, error: OSError) -> SourceError:
    """The error for a file that is not there or may not be read."""
    return SourceError("ingest", expected=f"to read {path}", found=error.strerror or str(error), remedy="Check its permissions.")


class _Counted(io.RawIOBase):
    """A file that counts the bytes read from it, and passes seeks on."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self.file, self.num_bytes = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.file.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def read(self, size: int = -1, /) -> bytes:
        data = self.file.read(size)
        self.num_bytes += len(data)
        return data

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self.file.close()
        super().close()


class _Guarded(io.RawIOBase):
    """What `source` gives, up to the limits; its errors are SourceErrors."""

    def __init__(self, source: IO[bytes], counted: _Counted, path: str, compression: str | None, limits: Limits) -> None:
        super().__init__()
        self._source, self._counted, self._path, self._compression = source, counted, path, compression
        self._limits, self._num_bytes = limits, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        try:
            data = self._source.read(len(buffer))
        except _DAMAGE as error:
            raise damaged(self._path, str(error)) from None
        if not data and self._compression is not None and not self._counted.num_bytes:
            raise damaged(self._path, "it is empty")
        self._num_bytes += len(data)
        if self._compression is None:
            pass
        elif self._num_bytes > self._limits.max_bytes:
            self._refuse(f"at most {self._limits.max_bytes:,} bytes in {self._path}", "that it unpacks to more")
        elif self._num_bytes > _RATIO_FROM_BYTES and self._num_bytes > self._limits.max_ratio * self._counted.num_bytes:
            self._refuse(
                f"{self._path} to unpack to at most {self._limits.max_ratio:,} times its size",
                f"{self._num_bytes:,} bytes from the first {self._counted.num_bytes:,}",
            )
        buffer[: len(data)] = data
        return len(data)

    def _refuse(self, expected: str, found: str) -> None:
        raise SourceError(
            "ingest",
            expected=expected,
            found=found,
            remedy="If it is meant to be so large, unpack it first, or raise the source's max_bytes.",
        )

    def close(self) -> None:
        if not self.closed:
            try:
                self._source.close()
            finally:
                self._counted.close()
        super().close()


def _unpack(file: _Counted, path: str, compression: str | None) -> IO[bytes]:
    match compression:
        case ".gz":
            return cast(IO[bytes], gzip.GzipFile(fileobj=cast(IO[bytes], file), mode="rb"))
        case ".bz2":
            return cast(IO[bytes], Members(cast(IO[bytes], file), Bz2))
        case ".zst":
            return cast(IO[bytes], Members(cast(IO[bytes], file), Zst))
        case ".zip":
            return _only_member(file, path)
        case _:
            return cast(IO[bytes], file)


def directory_bytes(file: IO[bytes]) -> int:
    """Bytes of a zip's central directory, as its end says (APPNOTE 4.3.16): zipfile reads all of it into memory."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 65_557))
    tail = file.read()
    file.seek(0)
    place = tail.rfind(b"PK\5\6")
    return int(struct.unpack_from("<I", tail, place + 12)[0]) if place >= 0 and len(tail) >= place + 16 else 0


def _only_member(file: _Counted, path: str) -> IO[bytes]:
    num_bytes = directory_bytes(cast(IO[bytes], file))
    if num_bytes > _DIRECTORY_BYTES:
        raise _no_single_file(path, f"a directory of {num_bytes:,} bytes")
    archive = zipfile.ZipFile(cast(IO[bytes], file))
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) != 1:
        raise _no_single_file(path, f"{len(members)}")
    member = members[0]
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise _no_single_file(path, f"{member.filename}, which is a link or no file")
    if member.flag_bits & 1:
        raise _no_single_file(path, f"{member.filename}, which is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile unpacks the others without bounds
        raise _no_single_file(path, f"{member.filename}, which is not deflated but compressed in another way")
    return archive.open(member)


def _no_single_file(path: str, found: str) -> SourceError:
    return SourceError(
        "ingest", expected=f"one plain file in {path}", found=found, remedy="Unpack it, and give the path of what is in it."
    )
