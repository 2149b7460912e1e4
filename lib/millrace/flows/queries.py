"""DuckDB over the lake's visible tables, shut off from everything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce

import duckdb

from millrace.lake import log
from millrace.lake.layout import Lake
from millrace.lake.views import Visible, to_dataset


@contextmanager
def connected(lake: Lake, tables: Sequence[Visible]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with a view of each table, `metrics/runs` as `metrics_runs`; without those that only Spark can read."""
    with duckdb.connect(":memory:") as connection:
        for visible in tables:
            if log.is_for_spark_only(lake.path(visible.table)):
                continue
            parts = [
                connection.from_arrow(to_dataset(lake, visible.table, part)).filter(part.condition or "true")
                for part in visible.parts
            ]
            reduce(duckdb.DuckDBPyRelation.union, parts).create_view(visible.name)
        connection.execute("SET TimeZone = 'UTC'")  # or the same rows would look otherwise on another machine
        # Nothing outside the lake's tables can be read, no variable of this process either, and nothing is fetched.
        connection.execute("SET enable_external_access = false; SET python_enable_replacements = false")
        connection.execute("SET lock_configuration = true")
        yield connection
