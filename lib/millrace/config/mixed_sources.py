"""The `source` section of files in several formats, which come to one set of columns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from millrace.config.file_sources import WarcFormat, WetFormat
from millrace.config.section import Column, Section
from millrace.config.source import Source
from millrace.config.text_sources import CsvFormat, JsonFormat, JsonLinesFormat, TextFormat


class Part(Section):
    """The files of one format: those whose names end as the format's do. All that the format has may be said beside it."""

    mapping: dict[Column, Column | None] = Field(min_length=1)
    """What the format calls a column, and what the contract calls it: {uri: url, payload: html}. null: it is passed over. Others
    of the contract are NULL in the part's rows; for others that a file has the contract's evolution.added decides."""

    @field_validator("mapping")
    @classmethod
    def _fills_each_once(cls, mapping: dict[str, str | None]) -> dict[str, str | None]:
        taken = [name for name in mapping.values() if name is not None]
        twice = next((name for name in taken if taken.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"mapping fills {twice} twice")
        if not taken:
            raise ValueError("mapping fills no column of the contract")
        return mapping


class CsvPart(CsvFormat, Part):
    """CSV and TSV."""


class JsonLinesPart(JsonLinesFormat, Part):
    """JSON lines."""


class JsonPart(JsonFormat, Part):
    """JSON documents."""


class TextPart(TextFormat, Part):
    """Plain text."""


class WarcPart(WarcFormat, Part):
    """Web archives."""


class WetPart(WetFormat, Part):
    """Texts of web archives."""


AnyPart = Annotated[CsvPart | JsonLinesPart | JsonPart | TextPart | WarcPart | WetPart, Field(discriminator="format")]
"""A part, by its format."""


class MixedSource(Source):
    """Files of several formats in one place. A file that no part takes ends the night before it begins."""

    format: Literal["mixed"]
    parts: tuple[AnyPart, ...] = Field(min_length=1)
    """A file is the part's whose ending is the longest that its name has. Every part gives texts."""
    ignore: tuple[Annotated[str, Field(pattern=r"^\..+$")], ...] = ()
    """How names of files end that are no data and passed over: [.md, .warc.wat.gz]."""
