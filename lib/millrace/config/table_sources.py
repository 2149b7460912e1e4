"""The `source` section of tables that are elsewhere: Delta tables and databases."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from millrace.config.section import Column, Positive, Section
from millrace.config.source import Source


class DeltaSource(Source):
    """A Delta table that somebody else writes, all of it at one version: a night takes it where its version is a new one."""

    format: Literal["delta"]
    version: Annotated[int, Field(ge=0)] | None = None
    """Which one; without it the newest when the night begins."""


class JdbcPartition(Section):
    """Reads a table by several connections: a number column, cut into equal ranges. Rows outside of the bounds are read too."""

    column: Column
    lower: int
    upper: int
    num_partitions: Annotated[int, Field(gt=0, le=256)]

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> JdbcPartition:
        if self.lower >= self.upper:
            raise ValueError(f"upper is above lower; {self.upper} is not above {self.lower}")
        return self


class JdbcSource(Source):
    """A database's table or query. Each night reads all that it gives: say in `query` what is new in `{night}`, or let the
    contract's key decide. `path` is the JDBC URL; nobody's name or password may be in it."""

    format: Literal["jdbc"]
    table: Annotated[str, Field(pattern=r'^[\w$"`.\[\]]+$')] | None = None
    query: str | None = None
    """SELECT …, in which `{night}` stands for the night's date."""
    driver: Annotated[str, Field(pattern=r"^[\w.$]+$")] | None = None
    """The driver's Java class, where the URL does not tell."""
    user_from: str | None = None
    """`env:NAME` or `file:PATH`: where the name of the user stands."""
    password_from: str | None = None
    """`env:NAME` or `file:PATH`: where the password stands."""
    partition: JdbcPartition | None = None
    fetch_rows: Positive = 10_000
    """Rows that one round trip brings."""

    @field_validator("path")
    @classmethod
    def _is_a_url_without_credentials(cls, path: str) -> str:
        if not path.startswith("jdbc:"):
            raise ValueError("path is a JDBC URL: jdbc:postgresql://HOST/DATABASE")
        if re.search(r"(?i)[;?&:](?:user|username|password|pwd|passwd)=|//[^/]*@|:[^:/@]+/[^@]*@", path):
            raise ValueError("a JDBC URL must not hold a user or password: name them by user_from and password_from")
        return path

    @field_validator("user_from", "password_from")
    @classmethod
    def _is_a_place(cls, place: str | None) -> str | None:
        if place is not None and not re.fullmatch(r"(?s)env:[A-Za-z_]\w*|file:.+", place):
            raise ValueError("say env:NAME or file:PATH, never the value itself")
        return place

    @model_validator(mode="after")
    def _one_of_table_and_query(self) -> JdbcSource:
        if (self.table is None) == (self.query is None):
            raise ValueError("say either table or query")
        return self
