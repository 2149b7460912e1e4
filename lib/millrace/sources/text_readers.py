"""The readers of text formats, as a pipeline's `source` section asks for them."""

from __future__ import annotations

from millrace.config.text_sources import CsvFormat, JsonFormat, JsonLinesFormat, TextFiles, TextFormat
from millrace.sources import csv, json, text
from millrace.sources.csv import CsvReader
from millrace.sources.csv_dialect import Dialect
from millrace.sources.encodings import Encoding
from millrace.sources.json import JsonLinesReader, JsonOptions, JsonReader
from millrace.sources.opening import Limits, with_compressions
from millrace.sources.text import Labels, TextOptions, TextReader


def csv_reader(config: CsvFormat) -> CsvReader:
    """CSV and TSV."""
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


def json_reader(config: JsonFormat) -> JsonReader:
    """JSON documents."""
    return JsonReader(_json_options(config), _suffixes(config, json.SUFFIXES))


def json_lines_reader(config: JsonLinesFormat) -> JsonLinesReader:
    """JSON lines."""
    return JsonLinesReader(_json_options(config), _suffixes(config, json.LINES_SUFFIXES))


def _json_options(config: JsonFormat | JsonLinesFormat) -> JsonOptions:
    return JsonOptions(
        encoding=Encoding(config.encoding),
        rename=tuple(config.rename.items()),
        max_row_bytes=config.max_row_bytes,
        max_document_bytes=config.max_document_bytes if isinstance(config, JsonFormat) else config.max_row_bytes,
        limits=Limits(config.max_bytes),
    )


def text_reader(config: TextFormat) -> TextReader:
    """Plain text."""
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
