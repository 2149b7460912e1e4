"""The counting law over several nights, from the tables alone, and what a commit of a night has touched."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from millrace.lake import log
from millrace.lake.layout import Lake
from millrace.lake.ledger import Ledger
from millrace.transforms.deduplicate import GAVE_WAY

OWN_TO_A_RUN = ("_run_id", "run_id", "_ingested_at")
Row = dict[str, Any]


def errors_of(said: str) -> list[str]:
    """The errors that a job has printed: what follows the time and the word."""
    return [line.partition(" error   ")[2] for line in said.splitlines() if " error   " in line]


def rows_of(lake: Lake, table: str) -> list[Row]:
    """The rows of a table's last succeeded version; none where it never came to be. Metrics: of runs' last succeeded commits."""
    if not log.exists(lake.path(table)):
        return []
    return log.read_rows(lake.path(table), version=Ledger.read(lake).version_of(table)).to_pylist()


def content(lake: Lake, table: str, night: str | None = None) -> Counter[str]:
    """A table's rows, or those of a night, without what belongs to one run."""
    return Counter(
        repr({name: value for name, value in sorted(row.items()) if name not in OWN_TO_A_RUN})
        for row in rows_of(lake, table)
        if night in (None, row["_night"])
    )


def files_of(lake: Lake, table: str, night: str) -> set[str]:
    """The files that hold a night's rows."""
    actions = pa.table(log.open_table(lake.path(table), Ledger.read(lake).version_of(table)).get_add_actions(flatten=True))
    return {row["path"] for row in actions.to_pylist() if row["min._night"] <= night <= row["max._night"]}


def rows_written(lake: Lake, table: str) -> int:
    """What Delta's history says that the last succeeded version's commit has written."""
    version = Ledger.read(lake).version_of(table)
    lines = Path(lake.path(table), "_delta_log", f"{version:020d}.json").read_text().splitlines()
    (info,) = (json.loads(line)["commitInfo"] for line in lines if "commitInfo" in line)
    return int(info["operationMetrics"]["numOutputRows"])


def check_law(lake: Lake, pipeline: str, *, num_raw: int, num_silver: int | None = None) -> None:
    """Raw rows = bronze + quarantine, bronze = silver + quarantine; each run's rules and ledger say what its tables say.

    `num_silver`: of a table that only Spark can read."""
    num_bronze = len(rows_of(lake, f"bronze/{pipeline}"))
    num_silver = len(rows_of(lake, f"silver/{pipeline}")) if num_silver is None else num_silver
    of_source, of_pipeline = (rows_of(lake, f"quarantine/{kind}/{pipeline}") for kind in ("sources", "pipelines"))
    assert num_bronze + len(of_source) == num_raw
    assert num_silver + len(of_pipeline) == num_bronze
    rejects = {
        f"bronze/{pipeline}": of_source,
        f"silver/{pipeline}": of_pipeline,
        f"gold/{pipeline}": rows_of(lake, f"quarantine/gold/{pipeline}"),
    }
    quality = rows_of(lake, "metrics/data_quality")
    for table, rejected in rejects.items():
        for run_id in {row["run_id"] for row in rejected}:
            failed = Counter(
                {row["rule"]: row["num_failed"] for row in quality if (row["table"], row["run_id"]) == (table, run_id)}
            )
            assert +failed == Counter(row["rule"] for row in rejected if row["run_id"] == run_id), (table, run_id)
    entry = next(each for each in reversed(Ledger.read(lake).entries) if (each.step, each.status) == ("preprocess", "succeeded"))
    assert entry.counts is not None
    mine = Counter(row["action"] for row in of_pipeline if row["run_id"] == entry.run.run_id and row["rule"] != GAVE_WAY)
    assert (entry.counts.num_rows_quarantined, entry.counts.num_rows_dropped) == (mine["quarantined"], mine["dropped"])
