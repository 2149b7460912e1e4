"""The `source` section: one class for each raw format, so that an option that a format does not have is refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from millrace.config.file_sources import FilesSource, ImagesSource, ParquetSource, TsSource, WarcSource, WetSource
from millrace.config.mixed_sources import MixedSource
from millrace.config.source import Source
from millrace.config.table_sources import DeltaSource, JdbcSource
from millrace.config.text_sources import CsvSource, JsonLinesSource, JsonSource, TextFiles, TextSource

__all__ = [
    "CsvSource",
    "DeltaSource",
    "FilesSource",
    "IdxSource",
    "ImagesSource",
    "JdbcSource",
    "JsonLinesSource",
    "JsonSource",
    "MixedSource",
    "ParquetSource",
    "Source",
    "SourceConfig",
    "TextFiles",
    "TextSource",
    "TsSource",
    "WarcSource",
    "WetSource",
]


class IdxSource(Source):
    """MNIST's pairs of files: columns subset, index, image, digit."""

    format: Literal["idx"]


SourceConfig = Annotated[
    CsvSource
    | JsonLinesSource
    | JsonSource
    | TextSource
    | IdxSource
    | FilesSource
    | ImagesSource
    | ParquetSource
    | DeltaSource
    | WarcSource
    | WetSource
    | TsSource
    | MixedSource
    | JdbcSource,
    Field(discriminator="format"),
]
"""A source, by its format."""
