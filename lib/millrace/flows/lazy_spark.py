"""Spark for commands that seldom need it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from millrace.lake.versions import Sessions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@contextmanager
def lazy_spark(name: str) -> Iterator[Sessions]:
    """A function that opens Spark when it is first called; closed in the end."""
    opened: list[SparkSession] = []

    def session() -> SparkSession:
        if not opened:
            from millrace.flows.job import open_spark

            opened.append(open_spark(name))
        return opened[0]

    try:
        yield session
    finally:
        if opened:
            from millrace.flows.job import close_spark

            close_spark(opened[0])
