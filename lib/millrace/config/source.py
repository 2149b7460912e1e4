"""What the `source` sections of all raw formats have in common."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from millrace.config.section import Name, Section
from millrace.observe import has_credentials, mask


class Source(Section):
    """Where raw data comes from. What all formats have."""

    name: Name
    """The table under bronze/ that it fills; pipelines that name the same source share it."""
    path: str
    """A file, a directory or a glob. `{night}` stands for the night's date, `{lake}` for the lake's address."""
    contract: Name = Field(alias="schema")
    """The contract of the raw rows, a file under schemas/."""
    sample: Literal["digits"] | None = None
    """A small data set that is written to `path` where nothing is there yet."""
    on_missing: Literal["fail", "retry", "skip"] = "fail"
    """When no file is there: end with exit code 2, with 1 (try later), or go on with what the lake has."""

    @field_validator("path")
    @classmethod
    def _path_without_credentials(cls, path: str) -> str:
        """Addresses are kept in tables and logs; what opens a store comes from its own environment or files."""
        if has_credentials(path):
            raise ValueError(f"{mask(path)} holds a password or token, which belongs to the store's own environment or files")
        return path
