"""CSV by Python's csv module: the definition of what a row is, for headers and for whatever `csv_blocks` does not take."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from millrace.errors import SourceError
from millrace.sources.blocks import TooLong, blocks, lines
from millrace.sources.csv_dialect import Dialect
from millrace.sources.csv_parts import Part
from millrace.sources.opening import damaged, open_raw


class Rows:
    """A file, or a part of one, that is open after its header; a context manager.

    `header` has the names of its fields as the contract calls them. Raises SourceError for what is damaged beyond rows.
    """

    def __init__(self, part: Part, dialect: Dialect) -> None:
        self.header: tuple[str, ...] = dialect.columns or ()
        self._path, self._dialect = part.path, dialect
        if dialect.columns is None and part.start:
            with Rows(Part(part.path), dialect) as beginning:
                self.header = beginning.header
        self._stream = open_raw(part.path, dialect.limits, part.start)
        self._blocks = blocks(
            self._stream,
            dialect.encoding,
            max_row_bytes=dialect.max_row_bytes,
            watched=(dialect.quote or "").encode(),
            is_start=part.start == 0,
            num_bytes=part.num_bytes,
        )
        self._block, self._at = b"", 0  # what `_lines` has last, and how far it is
        if dialect.columns is None and part.start == 0:
            try:
                self.header = self._read_header()
            except BaseException:
                self._stream.close()
                raise

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def blocks(self) -> Iterator[bytes | TooLong]:
        """What is left of the file, in whole lines. `rows` of a block may take more of it."""
        if self._at < len(self._block):
            yield self._block[self._at :]
        yield from self._blocks

    def rows(self, block: bytes) -> Iterator[tuple[list[str], str]]:
        """The rows that begin in a block, each as its fields and as its text. Empty lines are no rows."""
        return ((row, text) for row, text in self._all_rows(block) if row)

    def refuse_long_line(self, line: TooLong) -> None:
        """Raises SourceError for a line above the cap that has a quote: nobody can say any more which rows follow it."""
        if line.has_watched:
            raise self._row_too_long()

    def _read_header(self) -> tuple[str, ...]:
        first = next(self._blocks, b"")
        if isinstance(first, TooLong):
            raise self._row_too_long()
        row, _ = next(self._all_rows(first), ([], ""))
        names = dict(self._dialect.rename)
        return tuple(names.get(name, name) for name in row)

    def _all_rows(self, block: bytes) -> Iterator[tuple[list[str], str]]:
        pending: list[bytes] = []  # lines of the row that is read
        csv.field_size_limit(max(csv.field_size_limit(), self._dialect.max_row_bytes))
        reader = csv.reader(
            self._lines(block, pending),
            delimiter=self._dialect.delimiter,
            quotechar=self._dialect.quote,
            quoting=csv.QUOTE_MINIMAL if self._dialect.quote else csv.QUOTE_NONE,
            skipinitialspace=self._dialect.skip_spaces,
        )
        for row in reader:
            text = self._dialect.encoding.text(b"".join(pending))
            pending.clear()
            yield row, text.rstrip("\r\n")

    def _lines(self, block: bytes, pending: list[bytes]) -> Iterator[str]:
        """Lines for csv's reader, which asks for one more within a row only where a quote is open."""
        num_bytes = 0
        self._block, self._at = block, 0
        while True:
            for line in lines(self._block):
                self._at += len(line)
                num_bytes = num_bytes + len(line) if pending else len(line)
                if num_bytes > self._dialect.max_row_bytes + len(b"\r\n"):
                    raise self._row_too_long()
                pending.append(line)
                yield self._dialect.encoding.text(line)
            if not pending:
                return
            more = next(self._blocks, None)
            if more is None:
                raise damaged(self._path, "it ends within a quoted field")
            if isinstance(more, TooLong):
                raise self._row_too_long()
            self._block, self._at = more, 0

    def _row_too_long(self) -> SourceError:
        return SourceError(
            "ingest",
            expected=f"rows of at most {self._dialect.max_row_bytes:,} bytes in {self._path}",
            found="a longer one with a quote in it, which may never be closed",
            remedy="Mend that row, set the source's quote to null, or raise its max_row_bytes.",
        )
