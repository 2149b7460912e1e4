"""DuckDB over the lake's visible tables, shut off from everything else."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce

import duckdb
import pyarrow.dataset as ds

from millrace import observe
from millrace.lake import log
from millrace.lake.layout import Lake
from millrace.lake.versions import Sessions, no_session
from millrace.lake.views import Visible, to_dataset
from millrace.sources.failures import explain


@contextmanager
def connected(
    lake: Lake, tables: Sequence[Visible], query: str, *, sessions: Sessions = no_session
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with a view of each table, `metrics/runs` as `metrics_runs`.

    Of tables that only Spark can read those that the query names are there, copied by Spark to a temporary directory.
    """
    with ExitStack() as stack:
        connection = stack.enter_context(duckdb.connect(":memory:"))
        for visible in tables:
            if not log.is_for_spark_only(lake.path(visible.table)):
                datasets = [(part, to_dataset(lake, visible.table, part.version)) for part in visible.parts]
            elif re.search(rf"\b{re.escape(visible.name)}\b", query, re.IGNORECASE):
                copies = [copied_by_spark(lake, visible.table, part.version, sessions) for part in visible.parts]
                datasets = [(part, stack.enter_context(copy)) for part, copy in zip(visible.parts, copies, strict=True)]
            else:
                continue
            parts = [connection.from_arrow(dataset).filter(part.condition or "true") for part, dataset in datasets]
            reduce(duckdb.DuckDBPyRelation.union, parts).create_view(visible.name)
        connection.execute("SET TimeZone = 'UTC'")  # or the same rows would look otherwise on another machine
        # Nothing outside the lake's tables can be read, no variable of this process either, and nothing is fetched.
        connection.execute("SET enable_external_access = false; SET python_enable_replacements = false")
        connection.execute("SET lock_configuration = true")
        yield connection


@contextmanager
def copied_by_spark(lake: Lake, table: str, version: int | None, sessions: Sessions) -> Iterator[ds.Dataset]:
    """A version of a table as plain Parquet files, which are there as long as the context. Raises SourceError where files of the
    table are gone or damaged."""
    from millrace.lake.read import read_version

    observe.say(f"{table} has deletion vectors: Spark copies version {version} for this query")
    with tempfile.TemporaryDirectory(prefix="millrace-") as directory:
        try:
            read_version(sessions(), lake, table, version).write.parquet(f"file://{directory}/rows")
        except Exception as error:
            raise explain(str(error)) or error from None
        yield ds.dataset(f"{directory}/rows", format="parquet")
