"""JSON: one object a line (JSON lines), or a document of one array of objects or one object. A row is an object."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from millrace.contracts.evolution import OBJECT, Reconciled, reconcile
from millrace.contracts.table import TableContract
from millrace.errors import SourceError
from millrace.sources.blocks import MAX_ROW_BYTES, TooLong, blocks, line_too_long, lines
from millrace.sources.encodings import Encoding, has_marks, shown
from millrace.sources.gather import Gatherer, text_schema
from millrace.sources.json_values import MAX_DEPTH, RULES, BrokenRowError, elements, parse_line, row_of
from millrace.sources.opening import DEFAULT_LIMITS, Limits, open_raw, with_compressions

LINES_SUFFIXES = with_compressions(".jsonl", ".ndjson")
SUFFIXES = with_compressions(".json")


@dataclass(frozen=True)
class JsonOptions:
    """How the files are read."""

    encoding: Encoding = field(default_factory=Encoding)
    rename: tuple[tuple[str, str], ...] = ()
    """Keys, and what the contract calls them."""
    max_row_bytes: int = MAX_ROW_BYTES
    max_document_bytes: int = 64 * 1024**2
    """Of a document, which is read whole."""
    limits: Limits = DEFAULT_LIMITS

    @property
    def rules(self) -> tuple[str, ...]:
        """What a row may break."""
        return (*RULES, self.encoding.rule)


DEFAULTS = JsonOptions()
_USUAL = Reconciled()


@dataclass(frozen=True)
class JsonLinesReader:
    """JSON lines as a `FileReader`."""

    options: JsonOptions = DEFAULTS
    suffixes: tuple[str, ...] = LINES_SUFFIXES

    @property
    def rules(self) -> tuple[str, ...]:
        """What a row may break."""
        return self.options.rules

    def units(self, paths: Sequence[str]) -> list[str]:
        """Whole files."""
        return list(paths)

    def check(self, unit: str, contract: TableContract) -> None:
        """Raises ContractError where the contract refuses the keys of the first object."""
        options = self.options
        with open_raw(unit, options.limits) as stream:
            first = next(blocks(stream, options.encoding, max_row_bytes=options.max_row_bytes), b"")
        if isinstance(first, bytes):
            rows = _Rows(unit, contract, options)
            for line in lines(first):
                if line.strip():
                    rows.add_line(line)
                    return

    def arrow_schema(self, contract: TableContract) -> pa.Schema:
        """All as text: numbers as they are written, objects and arrays as JSON; null is NULL."""
        return text_schema(contract)

    def read(self, unit: str, contract: TableContract) -> Iterator[pa.RecordBatch]:
        """The rows of a file. Raises SourceError where it is damaged, ContractError for keys that the contract refuses."""
        options = self.options
        rows = _Rows(unit, contract, options)
        with open_raw(unit, options.limits) as stream:
            for block in blocks(stream, options.encoding, max_row_bytes=options.max_row_bytes):
                if isinstance(block, TooLong):
                    rows.gathered.add_broken(line_too_long(options.max_row_bytes), block.record)
                    continue
                for line in lines(block):
                    if line.strip():  # an empty line is no row
                        rows.add_line(line)
                    if rows.gathered.is_full:
                        yield rows.gathered.take()
        if rows.gathered.num_rows:
            yield rows.gathered.take()


@dataclass(frozen=True)
class JsonReader:
    """JSON documents as a `FileReader`."""

    options: JsonOptions = DEFAULTS
    suffixes: tuple[str, ...] = SUFFIXES

    @property
    def rules(self) -> tuple[str, ...]:
        """What a row may break."""
        return self.options.rules

    def units(self, paths: Sequence[str]) -> list[str]:
        """Whole files."""
        return list(paths)

    def check(self, unit: str, contract: TableContract) -> None:  # noqa: ARG002 (a document shows its keys when it is read)
        """Raises SourceError where a file does not begin as an array or an object does."""
        with open_raw(unit, self.options.limits) as stream:
            first = next(self.options.encoding.transcode(stream, piece_bytes=1000), b"")
        begin = first.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        if begin not in (b"[", b"{") and (begin or len(first) < 1000):
            raise _broken(unit, f"{shown(self.options.encoding.text(begin)) or 'nothing'} where an array or an object begins")

    def arrow_schema(self, contract: TableContract) -> pa.Schema:
        """As JSON lines give it."""
        return text_schema(contract)

    def read(self, unit: str, contract: TableContract) -> Iterator[pa.RecordBatch]:
        """The rows of a file. Raises SourceError where it is broken or too large, ContractError for keys that are refused."""
        rows = _Rows(unit, contract, self.options)
        try:
            for value, text in elements(self._document(unit)):
                rows.add(value, text)
                if rows.gathered.is_full:
                    yield rows.gathered.take()
        except json.JSONDecodeError as error:
            raise _broken(unit, f"{error.msg} at line {error.lineno}, character {error.colno}") from None
        except RecursionError:
            raise _broken(unit, f"something nested more than {MAX_DEPTH} deep") from None
        if rows.gathered.num_rows:
            yield rows.gathered.take()

    def _document(self, path: str) -> str:
        options, pieces, num_bytes = self.options, [], 0
        with open_raw(path, options.limits) as stream:
            for piece in options.encoding.transcode(stream, piece_bytes=1024**2):
                pieces.append(piece)
                num_bytes += len(piece)
                if num_bytes > options.max_document_bytes:
                    raise SourceError(
                        "ingest",
                        expected=f"a JSON document of at most {options.max_document_bytes:,} bytes in {path}",
                        found="a larger one",
                        remedy="Write it as JSON lines, or raise the source's max_document_bytes.",
                    )
        return options.encoding.text(b"".join(pieces)).removeprefix("\ufeff")


class _Rows:
    """Objects of one file on their way into batches."""

    def __init__(self, path: str, contract: TableContract, options: JsonOptions) -> None:
        self._path, self._contract, self._options = path, contract, options
        self._rename = dict(options.rename)
        self.gathered = Gatherer(path, contract)

    def add_line(self, line: bytes) -> None:
        """A line of JSON lines."""
        text = self._options.encoding.text(line).strip()
        try:
            value = parse_line(text, self._options.encoding)
        except BrokenRowError as error:
            self.gathered.add_broken(error.verdict, shown(text))
        else:
            self.add(value, text)

    def add(self, value: Any, text: str) -> None:
        """A value with its text."""
        try:
            if has_marks(text):
                raise BrokenRowError((self._options.encoding.rule, self._options.encoding.reason))
            found = row_of(value, self._rename)
            verdict = self._reconciled(found.keys())
            if verdict.broken is not None:
                raise BrokenRowError(verdict.broken)
        except BrokenRowError as error:
            self.gathered.add_broken(error.verdict, shown(text))
        else:
            values = [found.get(name) for name in self._contract.columns]
            self.gathered.add(values, len(text), {name: found[name] for name in verdict.added})

    def _reconciled(self, names: Collection[str]) -> Reconciled:
        is_usual = names == self._contract.columns.keys()
        return _USUAL if is_usual else reconcile(self._contract, names, where=self._path, place=OBJECT)


def _broken(path: str, found: str) -> SourceError:
    return SourceError(
        "ingest",
        expected=f"a JSON document in {path}: an array of objects, or one object",
        found=found,
        remedy="Mend the file, then run the night again.",
    )
