"""Plain text: a row is a line, a paragraph or a whole file, with a label from the file's name where it has one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from millrace.contracts.table import TableContract
from millrace.errors import ContractError, SourceError
from millrace.sources.blocks import MAX_ROW_BYTES, TooLong, blocks, line_too_long, lines
from millrace.sources.encodings import Encoding, has_marks, shown
from millrace.sources.gather import Gatherer, Verdict, text_schema
from millrace.sources.opening import DEFAULT_LIMITS, Limits, open_raw, with_compressions

SUFFIXES = with_compressions(".txt")
TEXT, LINE_NUMBER = "text", "line_number"
Unit = Literal["line", "paragraph", "file"]


@dataclass(frozen=True)
class Labels:
    """A column whose value is in a file's address."""

    column: str
    pattern: str
    """A regular expression with one group, looked for in the address."""

    def of(self, path: str) -> str:
        """The label. Raises SourceError where the address has none."""
        found = re.search(self.pattern, path)
        if found is None or found.group(1) is None:
            raise SourceError(
                "ingest",
                expected=f"a name that {self.pattern} finds a label in",
                found=path,
                remedy="Mend the source's labels.pattern, or its path.",
            )
        return str(found.group(1))


@dataclass(frozen=True)
class TextOptions:
    """How the files are read."""

    unit: Unit = "line"
    encoding: Encoding = field(default_factory=Encoding)
    labels: Labels | None = None
    max_row_bytes: int = MAX_ROW_BYTES
    limits: Limits = DEFAULT_LIMITS


LINES = TextOptions()


@dataclass(frozen=True)
class TextReader:
    """Text files as a `FileReader`.

    The columns are `text` (without the line end of its last line), `line_number` (from 1, of its first line) and the label's, as
    many of them as the contract has. Lines of white space alone are no rows; paragraphs are what stands between them.
    """

    options: TextOptions = LINES
    suffixes: tuple[str, ...] = SUFFIXES

    @property
    def rules(self) -> tuple[str, ...]:
        """What a row may break."""
        return (self.options.encoding.rule, self._too_long()[0])

    def units(self, paths: Sequence[str]) -> list[str]:
        """Whole files."""
        return list(paths)

    def check(self, unit: str, contract: TableContract) -> None:
        """Raises ContractError for a column that text does not have, SourceError for a file that has no label or is not there."""
        known = [TEXT, LINE_NUMBER, *([self.options.labels.column] if self.options.labels else [])]
        strange = [name for name in contract.columns if name not in known]
        if strange:
            raise ContractError(
                "ingest",
                expected=f"no columns in {contract.name} but {', '.join(known)}",
                found=", ".join(strange),
                remedy="Mend the contract, or give the source labels.",
            )
        if self.options.labels is not None:
            self.options.labels.of(unit)
        with open_raw(unit, self.options.limits) as stream:
            stream.read(1)

    def arrow_schema(self, contract: TableContract) -> pa.Schema:
        """All as text."""
        return text_schema(contract)

    def read(self, unit: str, contract: TableContract) -> Iterator[pa.RecordBatch]:
        """The rows of a file. Raises SourceError where it is damaged."""
        options = self.options
        label = options.labels.of(unit) if options.labels else None
        gathered = Gatherer(unit, contract)
        for line_number, data in self._rows(unit):
            if isinstance(data, TooLong):
                gathered.add_broken(self._too_long(), data.record)
                continue
            text = options.encoding.text(data)
            if has_marks(text):
                gathered.add_broken((options.encoding.rule, options.encoding.reason), shown(text))
            else:
                values = {TEXT: text, LINE_NUMBER: str(line_number)}
                if options.labels is not None:
                    values[options.labels.column] = str(label)
                gathered.add([values[name] for name in contract.columns], len(text))
            if gathered.is_full:
                yield gathered.take()
        if gathered.num_rows:
            yield gathered.take()

    def _too_long(self) -> Verdict:
        unit, max_row_bytes = self.options.unit, self.options.max_row_bytes
        if unit == "line":
            return line_too_long(max_row_bytes)
        return f"{unit}_too_long", f"a {unit} of more than {max_row_bytes:,} bytes, of which only the beginning is kept"

    def _rows(self, path: str) -> Iterator[tuple[int, bytes | TooLong]]:
        """The number of each row's first line, and its bytes as UTF-8."""
        unit, max_row_bytes = self.options.unit, self.options.max_row_bytes
        row = _Row(max_row_bytes)
        with open_raw(path, self.options.limits) as stream:
            for number, line in enumerate(_lines_of(blocks(stream, self.options.encoding, max_row_bytes=max_row_bytes)), 1):
                is_blank = isinstance(line, bytes) and not line.strip()
                if unit == "file" or not is_blank:
                    row.add(number, line)
                if row.first and (unit == "line" or (unit == "paragraph" and is_blank)):
                    yield row.take()
        if row.first and unit != "file":
            yield row.take()
        elif unit == "file":
            yield row.take(is_whole=True)


class _Row:
    """Lines that make a row, no more of them than the cap."""

    def __init__(self, max_row_bytes: int) -> None:
        self._max_row_bytes = max_row_bytes
        self._clear()

    def _clear(self) -> None:
        self.first = 0
        """The number of its first line; 0 where there is none yet."""
        self._lines: list[bytes] = []
        self._num_bytes = 0
        self._too_long: TooLong | None = None

    def add(self, number: int, line: bytes | TooLong) -> None:
        """One more line."""
        self.first = self.first or number
        if self._too_long is not None:
            return
        if isinstance(line, TooLong):
            self._too_long = line if not self._lines else TooLong(self._head(), False)
            return
        self._lines.append(line)
        self._num_bytes += len(line)
        if self._num_bytes > self._max_row_bytes + len(b"\r\n"):
            self._too_long, self._lines = TooLong(self._head(), False), []

    def take(self, *, is_whole: bool = False) -> tuple[int, bytes | TooLong]:
        """Number and bytes, without the last line's end unless the row is a whole file."""
        data = b"".join(self._lines)
        found = self.first or 1, self._too_long or (data if is_whole else data.rstrip(b"\r\n"))
        self._clear()
        return found

    def _head(self) -> bytes:
        return b"".join(self._lines)[:1000]


def _lines_of(found: Iterator[bytes | TooLong]) -> Iterator[bytes | TooLong]:
    for block in found:
        if isinstance(block, TooLong):
            yield block
        else:
            yield from lines(block)
