"""A source as Spark sees it: what it has, checked before anything is written, and its rows as a DataFrame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from millrace.config.sources import CsvSource, IdxSource, JsonLinesSource, JsonSource, SourceConfig, TextFiles, TextSource
from millrace.contracts.table import TableContract
from millrace.errors import MillraceError, WireError
from millrace.lake.ledger import RawFile
from millrace.sources import csv, json, text
from millrace.sources.csv import CsvReader
from millrace.sources.csv_dialect import Dialect
from millrace.sources.encodings import Encoding
from millrace.sources.files import identify, list_files
from millrace.sources.idx import IdxReader
from millrace.sources.json import JsonLinesReader, JsonOptions, JsonReader
from millrace.sources.opening import Limits, with_compressions
from millrace.sources.reader import FileReader, RawSource
from millrace.sources.text import Labels, TextOptions, TextReader


def source_of(config: SourceConfig) -> RawSource:
    """The source that a pipeline names."""
    match config:
        case CsvSource():
            return FileSource(_csv_reader(config))
        case JsonLinesSource():
            return FileSource(JsonLinesReader(_json_options(config), _suffixes(config, json.LINES_SUFFIXES)))
        case JsonSource():
            return FileSource(JsonReader(_json_options(config), _suffixes(config, json.SUFFIXES)))
        case TextSource():
            return FileSource(_text_reader(config))
        case IdxSource():
            return FileSource(IdxReader())


def _csv_reader(config: CsvSource) -> CsvReader:
    dialect = Dialect(
        delimiter=config.delimiter,
        quote=config.quote,
        encoding=Encoding(config.encoding),
        columns=config.columns,
        rename=tuple(config.rename.items()),
        null_values=config.null_values,
        skip_spaces=config.skip_spaces,
        max_row_bytes=config.max_row_bytes,
        limits=Limits(config.max_bytes),
    )
    return CsvReader(dialect, _suffixes(config, csv.TSV_SUFFIXES if config.delimiter == "\t" else csv.SUFFIXES))


def _json_options(config: JsonSource | JsonLinesSource) -> JsonOptions:
    return JsonOptions(
        encoding=Encoding(config.encoding),
        rename=tuple(config.rename.items()),
        max_row_bytes=config.max_row_bytes,
        max_document_bytes=config.max_document_bytes if isinstance(config, JsonSource) else config.max_row_bytes,
        limits=Limits(config.max_bytes),
    )


def _text_reader(config: TextSource) -> TextReader:
    options = TextOptions(
        unit=config.unit,
        encoding=Encoding(config.encoding),
        labels=Labels(config.labels.column, config.labels.pattern) if config.labels else None,
        max_row_bytes=config.max_row_bytes,
        limits=Limits(config.max_bytes),
    )
    return TextReader(options, _suffixes(config, text.SUFFIXES))


def _suffixes(config: TextFiles, usual: tuple[str, ...]) -> tuple[str, ...]:
    return usual if config.suffixes is None else with_compressions(*config.suffixes)


@dataclass(frozen=True)
class FileSource:
    """Files in one format."""

    reader: FileReader

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that a row may break while it is read."""
        return self.reader.rules

    def find(self, path: str) -> list[str]:
        """The files at `path` in the source's format."""
        return list_files(path, self.reader.suffixes)

    def identify(self, addresses: Sequence[str]) -> tuple[RawFile, ...]:
        """Size and SHA-256 of each file."""
        return identify(list(addresses))

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
