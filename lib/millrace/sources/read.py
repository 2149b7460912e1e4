"""A source as Spark sees it: what it has, checked before anything is written, and its rows as a DataFrame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from millrace.config.sources import DeltaSource, JdbcSource, MixedSource, SourceConfig
from millrace.contracts.packed import Carrier
from millrace.contracts.table import TableContract
from millrace.errors import MillraceError, WireError
from millrace.lake.ledger import RawFile
from millrace.sources.csv import CsvReader
from millrace.sources.delta import DeltaTableSource
from millrace.sources.files import exists, identify, list_files, stamps
from millrace.sources.idx import IdxReader
from millrace.sources.images import ImagesReader
from millrace.sources.jdbc import JdbcTable
from millrace.sources.mixed import MixedReader
from millrace.sources.parquet import ParquetReader
from millrace.sources.reader import FileReader, RawSource
from millrace.sources.text_files import TextFilesReader
from millrace.sources.text_readers import csv_reader, json_lines_reader, json_reader, text_reader
from millrace.sources.ts import TsReader
from millrace.sources.warc import WarcReader

_READERS: Mapping[str, Callable[[Any], FileReader]] = MappingProxyType(
    {
        "csv": csv_reader,
        "jsonl": json_lines_reader,
        "json": json_reader,
        "text": text_reader,
        "idx": lambda _: IdxReader(),
        "files": TextFilesReader.of,
        "images": ImagesReader.of,
        "parquet": lambda _: ParquetReader(),
        "warc": WarcReader.of,
        "wet": WarcReader.of,
        "ts": TsReader.of,
    }
)
"""How a reader of files is made of the section that asks for it, by its format."""


def source_of(config: SourceConfig, night: str | None = None) -> RawSource:
    """The source that a pipeline names. A database is read for a `night`; what lies in files is the same for each."""
    match config:
        case DeltaSource():
            return DeltaTableSource.of(config)
        case JdbcSource():
            assert night is not None, "a database is read for a night"
            return JdbcTable.of(config, night)
        case MixedSource():
            parts = [(part.format, part, _READERS[part.format](part)) for part in config.parts]
            return FileSource(MixedReader.of(parts), ignore=config.ignore)
        case _:
            return FileSource(_READERS[config.format](config))


def typed(raw: RawSource, carrier: Carrier | None = None) -> RawSource | None:
    """The same rows with numbers that are typed where they are read (contracts.texts), which travel as that says; None where the
    format has no such way."""
    return FileSource(raw.reader.typed(carrier)) if isinstance(raw, FileSource) and type(raw.reader) is CsvReader else None


@dataclass(frozen=True)
class FileSource:
    """Files in one format, or in several that one reader knows."""

    reader: FileReader
    ignore: tuple[str, ...] = ()
    """How names of files end that are passed over."""

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that a row may break while it is read."""
        return self.reader.rules

    def find(self, path: str) -> list[str]:
        """The files at `path` in the source's format."""
        return [name for name in list_files(path, self.reader.suffixes) if not name.endswith(self.ignore)]

    def exists(self, address: str) -> bool:
        """Whether the file is still there."""
        return exists(address)

    def identify(self, addresses: Sequence[str]) -> tuple[RawFile, ...]:
        """Size and SHA-256 of each file."""
        return identify(list(addresses))

    def stamps(self, addresses: Sequence[str]) -> dict[str, str]:
        """What the file system says of each file."""
        return stamps(addresses)

    def check(self, addresses: Sequence[str], contract: TableContract) -> None:
        """Raises SourceError or ContractError for what the files' first bytes already show to be wrong."""
        for unit in self.reader.units(addresses):
            self.reader.check(unit, contract)

    def rows(self, spark: SparkSession, addresses: Sequence[str], contract: TableContract) -> DataFrame:
        """One task for each unit of the files."""
        reader, units = self.reader, self.reader.units(addresses)
        schema: pa.Schema = reader.arrow_schema(contract)

        def read(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
            for batch in batches:
                for number in batch.column(0).to_pylist():
                    try:
                        yield from reader.read(units[number], contract)
                    except MillraceError as error:
                        raise WireError(error) from None

        numbers = spark.range(0, len(units), 1, max(1, len(units)))
        return numbers.mapInArrow(read, from_arrow_schema(schema))
