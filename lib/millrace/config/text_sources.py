"""Sources of text in files: CSV, JSON, plain text."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from millrace.config.encodings import EncodingName
from millrace.config.section import Column, Positive, Section
from millrace.config.source import Source

Verbatim = Annotated[str, StringConstraints(strip_whitespace=False)]
Character = Annotated[str, StringConstraints(strip_whitespace=False, min_length=1, max_length=1)]


class TextFiles(Section):
    """What all formats have that are text in files. Files may be compressed: .gz, .bz2, .zst, .zip with one file in it."""

    encoding: EncodingName = "utf-8"
    """A name that Python knows, such as gb18030, latin-1 or utf-16. A byte-order mark at a file's start is left out."""
    suffixes: tuple[Annotated[str, Field(pattern=r"^\..+$")], ...] | None = None
    """How names of files in a directory end, instead of the format's own; each also with .gz, .bz2, .zst or .zip behind it."""
    max_row_bytes: int = Field(16 * 1024**2, ge=1024, le=1024**3)
    """A line or row of more bytes (as UTF-8) is quarantined, or ends the night where nobody can say where it ends."""
    max_bytes: Positive = 64 * 1024**3
    """What a compressed file may unpack to; more ends the night."""


class CsvFormat(TextFiles):
    """Texts in lines and fields (RFC 4180). The first line names the columns, unless `columns` does."""

    format: Literal["csv"]
    delimiter: Character = ","
    """What stands between fields: one character; "\\t" for TSV."""
    quote: Character | None = '"'
    """What encloses a field that has a delimiter, a quote (doubled) or a line end in it; null where quotes are text."""
    columns: tuple[Column, ...] | None = Field(None, min_length=1)
    """The names of the fields in their order, for files without a header line."""
    rename: dict[str, Column] = Field(default_factory=dict)
    """Names in the header line, and what the contract calls them: {"pm2.5": pm25}."""
    null_values: tuple[Verbatim, ...] = ("",)
    """Fields that mean NULL, instead of the empty one: ["", "NA"]."""
    skip_spaces: bool = False
    """Whether spaces after a delimiter (and at the beginning of a line) are no part of the field."""

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        if self.delimiter == self.quote or not {"\r", "\n", "\0"}.isdisjoint((self.delimiter, self.quote)):
            raise ValueError("delimiter and quote differ, and neither is a line end")
        if self.skip_spaces and self.delimiter == " ":
            raise ValueError("skip_spaces does not go with a space as the delimiter")
        if self.columns is not None and self.rename:
            raise ValueError("rename goes with a header line; columns says that there is none")
        if self.columns is not None and len(set(self.columns)) != len(self.columns):
            raise ValueError("columns names one twice")
        return self


class CsvSource(CsvFormat, Source):
    """CSV and TSV."""


class JsonLinesFormat(TextFiles):
    """One JSON object a line."""

    format: Literal["jsonl"]
    rename: dict[str, Column] = Field(default_factory=dict)
    """Keys, and what the contract calls them."""


class JsonLinesSource(JsonLinesFormat, Source):
    """JSON lines."""


class JsonFormat(TextFiles):
    """Documents of one JSON array of objects, or of one object."""

    format: Literal["json"]
    rename: dict[str, Column] = Field(default_factory=dict)
    """Keys, and what the contract calls them."""
    max_document_bytes: int = Field(64 * 1024**2, ge=1024, le=1024**3)
    """Of a document, which is read whole; a larger one ends the night: write it as JSON lines."""


class JsonSource(JsonFormat, Source):
    """JSON documents."""


class LabelsFromPath(Section):
    """A column whose value is in a file's address."""

    column: Column
    """The contract's column."""
    pattern: str
    """A regular expression with one group, which is the label; it is looked for in the address."""

    @field_validator("pattern")
    @classmethod
    def _pattern_has_one_group(cls, pattern: str) -> str:
        try:
            num_groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"'{pattern}' is no regular expression: {error}") from None
        if num_groups != 1:
            raise ValueError(f"'{pattern}' has {num_groups} groups where it should have one, the label")
        return pattern


class TextFormat(TextFiles):
    """Plain text. The columns are text, line_number and the label's, as many of them as the contract has."""

    format: Literal["text"]
    unit: Literal["line", "paragraph", "file"] = "line"
    """What a row is. Lines of white space alone are no rows, and end a paragraph."""
    labels: LabelsFromPath | None = None
    """A label in each file's name: {column: label, pattern: "[.](pos|neg)$"}."""


class TextSource(TextFormat, Source):
    """Plain text."""
