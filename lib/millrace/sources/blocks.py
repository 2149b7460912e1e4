"""A file's lines in blocks of some MiB: UTF-8, cut where a line ends (\\n, \\r\\n or \\r). Memory holds no line above a cap."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from millrace.sources.encodings import Encoding
from millrace.sources.gather import Verdict

MAX_ROW_BYTES = 16 * 1024**2
"""The default cap of a line and of a row."""
_PIECE_BYTES = 1024**2
_HEAD_BYTES = 1000
_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n?|\n")


@dataclass(frozen=True)
class TooLong:
    """A line above the cap. Only its beginning is kept."""

    head: bytes
    has_watched: bool
    """Whether the byte that was asked for is anywhere in it."""

    @property
    def record(self) -> str:
        """What can be stored of it."""
        return self.head.decode("utf-8", "ignore") + " …"


def blocks(
    stream: IO[bytes],
    encoding: Encoding,
    *,
    max_row_bytes: int = MAX_ROW_BYTES,
    watched: bytes = b"",
    is_start: bool = True,
    num_bytes: int | None = None,
) -> Iterator[bytes | TooLong]:
    """The next `num_bytes` of the stream (all by default) in whole lines; a byte-order mark at a file's start is left out.

    `watched` is a character that is looked for in lines that are too long, as a quote: their text is gone, what it did is not.
    """
    pieces = encoding.transcode(stream, piece_bytes=min(_PIECE_BYTES, max(1, max_row_bytes // 2)), num_bytes=num_bytes)
    carry = b""  # a line whose end is still to come
    skipped: TooLong | None = None  # the line above the cap that is being passed over
    for piece in _without_mark(pieces) if is_start else pieces:
        data = carry + piece
        if skipped is not None:
            end = _LINE_END.search(data)
            passed = data if end is None else data[: end.start()]
            skipped = TooLong(skipped.head, skipped.has_watched or (watched != b"" and watched in passed))
            if end is None:
                continue
            yield skipped
            skipped, data = None, data[end.end() :]
        cut = _cut(data, max_row_bytes)
        if cut:
            yield from _within(data[:cut], max_row_bytes, watched)
        carry = data[cut:]
        if len(carry) > max_row_bytes:
            skipped, carry = TooLong(carry[: min(_HEAD_BYTES, max_row_bytes)], watched != b"" and watched in carry), b""
    if skipped is not None:
        yield skipped
    elif carry:
        yield from _within(carry, max_row_bytes, watched)


def _without_mark(pieces: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= len(_BOM):
            break
    if head := head.removeprefix(_BOM):
        yield head
    yield from pieces


def _cut(data: bytes, max_row_bytes: int) -> int:
    cut = data.rfind(b"\n") + 1
    if len(data) - cut > max_row_bytes:  # a \r ends a line too, if it is not half of a \r\n that is still to come
        return max(cut, data.rfind(b"\r", 0, len(data) - 1) + 1)
    return cut


def line_too_long(max_row_bytes: int) -> Verdict:
    """What is wrong with a line above the cap."""
    return "line_too_long", f"a line of more than {max_row_bytes:,} bytes, of which only the beginning is kept"


def lines(block: bytes) -> Iterator[bytes]:
    """The lines of a block with their ends."""
    for line in io.BytesIO(block):
        if b"\r" in line:
            yield from line.splitlines(keepends=True)
        else:
            yield line


def _within(block: bytes, max_row_bytes: int, watched: bytes) -> Iterator[bytes | TooLong]:
    if len(block) <= max_row_bytes:
        yield block
        return
    short: list[bytes] = []
    for line in lines(block):
        if len(line.rstrip(b"\r\n")) <= max_row_bytes:
            short.append(line)
            continue
        if short:
            yield b"".join(short)
            short = []
        yield TooLong(line[: min(_HEAD_BYTES, max_row_bytes)], watched != b"" and watched in line)
    if short:
        yield b"".join(short)
