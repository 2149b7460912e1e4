"""Looking at a lake without Spark: the ledger, SQL, rejects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from millrace.config.models import PipelineConfig
from millrace.errors import ConfigError, LakeError
from millrace.flows.queries import connected
from millrace.lake import log
from millrace.lake.layout import Lake, rejects_of_gold, rejects_of_pipeline, rejects_of_source
from millrace.lake.ledger import Entry, Ledger
from millrace.lake.versions import Sessions, no_session
from millrace.lake.views import visible_tables


@dataclass(frozen=True)
class Rejects:
    """The rows that one rule of one step took."""

    stage: str
    rule: str
    action: str
    rows: Sequence[dict[str, Any]]

    @property
    def num_rows(self) -> int:
        """How many."""
        return len(self.rows)


def existing(lake: Lake) -> Lake:
    """The lake. Raises LakeError where nothing has run in it yet, or a newer Millrace has made it."""
    lake.check()
    if not Ledger.read(lake).entries:
        remedy = "Check --lake, or run a night first: ./spark-submit.sh jobs/nightly.py --pipeline digits."
        raise LakeError("lake", expected=f"a lake at {lake.uri}", found="none", remedy=remedy)
    return lake


def runs(lake: Lake, *, pipeline: str | None = None) -> list[Entry]:
    """The ledger's entries, oldest first; `started` only where nothing has followed."""
    entries = [entry for entry in Ledger.read(existing(lake)).entries if pipeline in (None, entry.run.pipeline)]
    ended = {(entry.run.run_id, entry.step, entry.attempt) for entry in entries if entry.status != "started"}
    return [entry for entry in entries if entry.status != "started" or (entry.run.run_id, entry.step, entry.attempt) not in ended]


def sql(lake: Lake, query: str, *, sessions: Sessions = no_session) -> pa.Table:
    """The result of a query over the visible tables. `sessions` opens Spark for those that only Spark can read.

    Raises ConfigError where DuckDB refuses the query.
    """
    with connected(lake, visible_tables(existing(lake)), query, sessions=sessions) as connection:
        try:
            result = connection.sql(query)
            if result is None:
                raise ConfigError("sql", expected="a query", found=f"'{query}'", remedy="For example SHOW TABLES.")
            return result.fetch_arrow_table()
        except duckdb.Error as error:
            first = str(error).splitlines()[0]
            raise ConfigError(
                "sql", expected="a query over the lake's tables", found=first, remedy="SHOW TABLES lists them."
            ) from None


def rejects(lake: Lake, config: PipelineConfig, *, night: str | None) -> list[Rejects]:
    """Quarantined and dropped rows of a pipeline and its source, by stage and rule: of all that was written, failed runs too."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for table in (rejects_of_source(config.source.name), rejects_of_pipeline(config.name), rejects_of_gold(config.name)):
        uri = existing(lake).path(table)
        for row in log.read_rows(uri).to_pylist() if log.exists(uri) else []:
            if night in (None, row["_night"]):
                found.setdefault((row["stage"], row["rule"], row["action"]), []).append(row)
    return [Rejects(*key, rows=rows) for key, rows in sorted(found.items())]
