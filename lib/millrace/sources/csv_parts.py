"""Parts of a big CSV file, cut where a row ends, so that several tasks share it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import fsspec

from millrace.sources.csv_blocks import has_plain_quotes
from millrace.sources.csv_dialect import Dialect
from millrace.sources.opening import compression_of, open_raw, unreadable

PART_BYTES = 64 * 1024**2
_READ_BYTES = 8 * 1024**2


@dataclass(frozen=True)
class Part:
    """Bytes of a file: from `start` (0 is with the header) to before `end` (None is the file's end)."""

    path: str
    start: int = 0
    end: int | None = None

    @property
    def num_bytes(self) -> int | None:
        """How many, where that is known."""
        return None if self.end is None else self.end - self.start


def parts(path: str, dialect: Dialect) -> list[Part]:
    """The parts of a file: of one that is compressed, small or not UTF-8, one.

    Where fields may be quoted the file is read, once and as a stream, for a cut may not lie within a quoted field: from the first
    block on where that cannot be told at a glance, as with a line end in a field, the rest is one part.
    Raises SourceError where it cannot be read.
    """
    if compression_of(path) is not None or not dialect.encoding.is_utf8:
        return [Part(path)]
    try:
        files, name = fsspec.core.url_to_fs(path)
        num_bytes = int(files.size(name))
    except OSError as error:
        raise unreadable(path, error) from None
    if num_bytes < 2 * PART_BYTES:
        return [Part(path)]
    cuts = [0, *_cuts(path, dialect, num_bytes)]
    return [Part(path, start, end) for start, end in zip(cuts, [*cuts[1:], None], strict=True)]


def _cuts(path: str, dialect: Dialect, num_bytes: int) -> Iterator[int]:
    """Ascending places, about PART_BYTES apart, at which a row begins."""
    if dialect.quote is None:
        yield from _cuts_without_quotes(path, num_bytes)
        return
    place, last = 0, 0
    carry = b""
    with open_raw(path) as stream:
        while num_bytes - last >= 2 * PART_BYTES:
            data = carry + stream.read(_READ_BYTES)
            end = data.rfind(b"\n") + 1
            if not end or not has_plain_quotes(data[:end], dialect.quote, dialect.delimiter):
                return
            place, carry = place + end, data[end:]
            if place - last >= PART_BYTES:
                yield place
                last = place


def _cuts_without_quotes(path: str, num_bytes: int) -> Iterator[int]:
    last = 0
    while num_bytes - last >= 2 * PART_BYTES:
        with open_raw(path, start=last + PART_BYTES) as stream:
            line = stream.readline(_READ_BYTES)
        if not line.endswith(b"\n"):
            return
        last += PART_BYTES + len(line)
        yield last
