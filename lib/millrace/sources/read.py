"""A source as Spark sees it: its files, checked before anything is written, and their rows as a DataFrame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from millrace.config.models import SourceConfig
from millrace.contracts.table import TableContract
from millrace.errors import MillraceError, WireError
from millrace.sources import csv, idx
from millrace.sources.files import list_files

_FORMATS: dict[str, Any] = {"csv": csv, "idx": idx}


def files_of(config: SourceConfig, path: str) -> list[str]:
    """The files at `path` in the source's format."""
    return list_files(path, _FORMATS[config.format].SUFFIXES)


def units_of(config: SourceConfig, paths: Sequence[str]) -> list[Any]:
    """What is read at once: a file, or for idx a pair of files. Raises SourceError for half a pair."""
    return idx.pairs(list(paths)) if config.format == "idx" else list(paths)


def check_files(config: SourceConfig, paths: Sequence[str], contract: TableContract) -> None:
    """Raises SourceError or ContractError for what the files' first bytes already show to be wrong."""
    for unit in units_of(config, paths):
        _FORMATS[config.format].check(unit, contract)


def read_rows(spark: SparkSession, config: SourceConfig, paths: Sequence[str], contract: TableContract) -> DataFrame:
    """One row per raw row: the contract's columns as the format gives them, _source_file; if broken _rule, _reason, _record.

    A file that is damaged beyond its rows ends the Spark job with a SourceError inside Spark's own: `errors.find_in` gets it.
    """
    units, reader = units_of(config, paths), _FORMATS[config.format]
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
