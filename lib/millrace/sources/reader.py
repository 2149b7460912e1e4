"""What a raw format is to everything else.

Most formats lie in files, and need a `FileReader` only; what a database or a table gives is a `RawSource` of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from millrace.contracts.table import TableContract
from millrace.lake.ledger import RawFile

REJECTS = ("_rule", "_reason", "_record")
"""Of a row that is broken: the rule that it breaks, the reason for people, the raw row as text. NULL in a good row."""


class FileReader(Protocol):
    """One format of files, with the options that a pipeline gave it. Frozen, and small: it travels to the executors."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """How names of such files end; in a directory others are passed over."""

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that a row may break while it is read."""

    def units(self, paths: Sequence[str]) -> list[Any]:
        """What one task reads: files, pairs of files, parts of a file. Cheap: it looks at names and sizes at most.

        Raises SourceError where files do not go together."""

    def check(self, unit: Any, contract: TableContract) -> None:
        """Raises SourceError or ContractError for what the first bytes already show to be wrong."""

    def arrow_schema(self, contract: TableContract) -> pa.Schema:
        """The contract's columns as the format gives them (text, or the contract's type), _source_file, and REJECTS."""

    def read(self, unit: Any, contract: TableContract) -> Iterator[pa.RecordBatch]:
        """The rows of a unit in that schema. Memory is bounded whatever the file says. Raises SourceError where a file is damaged
        beyond its rows."""


class RawSource(Protocol):
    """Raw rows of any kind, and what identifies them."""

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that a row may break while it is read."""

    def find(self, path: str) -> list[str]:
        """The addresses of what is there, sorted."""

    def exists(self, address: str) -> bool:
        """Whether what an address means is still there."""

    def identify(self, addresses: Sequence[str]) -> tuple[RawFile, ...]:
        """What each is: a night's rows are told by it from another's. Raises SourceError for one that cannot be read."""

    def stamps(self, addresses: Sequence[str]) -> dict[str, str]:
        """For what can be told by something cheaper than its content, a text that is another one when the content has changed."""

    def check(self, addresses: Sequence[str], contract: TableContract) -> None:
        """Raises SourceError or ContractError for what can be seen to be wrong before anything is read or written."""

    def rows(self, spark: SparkSession, addresses: Sequence[str], contract: TableContract) -> DataFrame:
        """One row per raw row: the contract's columns, _source_file, and REJECTS where it is broken.

        A file that is damaged beyond its rows ends the Spark job with a SourceError inside Spark's own: `errors.find_in` gets it.
        """
