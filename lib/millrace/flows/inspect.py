"""Looking at a lake without Spark: the ledger, SQL, rejects."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from millrace.config.models import PipelineConfig
from millrace.errors import ConfigError, LakeError
from millrace.flows.queries import connected
from millrace.lake import log
from millrace.lake.layout import Lake, rejects_of_gold, rejects_of_pipeline, rejects_of_source
from millrace.lake.ledger import Entry, Ledger
from millrace.lake.versions import Sessions, no_session
from millrace.lake.views import visible_tables

_RULE = ("stage", "rule", "action")
_SAMPLE = ("source_file", "reason", "record")


@dataclass
class Rejects:
    """The rows that one rule of one step took."""

    stage: str
    rule: str
    action: str
    num_rows: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)
    """Some of them: source_file, reason and record of each."""


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


def rejects(lake: Lake, config: PipelineConfig, *, night: str | None, num_samples: int = 0) -> list[Rejects]:
    """Quarantined and dropped rows of a pipeline and its source, by stage and rule, with samples of each: of all that is
    there, a failed run's too until the next one writes. No more than a few batches of them are in memory."""
    found: dict[tuple[str, ...], Rejects] = {}
    for table in (rejects_of_source(config.source.name), rejects_of_pipeline(config.name), rejects_of_gold(config.name)):
        uri = existing(lake).path(table)
        if not log.exists(uri):
            continue
        rows = log.open_table(uri).to_pyarrow_dataset()
        wanted = None if night is None else pc.field("_night") == night
        for batch in rows.to_batches(columns=[*_RULE, *_SAMPLE], filter=wanted, batch_readahead=1, fragment_readahead=1):
            for counted in pa.table(batch).group_by(list(_RULE)).aggregate([([], "count_all")]).to_pylist():
                rule = tuple(counted[name] for name in _RULE)
                of_rule = found.setdefault(rule, Rejects(*rule))
                of_rule.num_rows += counted["count_all"]
                of_rule.samples += _samples(batch, rule, num_samples - len(of_rule.samples))
    return [each for _, each in sorted(found.items())]


def _samples(batch: pa.RecordBatch, rule: tuple[str, ...], most: int) -> list[dict[str, Any]]:
    if most <= 0:
        return []
    taken = reduce(pc.and_, [pc.equal(batch.column(name), value) for name, value in zip(_RULE, rule, strict=True)])
    rows: list[dict[str, Any]] = batch.filter(taken).slice(0, most).select(list(_SAMPLE)).to_pylist()
    return rows
