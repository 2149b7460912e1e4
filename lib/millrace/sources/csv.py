"""CSV and TSV (RFC 4180 and its relatives). Fields are counted: Spark's reader pads short rows and cuts long ones.

A file is read in blocks of whole lines. Arrow parses a block where it means the same by it as Python's csv module
(`csv_blocks.is_plain`), which reads the others (`csv_rows`): the rows are those of Python's, at Arrow's speed where that can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from millrace.contracts.evolution import HEADER, SOURCE, Reconciled, reconcile
from millrace.contracts.packed import Carrier
from millrace.contracts.table import TableContract
from millrace.sources.blocks import TooLong
from millrace.sources.csv_blocks import parse
from millrace.sources.csv_dialect import RFC_4180, Dialect
from millrace.sources.csv_parts import Part, parts
from millrace.sources.csv_rows import Rows
from millrace.sources.csv_typed import TypedBlocks, as_texts, typed_schema
from millrace.sources.encodings import has_marks, shown
from millrace.sources.gather import BATCH_ROWS, Gatherer, Verdict, text_schema
from millrace.sources.opening import with_compressions

SUFFIXES = with_compressions(".csv")
TSV_SUFFIXES = with_compressions(".tsv", ".tab")
_BATCH_ROWS = BATCH_ROWS


@dataclass(frozen=True)
class CsvReader:
    """CSV files as a `FileReader`."""

    dialect: Dialect = RFC_4180
    suffixes: tuple[str, ...] = SUFFIXES

    @property
    def rules(self) -> tuple[str, ...]:
        """What a row may break."""
        return self.dialect.rules

    def units(self, paths: Sequence[str]) -> list[Part]:
        """Files, and parts of big ones: see `parts`."""
        return [part for path in paths for part in parts(path, self.dialect)]

    def check(self, unit: Part, contract: TableContract) -> None:
        """See `check`."""
        if unit.start == 0:
            check(unit.path, contract, self.dialect)

    def arrow_schema(self, contract: TableContract) -> pa.Schema:
        """All as text; an empty field is NULL."""
        return text_schema(contract)

    def read(self, unit: Part, contract: TableContract) -> Iterator[pa.RecordBatch]:
        """See `read_part`."""
        return read_part(unit, contract, self.dialect)

    def typed(self, carrier: Carrier | None = None) -> TypedCsvReader:
        """The same files with typed numbers."""
        return TypedCsvReader(self.dialect, self.suffixes, carrier)


@dataclass(frozen=True)
class TypedCsvReader(CsvReader):
    """The same rows, numbers as such where they are plainly good. See csv_typed."""

    carrier: Carrier | None = None

    def arrow_schema(self, contract: TableContract) -> pa.Schema:
        """See `typed_schema`, and `Carrier.schema`."""
        schema = typed_schema(contract)
        return schema if self.carrier is None else self.carrier.schema(schema)

    def read(self, unit: Part, contract: TableContract) -> Iterator[pa.RecordBatch]:
        """See `read_part`."""
        schema = typed_schema(contract)
        for batch in read_part(unit, contract, self.dialect, typed=True):
            came_typed = batch.schema.equals(schema)
            rows = batch if came_typed else as_texts(batch, contract)
            yield rows if self.carrier is None else self.carrier.packed(rows, came_typed=came_typed)


def check(path: str, contract: TableContract, dialect: Dialect = RFC_4180) -> None:
    """Raises ContractError where the contract refuses the header's columns, or those that the source names."""
    with Rows(Part(path), dialect) as rows:
        columns_of(_names(rows), path, contract, dialect)


def columns_of(header: Sequence[str], path: str, contract: TableContract, dialect: Dialect) -> Reconciled:
    """What the contract's evolution says of a file's columns. Raises ContractError for what it refuses."""
    where, place = (path, HEADER) if dialect.columns is None else ("the source", SOURCE)
    return reconcile(contract, header, where=where, place=place)


def _names(rows: Rows) -> list[str]:
    return [shown(name) for name in rows.header]


def read(path: str, contract: TableContract, dialect: Dialect = RFC_4180) -> Iterator[pa.RecordBatch]:
    """The rows of one file. See `read_part`."""
    return read_part(Part(path), contract, dialect)


def read_part(
    part: Part, contract: TableContract, dialect: Dialect = RFC_4180, *, typed: bool = False
) -> Iterator[pa.RecordBatch]:
    """The rows of a part of a file in `text_schema`, in the file's order; if `typed`, in `typed_schema` where they are plain.

    Raises SourceError where it is damaged beyond its rows (truncated gzip, a quote that is never closed), ContractError where its
    columns are refused.
    """
    with Rows(part, dialect) as rows:
        header = _names(rows)
        verdict = columns_of(header, part.path, contract, dialect)
        judge, gathered = _Judge(header, contract, dialect, verdict), Gatherer(part.path, contract, _BATCH_ROWS)
        parsed = partial(parse, schema=gathered.schema, dialect=dialect, header=header, path=part.path, added=verdict.added)
        has_own = not (verdict.missing or verdict.added)
        plain = TypedBlocks(contract, dialect, header, part.path) if typed and has_own else None
        for block in rows.blocks():
            if isinstance(block, TooLong):
                rows.refuse_long_line(block)
                gathered.add_broken(dialect.verdict_of_length(), block.record)
                continue
            for found in [block] if verdict.rule else _by_arrow(block, plain, parsed):
                if not isinstance(found, bytes):
                    if gathered.num_rows:
                        yield gathered.take()
                    for start in range(0, found.num_rows, _BATCH_ROWS):
                        yield found.slice(start, _BATCH_ROWS)
                    continue
                for row, text in rows.rows(found):
                    judge.add(row, text, gathered)
                    if gathered.is_full:
                        yield gathered.take()
        if gathered.num_rows:
            yield gathered.take()


def _by_arrow(
    block: bytes, plain: TypedBlocks | None, parsed: Callable[[bytes], pa.RecordBatch | None]
) -> Iterator[pa.RecordBatch | bytes]:
    """The rows of a block in its order, where Arrow reads them, and what it does not read."""
    for piece in [block] if plain is None else plain.parts(block):
        read = parsed(piece) if isinstance(piece, bytes) else piece
        yield piece if read is None else read


class _Judge:
    """What a row of Python's csv means."""

    def __init__(self, header: Sequence[str], contract: TableContract, dialect: Dialect, verdict: Reconciled) -> None:
        self._header, self._dialect, self._verdict = header, dialect, verdict
        self._places = [header.index(name) if name in header else None for name in contract.columns]
        self._added = {name: header.index(name) for name in verdict.added}

    def add(self, row: Sequence[str], text: str, gathered: Gatherer) -> None:
        """A row, good or not."""
        broken = self.broken(row, text)
        if broken is None:
            gathered.add(self.values(row), len(text), self.added(row))
        else:
            gathered.add_broken(broken, shown(text))

    def values(self, row: Sequence[str]) -> list[str | None]:
        """The contract's columns; None where the file does not have one."""
        return [None if place is None else self._value(row, place) for place in self._places]

    def added(self, row: Sequence[str]) -> dict[str, str | None]:
        """The columns that the contract does not have."""
        return {name: self._value(row, place) for name, place in self._added.items()}

    def broken(self, row: Sequence[str], text: str) -> Verdict | None:
        """What is wrong with a row."""
        if len(row) != len(self._header):
            return self._dialect.verdict_of_count(len(row), self._header)
        if self._verdict.broken is not None:
            return self._verdict.broken
        if has_marks(text):
            return self._dialect.encoding.rule, self._dialect.encoding.reason
        return None

    def _value(self, row: Sequence[str], place: int) -> str | None:
        return None if row[place] in self._dialect.null_values else row[place]
