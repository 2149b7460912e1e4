"""Many small files as rows: in directories and in archives, with columns in their paths (IMDB's train/pos/123_9.txt).

What is a file of the source is told by the end of its name, in archives as in directories: others are passed over, as are names
that start with `.` or `_` or end in .tmp. Each file is then one row. Its path that does not match the pattern, or a content that
cannot be decoded, makes a broken row; what makes an archive refused as a whole stands in `archives`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa

from millrace.config.file_sources import ArchiveLimits
from millrace.contracts.table import TableContract
from millrace.sources.archives import ARCHIVES, Member, check_archive, is_archive, read_members
from millrace.sources.files import is_in_the_making
from millrace.sources.opening import unreadable
from millrace.sources.rows import Row, batches, broken, check_columns, row_schema

RULES = ("path_not_matched", "member_too_large")
_UNIT_BYTES = 32 * 1024**2
_UNIT_FILES = 2_000
_NAME_CHARACTERS = 4_096

Decode = Callable[[bytes], Any]
"""Content to a column's value. Raises ContentError."""


class ContentError(Exception):
    """What is in a file is none of its kind: the rule, the reason, and the record where more can be kept than the path."""

    def __init__(self, rule: str, reason: str, record: bytes | None = None) -> None:
        super().__init__(rule, reason)
        self.rule, self.reason, self.record = rule, reason, record


@dataclass(frozen=True)
class Members:
    """Where the rows are, and which columns their paths hold."""

    pattern: str
    content: str
    suffixes: tuple[str, ...]
    limits: ArchiveLimits

    @property
    def all_suffixes(self) -> tuple[str, ...]:
        """Of files and of archives."""
        return (*self.suffixes, *ARCHIVES)

    def units(self, paths: Sequence[str]) -> list[tuple[str, ...]]:
        """Each archive alone; files of a directory by about 32 MiB or 2,000 of them."""
        units: list[tuple[str, ...]] = [(path,) for path in paths if is_archive(path)]
        unit: list[str] = []
        num_bytes = 0
        for path in (path for path in paths if not is_archive(path)):
            files, name = fsspec.core.url_to_fs(path)
            unit.append(path)
            num_bytes += int(files.info(name)["size"] or 0)
            if num_bytes >= _UNIT_BYTES or len(unit) >= _UNIT_FILES:
                units.append(tuple(unit))
                unit, num_bytes = [], 0
        return [*units, tuple(unit)] if unit else units

    def check(self, unit: tuple[str, ...], contract: TableContract) -> None:
        """Raises ContractError where columns are not the pattern's groups and the content; see also `check_archive`."""
        offered = [*re.compile(self.pattern).groupindex, self.content]
        check_columns(contract, offered, offered, "the source's pattern and content")
        if is_archive(unit[0]):
            check_archive(unit[0], self.limits)

    def read(self, unit: tuple[str, ...], contract: TableContract, kind: pa.DataType, decode: Decode) -> Iterator[pa.RecordBatch]:
        """One row per file of the unit; `kind` is the content's type."""
        yield from batches(self._rows(unit, decode), row_schema(contract, {self.content: kind}))

    def _rows(self, unit: tuple[str, ...], decode: Decode) -> Iterator[Row]:
        # from a slash on: \d+ must not begin within a name
        pattern = re.compile(f"(?:.*/)?(?:{self.pattern})", re.DOTALL)
        for path in unit:
            if not is_archive(path):
                yield self._row(path, path, _read_file(path, self.limits.member_bytes), pattern, decode)
                continue
            for member in read_members(path, self.limits):
                if member.name.endswith(self.suffixes) and not is_in_the_making(member.name):
                    yield self._row(f"{path}!/{member.name}", f"{path}/{member.name}", member, pattern, decode)

    def _row(self, source_file: str, path: str, member: Member, pattern: re.Pattern[str], decode: Decode) -> Row:
        source_file = source_file.encode("utf-8", "backslashreplace").decode()
        columns = _columns(path, pattern)
        if columns is None:
            reason = f"the path does not match the source's pattern, or is no UTF-8: {path[-300:]}"
            return broken(source_file, "path_not_matched", reason.encode("utf-8", "backslashreplace").decode(), path)
        if member.content is None:
            reason = f"{member.num_bytes:,} bytes, where a file has at most {self.limits.member_bytes:,}"
            return broken(source_file, "member_too_large", reason, path)
        try:
            value = decode(member.content)
        except ContentError as bad:
            return broken(source_file, bad.rule, bad.reason, path if bad.record is None else bad.record)
        return Row(source_file, {**columns, self.content: value}, num_bytes=len(value) + len(path) * 2)


@dataclass(frozen=True)
class MembersReader(ABC):
    """Members whose content is of one kind, as a `FileReader`."""

    members: Members

    @abstractmethod
    def kind(self, contract: TableContract) -> pa.DataType:
        """The type of what a content becomes."""

    @abstractmethod
    def decoder(self, contract: TableContract) -> Decode:
        """What makes it of the content. Raises ContractError where the contract's column is none of the kind."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The files' and archives'."""
        return self.members.all_suffixes

    def units(self, paths: Sequence[str]) -> list[tuple[str, ...]]:
        """See `Members.units`."""
        return self.members.units(paths)

    def check(self, unit: tuple[str, ...], contract: TableContract) -> None:
        """See `Members.check` and `decoder`."""
        self.members.check(unit, contract)
        self.decoder(contract)

    def arrow_schema(self, contract: TableContract) -> pa.Schema:
        """What the paths say as text, and the content."""
        return row_schema(contract, {self.members.content: self.kind(contract)})

    def read(self, unit: tuple[str, ...], contract: TableContract) -> Iterator[pa.RecordBatch]:
        """One row per file."""
        return self.members.read(unit, contract, self.kind(contract), self.decoder(contract))


def _columns(path: str, pattern: re.Pattern[str]) -> Mapping[str, str | None] | None:
    if len(path) > _NAME_CHARACTERS or any("\ud800" <= letter <= "\udfff" for letter in path):
        return None
    match = pattern.fullmatch(path)
    return None if match is None else match.groupdict()


def _read_file(path: str, limit: int) -> Member:
    try:
        with fsspec.open(path, "rb", compression=None) as stream:
            content = stream.read(limit + 1)
            return Member(path, len(content), content if len(content) <= limit else None)
    except OSError as error:
        raise unreadable(path, error) from None
