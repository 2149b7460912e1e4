"""WARC records out of a stream of bytes (ISO 28500:2017), each bounded in memory, with a way on after one that is broken.

    version      WARC/1.0 or WARC/1.1
    fields       NAME: VALUE, one a line, then an empty line
    block        Content-Length bytes
    end          empty lines

Lines may end in LF alone, and one empty line or none may follow a block: such files are about. Where a header or a length is
wrong, what follows is searched for the next line that is a version; what lies before it is one broken record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO

from millrace.sources.opening import damaged
from millrace.sources.rows import RECORD_CHARACTERS

_VERSION = re.compile(rb"WARC/1\.[01][ \t]*\r?\n")
_ANY_VERSION = re.compile(rb"(?:^|\n)WARC/1\.[01][ \t]*\r?\n")
_EMPTY = (b"\r\n", b"\n")
_LINE_BYTES = 64 * 1024
_HEADER_BYTES = 1024**2
_PIECE_BYTES = 1024**2


@dataclass(frozen=True)
class Record:
    """One record. `rule` and `reason` say what is wrong with it; `shown` is the beginning of what was found instead."""

    fields: Mapping[str, str] = field(default_factory=dict)
    """By name in lower case."""
    block: bytes = b""
    rule: str | None = None
    reason: str = ""
    shown: bytes = b""


RULES = ("broken_header", "wrong_length", "record_too_large")


def read_records(stream: IO[bytes], path: str, record_bytes: int) -> Iterator[Record]:
    """The records of a WARC file in its order, of whatever type. Raises SourceError where it is truncated."""
    source = _Source(stream)
    while line := source.next_line():
        header = _read_header(source, line, path)
        if header.rule is not None:
            yield source.resync(header.rule, header.reason, header.shown)
            continue
        length = int(header.fields["content-length"])
        if length > record_bytes:
            _skip(source, length, path)
            reason = f"{length:,} bytes, where a record has at most {record_bytes:,}"
            yield Record(header.fields, rule="record_too_large", reason=reason, shown=_shown(header.fields))
            if not _at_border(source):
                raise damaged(path, "a record of another length than its header says, too large to look into")
            continue
        block = source.read(length)
        if len(block) == length and _at_border(source):
            yield Record(header.fields, block)
            continue
        if len(block) < length and not _ANY_VERSION.search(block):
            raise damaged(path, f"it ends {length - len(block):,} bytes before its last record does")
        source.unread(block)
        yield source.resync("wrong_length", f"another length than Content-Length: {length}", _shown(header.fields))


class _Source:
    """A stream with a way back."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._back, self._at = stream, b"", 0

    def unread(self, data: bytes) -> None:
        begin = self._at - len(data)
        if begin >= 0 and self._back.startswith(data, begin):  # a copy for each record of a long way back would take hours
            self._at = begin
        else:
            self._back, self._at = data + self._back[self._at :], 0

    def read(self, size: int) -> bytes:
        data = self._back[self._at : self._at + size]
        self._at += len(data)
        return data + self._stream.read(size - len(data)) if len(data) < size else data

    def readline(self, size: int = _LINE_BYTES) -> bytes:
        if self._at == len(self._back):
            return self._stream.readline(size)
        end = self._back.find(b"\n", self._at, self._at + size)
        data = self._back[self._at : end + 1 if end >= 0 else self._at + size]
        self._at += len(data)
        if end < 0 and len(data) < size:
            data += self._stream.readline(size - len(data))
        return data

    def next_line(self) -> bytes:
        """The next line that is not empty; nothing at the end."""
        while (line := self.readline()) in _EMPTY:
            pass
        return line

    def resync(self, rule: str, reason: str, shown: bytes) -> Record:
        """Goes on to the next line that is a version. What lies before it is the broken record."""
        starts_line = True
        while line := self.readline():
            if starts_line and _VERSION.fullmatch(line):
                self.unread(line)
                break
            starts_line = line.endswith(b"\n")
            shown = shown if len(shown) >= RECORD_CHARACTERS else shown + line
        return Record(rule=rule, reason=reason, shown=shown)


def _read_header(source: _Source, version: bytes, path: str) -> Record:
    """The fields of a record, or what is wrong with them."""
    if _is_cut(version):
        raise damaged(path, "it ends within a record's header")
    if not _VERSION.fullmatch(version):
        return Record(rule="broken_header", reason="it does not begin with WARC/1.0 or WARC/1.1", shown=version)
    fields: dict[str, str] = {}
    shown, name = version, ""
    while (line := source.readline()) not in _EMPTY:
        if _is_cut(line):
            raise damaged(path, "it ends within a record's header")
        shown += line
        text = line.decode("utf-8", "backslashreplace")
        if line[:1] in b" \t" and name:
            fields[name] += f" {text.strip()}"
            continue
        name, colon, value = text.partition(":")
        name = name.strip().lower()
        if not colon or not name or len(shown) > _HEADER_BYTES or _VERSION.fullmatch(line):
            source.unread(line)
            return Record(rule="broken_header", reason=f"{text.strip()[:80]!r} is no NAME: VALUE", shown=shown[: -len(line)])
        fields.setdefault(name, value.strip())
    if not re.fullmatch(r"[0-9]{1,15}", fields.get("content-length", "")):
        found = fields.get("content-length")
        reason = "it has no Content-Length" if found is None else f"Content-Length is {found[:40]!r}"
        return Record(rule="broken_header", reason=reason, shown=shown)
    return Record(fields)


def _is_cut(line: bytes) -> bool:
    return not line.endswith(b"\n") and len(line) < _LINE_BYTES


def _at_border(source: _Source) -> bool:
    """Whether a record may end here: what follows are its two empty lines, or another record, or nothing."""
    first, second = source.readline(), source.readline()
    if first in _EMPTY and second in _EMPTY:
        return True
    source.unread(first + second)
    line = source.next_line()
    source.unread(line)
    return not line or line.startswith(b"WARC/")


def _skip(source: _Source, length: int, path: str) -> None:
    left = length
    while left:
        piece = source.read(min(left, _PIECE_BYTES))
        if not piece:
            raise damaged(path, f"it ends {left:,} bytes before its last record does")
        left -= len(piece)


def _shown(fields: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\n" for name, value in fields.items()).encode()
