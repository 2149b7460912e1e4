"""Text encodings: whatever a file is in, its readers see UTF-8, and bytes that mean nothing in it are marked, never dropped.

A mark is a lone surrogate, U+DC00 + byte (PEP 383), which no encoding has for a character.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

_MARKS = re.compile("[\ud800-\udfff]")
_HANDLER = "millrace.mark"


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(
    _HANDLER, _mark
)  # Python's surrogateescape gives up at a byte below 128, which UTF-16 and GBK can stumble over


@dataclass(frozen=True)
class Encoding:
    """An encoding by a name that Python knows."""

    name: str = "utf-8"

    @property
    def is_utf8(self) -> bool:
        """Whether bytes are read as they are."""
        return codecs.lookup(self.name).name in ("utf-8", "utf-8-sig")

    @property
    def rule(self) -> str:
        """The rule that a row with a mark breaks."""
        return "not_utf8" if self.is_utf8 else "not_" + re.sub(r"[^a-z0-9]+", "_", codecs.lookup(self.name).name)

    @property
    def reason(self) -> str:
        """What is wrong with such a row."""
        return f"bytes that are no {'UTF-8' if self.is_utf8 else self.name}"

    def transcode(self, stream: IO[bytes], *, piece_bytes: int, num_bytes: int | None = None) -> Iterator[bytes]:
        """The next `num_bytes` of the stream (all of it by default) as UTF-8, in pieces; marks in it are as `text` reads them."""
        decoder = None if self.is_utf8 else codecs.getincrementaldecoder(self.name)(errors=_HANDLER)
        is_whole = False
        while not is_whole:
            size = piece_bytes if num_bytes is None else min(piece_bytes, num_bytes)
            piece = stream.read(size)
            is_whole = not piece
            if num_bytes is not None:
                num_bytes -= len(piece)
            if decoder is not None:
                piece = decoder.decode(piece, final=is_whole).encode("utf-8", "surrogatepass")
            if piece:
                yield piece

    def text(self, data: bytes) -> str:
        """Bytes of `transcode`, cut at a character, as text."""
        return data.decode("utf-8", "surrogateescape" if self.is_utf8 else "surrogatepass")


def has_marks(text: str) -> bool:
    """Whether there is a lone surrogate: a byte that was no text, or half a character."""
    return not text.isascii() and _MARKS.search(text) is not None


def shown(text: str) -> str:
    """Text that can be stored: lone surrogates as \\udcff."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
