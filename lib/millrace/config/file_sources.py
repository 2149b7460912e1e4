"""The `source` section of raw formats that are files of many things: texts, pictures, web pages, time series, Parquet."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from millrace.config.encodings import EncodingName
from millrace.config.section import Column, Positive, Section
from millrace.config.source import Source


class ArchiveLimits(Section):
    """What an archive may hold. It is refused as a whole where it holds more; a member that is too large is one broken row."""

    member_bytes: Positive = 64 * 1024**2
    """Bytes of one file, in a directory too."""
    total_bytes: Positive = 64 * 1024**3
    """Bytes of all members of an archive, unpacked."""
    members: Positive = 1_000_000
    """Members of an archive, directories counted."""


class _MembersSource(Source):
    """Many files in directories or archives (.tar, .tar.gz, .tgz, .tar.bz2, .tbz2, .tar.zst, .zip), one row each."""

    pattern: str
    """A regular expression with named groups that fill columns of their names: `(?P<label>pos|neg)/(?P<index>[0-9]+)[.]txt`. It
    must match the end of the path, from a slash on; an archive's path is followed by a slash and the member's name."""
    content: Column
    """The contract's column that gets what is in the file."""
    limits: ArchiveLimits = ArchiveLimits()

    @field_validator("pattern")
    @classmethod
    def _pattern_is_one(cls, pattern: str) -> str:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"'{pattern}' is no regular expression ({error})") from None
        if not pattern or pattern.startswith("/"):
            raise ValueError("a pattern begins with a name, not with a slash")
        strange = [name for name in compiled.groupindex if name.startswith("_")]
        if strange:
            raise ValueError(f"columns do not begin with _, as the group {strange[0]} does")
        return pattern

    @model_validator(mode="after")
    def _content_is_no_group(self) -> Self:
        if self.content in re.compile(self.pattern).groupindex:
            raise ValueError(f"the column {self.content} gets the content, and cannot be a group of the pattern too")
        return self


class FilesSource(_MembersSource):
    """Text files with labels in their paths, as IMDB's."""

    format: Literal["files"]
    suffixes: tuple[Annotated[str, Field(min_length=1)], ...] = (".txt",)
    """How names of such files end, in archives too; others are passed over."""
    encoding: EncodingName = "utf-8"
    """Of the texts; not looked at where the content's column is binary."""


class ImagesSource(_MembersSource):
    """JPEG and PNG, decoded and resized to the tensor of the contract's column: (height, width, 1) is grey, 3 is RGB."""

    format: Literal["images"]
    resize: Literal["squash", "crop", "pad"] = "squash"
    """To another ratio of sides: squash changes it, crop cuts the longer side's ends off, pad adds black bars. All bilinear."""
    max_pixels: Annotated[int, Field(gt=0, le=80_000_000)] = 64_000_000
    """Of a stored image, read from its header before anything is decoded."""


class ParquetSource(Source):
    """Parquet files."""

    format: Literal["parquet"]


class _WebFormat(Section):
    record_bytes: Positive = 64 * 1024**2
    """Bytes of a record, stored and unpacked; a longer one is a broken row."""
    total_bytes: Positive = 64 * 1024**3
    """Bytes that a compressed archive may unpack to."""


class WarcFormat(_WebFormat):
    """Web archives (WARC 1.0 and 1.1, ISO 28500): one row for each response, with columns of `sources/warc.py`."""

    format: Literal["warc"]


class WarcSource(WarcFormat, Source):
    """Web archives."""


class WetFormat(_WebFormat):
    """Texts of web archives: one row for each conversion record, with columns of `sources/warc.py`."""

    format: Literal["wet"]


class WetSource(WetFormat, Source):
    """Texts of web archives."""


class TsSource(Source):
    """Time series with one label each, as UEA and UCR give them (sktime's .ts): columns subset, index, series, label."""

    format: Literal["ts"]
    missing: Literal["quarantine", "nan"] = "quarantine"
    """A series with `?` or NaN in it: a broken row, or NaN in its tensor."""
