"""Members of tar and zip archives, one after the other: nothing is ever written to a disk, and no archive is held in memory.

An archive is refused as a whole (SecurityError) where it looks made to do harm: a name that is absolute or has `..` in it, a
link, a device, a sparse file, an encrypted member, more members or bytes than the limits allow. It is refused as damaged
(SourceError) where it is truncated, where its checksums are wrong, and where two members have one name, of which one would be
lost elsewhere. A member that is only too large by itself is handed on without its content: one row for quarantine.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, NoReturn, cast

from millrace.config.file_sources import ArchiveLimits
from millrace.errors import MillraceError, SecurityError, SourceError
from millrace.sources.opening import Limits, damaged, decompress, directory_bytes, open_file

_COMPRESSIONS = {
    ".tar": None,
    ".tar.gz": ".gz",
    ".tgz": ".gz",
    ".tar.bz2": ".bz2",
    ".tbz2": ".bz2",
    ".tar.zst": ".zst",
    ".tzst": ".zst",
}
ARCHIVES = (*_COMPRESSIONS, ".zip")
"""How names of archives end."""
_HEADER_BYTES = 1024**2
_ROOM_BYTES = 16 * 1024**2  # padding at the end, and what is read ahead
_DIRECTORY_BYTES = 64 * 1024**2
_BLOCK = tarfile.BLOCKSIZE
_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RecursionError)


@dataclass(frozen=True)
class Member:
    """A regular file; `./` before its name is left out. `content` is None where it has more bytes than one may have."""

    name: str
    num_bytes: int
    content: bytes | None


def is_archive(path: str) -> bool:
    """Whether a name is an archive's."""
    return path.endswith(ARCHIVES)


def read_members(path: str, limits: ArchiveLimits) -> Iterator[Member]:
    """The regular files of an archive in its order. Raises SourceError or SecurityError as the module says."""
    yield from _walk(path, limits, with_content=True)


def check_archive(path: str, limits: ArchiveLimits) -> None:
    """Looks at names and kinds before anything is read: of all members of a .tar or .zip, of the first of a compressed tar."""
    for _ in _walk(path, limits, with_content=False):
        if not path.endswith((".tar", ".zip")):
            return


def _walk(path: str, limits: ArchiveLimits, *, with_content: bool) -> Iterator[Member]:
    guard = _Guard(path, limits)
    with open_file(path) as file:
        try:
            if path.endswith(".zip"):
                yield from _zip(file, guard, with_content)
            else:
                yield from _tar(file, guard, with_content)
        except MillraceError:
            raise
        except _DAMAGE as error:
            raise damaged(path, str(error) or type(error).__name__) from None


class _Guard:
    """What has been seen of one archive, against its limits."""

    def __init__(self, path: str, limits: ArchiveLimits) -> None:
        self.path, self.limits = path, limits
        self.num_bytes = 0
        self._seen: set[bytes] = set()

    def admit(self, name: str, num_bytes: int, kind: str) -> None:
        """Refuses a member by its name, its kind ("" for a regular file or a directory) and what there was before it."""
        shown = name.encode("utf-8", "backslashreplace").decode()[:200]
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or ".." in parts or "\0" in name:
            self.refuse("names that stay within the archive", f"a member called {shown!r}")
        if kind:
            self.refuse("files and directories only", f"{shown!r}, which is {kind}")
        self.num_bytes += num_bytes
        if self.num_bytes > self.limits.total_bytes:
            self.refuse(f"at most {self.limits.total_bytes:,} bytes", "more", "or raise limits.total_bytes")
        digest = hashlib.blake2b(posixpath.normpath(name).encode("utf-8", "surrogateescape"), digest_size=16).digest()
        if digest in self._seen:
            raise SourceError(
                "ingest",
                expected=f"each member once in {self.path}",
                found=f"two called {shown!r}",
                remedy="Pack it again, with one of them.",
            )
        self._seen.add(digest)
        if len(self._seen) > self.limits.members:
            self.refuse(f"at most {self.limits.members:,} members", "more", "or raise limits.members")

    def refuse(self, expected: str, found: str, way_out: str = "") -> NoReturn:
        """Raises SecurityError."""
        raise SecurityError(
            "ingest",
            expected=f"{expected} in {self.path}",
            found=found,
            remedy=f"Nothing of it was read. If it can be trusted, pack it again{f', {way_out}' if way_out else ''}.",
        )


class _Header(tarfile.TarInfo):
    """A header that is bounded, and notes whether the end mark came: tarfile takes garbage and truncation for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _HEADERS and header.size > _HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {header.size:,} bytes")
        return header

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Header:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            cast(_Tar, archive).has_end = True
            raise


class _Tar(tarfile.TarFile):
    has_end = False


class _Stream:
    """Bytes without seeking backwards, which is all that tarfile needs: `seek` reads on, at most to where a member ends."""

    def __init__(self, source: Any) -> None:
        self._source, self._at = source, 0

    def read(self, size: int) -> bytes:
        data = bytes(self._source.read(size))
        self._at += len(data)
        return data

    def tell(self) -> int:
        return self._at

    def seek(self, position: int) -> None:
        while self._at < position:
            if not self.read(min(position - self._at, 1 << 20)):
                raise tarfile.ReadError("unexpected end of data")


def _tar(file: IO[bytes], guard: _Guard, with_content: bool) -> Iterator[Member]:
    compression = next(kind for suffix, kind in _COMPRESSIONS.items() if guard.path.endswith(suffix))
    # headers and padding count too, hence the room; the members' own bytes are counted exactly
    limits = Limits(max_bytes=guard.limits.total_bytes + guard.limits.members * 4 * _BLOCK + _ROOM_BYTES)
    stream = _Stream(decompress(file, guard.path, compression, limits))
    archive = _Tar(fileobj=cast(Any, stream), mode="r", tarinfo=_Header, errorlevel=2)
    while (header := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]  # it would keep every header
        if header.size < 0:
            raise tarfile.ReadError("a member of less than 0 bytes")
        guard.admit(header.name, header.size if header.isreg() else 0, _kind_of(header))
        if not header.isreg():
            continue
        if not with_content or header.size > guard.limits.member_bytes:
            yield Member(posixpath.normpath(header.name), header.size, None)
            continue
        content = stream.read(header.size)
        if len(content) != header.size:
            raise tarfile.ReadError("unexpected end of data")
        yield Member(posixpath.normpath(header.name), header.size, content)
    if not archive.has_end:
        raise tarfile.ReadError("it ends without an end mark")
    while rest := stream.read(1 << 20):  # also has the checksum looked at, which comes last
        if rest.strip(b"\0"):
            raise tarfile.ReadError("there is more after its end mark")


def _kind_of(header: tarfile.TarInfo) -> str:
    if header.issym() or header.islnk():
        return "a link"
    if header.isdev():
        return "a device"
    if header.issparse():
        return "a sparse file"
    return "" if header.type in (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE) else f"of the unknown kind {header.type!r}"


def _zip(file: IO[bytes], guard: _Guard, with_content: bool) -> Iterator[Member]:
    _check_directory(file, guard)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        for member in members:
            guard.admit(member.orig_filename, member.file_size, _kind_of_zip(member))
            if member.flag_bits & 1:
                guard.refuse("members that are not encrypted", f"{member.filename!r}, which is encrypted")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # the others are unpacked without bounds
                guard.refuse("deflated members", f"{member.filename!r}, which is compressed in another way")
        for member in members:
            if member.is_dir():
                continue
            if not with_content or member.file_size > guard.limits.member_bytes:
                yield Member(_name_of_zip(member), member.file_size, None)
                continue
            with archive.open(member) as stream:
                content = stream.read(member.file_size)
                if len(content) != member.file_size or stream.read(1):
                    raise zipfile.BadZipFile(f"{member.filename!r} has another size than its header says")
            yield Member(_name_of_zip(member), member.file_size, content)


def _name_of_zip(member: zipfile.ZipInfo) -> str:
    """A name that does not say that it is in UTF-8 is taken for it all the same; the bytes of another encoding are marked as in
    tar's names. (zipfile would have it in IBM's code page 437, in which each byte is a letter.)"""
    name = member.filename
    if not member.flag_bits & 0x800 and not name.isascii():
        with suppress(UnicodeEncodeError):  # the name of a field beside, which is in UTF-8
            name = name.encode("cp437").decode("utf-8", "surrogateescape")
    return posixpath.normpath(name)


def _kind_of_zip(member: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "a link"
    return "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "a device"


def _check_directory(file: IO[bytes], guard: _Guard) -> None:
    """Refuses a central directory that would fill the memory, before zipfile reads it whole."""
    num_bytes = directory_bytes(file)
    if num_bytes > _DIRECTORY_BYTES:
        guard.refuse(f"a directory of at most {_DIRECTORY_BYTES:,} bytes", f"one of {num_bytes:,}")
