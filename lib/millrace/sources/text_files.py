"""Text files with labels in their paths, in directories and archives: one text (or its bytes) a row. See `members`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from millrace.config.file_sources import FilesSource
from millrace.contracts.table import TableContract
from millrace.sources import members
from millrace.sources.members import ContentError, Members
from millrace.sources.rows import check_type, row_schema

RULES = (*members.RULES, "wrong_encoding")


@dataclass(frozen=True)
class TextFilesReader:
    """Text files as a `FileReader`."""

    members: Members
    encoding: str
    rules: tuple[str, ...] = RULES

    @classmethod
    def of(cls, config: FilesSource) -> TextFilesReader:
        """By a pipeline's section."""
        return cls(Members(config.pattern, config.content, config.suffixes, config.limits), config.encoding)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The files' and archives'."""
        return self.members.all_suffixes

    def units(self, paths: Sequence[str]) -> list[tuple[str, ...]]:
        """See `Members.units`."""
        return self.members.units(paths)

    def check(self, unit: tuple[str, ...], contract: TableContract) -> None:
        """See `Members.check`."""
        self.members.check(unit, contract)
        check_type(contract, self.members.content, ("string", "binary"))

    def arrow_schema(self, contract: TableContract) -> pa.Schema:
        """What the paths say as text, the content in the contract's type."""
        return row_schema(contract, {self.members.content: self._kind(contract)})

    def read(self, unit: tuple[str, ...], contract: TableContract) -> Iterator[pa.RecordBatch]:
        """One row per file."""
        kind = self._kind(contract)
        return self.members.read(unit, contract, kind, bytes if kind == pa.binary() else self._text)

    def _kind(self, contract: TableContract) -> pa.DataType:
        return contract.columns[self.members.content].data_type.to_arrow()

    def _text(self, content: bytes) -> str:
        encoding = "utf-8-sig" if self.encoding.lower().replace("_", "-") in ("utf-8", "utf8") else self.encoding
        try:
            return content.decode(encoding)
        except UnicodeError as error:
            reason = f"bytes that are no {self.encoding}"
            if isinstance(error, UnicodeDecodeError):
                reason += f", at {error.start}"
            raise ContentError("wrong_encoding", reason, content) from None
