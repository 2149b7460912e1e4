"""Text files with labels in their paths, in directories and archives: one text (or its bytes) a row. See `members`."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from millrace.config.file_sources import FilesSource
from millrace.contracts.table import TableContract
from millrace.sources import members
from millrace.sources.members import ContentError, Decode, Members, MembersReader
from millrace.sources.rows import check_type

RULES = (*members.RULES, "wrong_encoding")


@dataclass(frozen=True)
class TextFilesReader(MembersReader):
    """Text files as a `FileReader`: texts, or their bytes where the contract's column is binary."""

    encoding: str
    rules: tuple[str, ...] = RULES

    @classmethod
    def of(cls, config: FilesSource) -> TextFilesReader:
        """By a pipeline's section."""
        return cls(Members(config.pattern, config.content, config.suffixes, config.limits), config.encoding)

    def kind(self, contract: TableContract) -> pa.DataType:
        """The contract's type."""
        return contract.columns[self.members.content].data_type.to_arrow()

    def decoder(self, contract: TableContract) -> Decode:
        """By the encoding. Raises ContractError where the column is neither string nor binary."""
        check_type(contract, self.members.content, ("string", "binary"))
        return bytes if self.kind(contract) == pa.binary() else self._text

    def _text(self, content: bytes) -> str:
        encoding = "utf-8-sig" if self.encoding.lower().replace("_", "-") in ("utf-8", "utf8") else self.encoding
        try:
            return content.decode(encoding)
        except UnicodeError as error:
            reason = f"bytes that are no {self.encoding}"
            if isinstance(error, UnicodeDecodeError):
                reason += f", at {error.start}"
            raise ContentError("wrong_encoding", reason, content) from None
