"""What a finished night tells of its time: the ledger's steps, the log's timings, the epochs, and which of it is fixed.

Fixed is what does not grow with rows or epochs: everything outside of the steps (process start, the last commits, the end), what
the log times under a name of FIXED, and of the workers' time what is neither training nor validation.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable

from millrace.errors import LakeError

FIXED = ("session", "ledger", "train/index", "publish/export", "publish/plots")
"""Timings, with those below them (publish/export/h5), whose work is the same for ten rows and for ten million."""

WORKERS = "train/workers"
"""The timing from the call for workers to their end."""

NIGHT_STEP = "nightly"
"""The ledger's row about the whole night, which is no step of it."""


@dataclass(frozen=True)
class Span:
    """A named stretch of time, in seconds since the epoch."""

    name: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start


def step_spans(ledger_rows: Iterable[Mapping[str, Any]], *, run_id: str) -> list[Span]:
    """The succeeded steps of a run, in the order in which they started."""
    wanted = [
        row for row in ledger_rows if row["run_id"] == run_id and row["status"] == "succeeded" and row["step"] != NIGHT_STEP
    ]
    spans = [Span(row["step"], row["started_at"].timestamp(), row["ended_at"].timestamp()) for row in wanted]
    return sorted(spans, key=lambda span: span.start)


def timing_spans(log_lines: Iterable[str]) -> list[Span]:
    """The `timing` records of a log.jsonl, in its order. A last line that a killed run left half written is passed over."""
    spans = []
    for line in log_lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if record.get("event") == "timing":
            end = datetime.fromisoformat(record["time"])
            start = end - timedelta(seconds=float(record["seconds"]))
            spans.append(Span(str(record["name"]), start.timestamp(), end.timestamp()))
    return spans


def seconds_by_name(spans: Iterable[Span]) -> dict[str, float]:
    """Seconds added up by name, in the order in which the names come first."""
    total: dict[str, float] = {}
    for span in spans:
        total[span.name] = total.get(span.name, 0.0) + span.seconds
    return total


def epoch_seconds(rows: Iterable[Mapping[str, Any]], *, num_rows: Mapping[str, int]) -> float:
    """Seconds of all epochs, training and validation, from metrics/epochs and the rows of each split.

    metrics/epochs has a row for each metric; those of one epoch and split carry the same rows_per_second.
    """
    speeds = {(row["epoch"], row["split"]): float(row["rows_per_second"]) for row in rows if row["rows_per_second"]}
    return sum(num_rows.get(split, 0) / speed for (_, split), speed in speeds.items())


def is_fixed(name: str) -> bool:
    """Whether a timing's work grows with neither rows nor epochs."""
    return any(f"{name}/".startswith(f"{fixed}/") for fixed in FIXED)


def covered_seconds(spans: Sequence[Span], *, within: Sequence[Span]) -> float:
    """How long at least one of `spans` lasts during at least one of `within`: nested and overlapping ones count once."""
    edges = sorted({edge for span in (*spans, *within) for edge in (span.start, span.end)})
    total = 0.0
    for start, end in itertools.pairwise(edges):
        middle = (start + end) / 2
        if any(s.start <= middle < s.end for s in spans) and any(w.start <= middle < w.end for w in within):
            total += end - start
    return total


@dataclass(frozen=True)
class NightRecord:
    """A night as its lake tells it."""

    run_id: str
    steps: Sequence[Span]
    timings: Sequence[Span]
    epoch_seconds: float
    accuracy: float

    def fixed_seconds(self, wall_seconds: float) -> float:
        """The fixed part of a night that took `wall_seconds` by the clock outside."""
        fixed = [span for span in self.timings if is_fixed(span.name)]
        return self.outside_seconds(wall_seconds) + covered_seconds(fixed, within=self.steps) + self.worker_start_seconds()

    def worker_start_seconds(self) -> float:
        """Of the workers' time what is neither training nor validation: start-up, TensorFlow's import, tracing, the end."""
        return seconds_by_name(self.timings).get(WORKERS, self.epoch_seconds) - self.epoch_seconds

    def outside_seconds(self, wall_seconds: float) -> float:
        """Wall seconds that no step accounts for: process and session start, and the end."""
        return wall_seconds - sum(span.seconds for span in self.steps)


def read_night(lake: Path, *, pipeline: str) -> NightRecord:
    """The only run of a fresh lake. Raises LakeError where its tables do not hold exactly one."""
    ledger = _rows(lake, "metrics/runs")
    run_ids = sorted({row["run_id"] for row in ledger if row["pipeline"] == pipeline})
    if len(run_ids) != 1:
        raise LakeError(
            "bench",
            expected=f"one run of {pipeline} in the lake",
            found=f"{len(run_ids)}",
            remedy="Give the benchmark a fresh lake.",
        )
    log = lake / "artifacts" / pipeline / run_ids[0] / "log.jsonl"
    lines = log.read_text().splitlines() if log.is_file() else []
    return NightRecord(
        run_id=run_ids[0],
        steps=step_spans(ledger, run_id=run_ids[0]),
        timings=timing_spans(lines),
        epoch_seconds=epoch_seconds(_rows(lake, "metrics/epochs"), num_rows=_rows_by_split(lake, pipeline)),
        accuracy=_test_accuracy(_rows(lake, "metrics/evaluation")),
    )


def train_keys(lake: Path, *, pipeline: str, columns: Sequence[str]) -> pa.Table:
    """The key columns of the train rows in silver, in key order.

    deltalake does not open silver, which has deletion vectors switched on, so its log is read here: a fresh lake has all commits
    as JSON, and after a first night no row is deleted. Raises LakeError where one is.
    """
    uri = lake / "silver" / pipeline
    added: dict[tuple[str, str], Any] = {}
    for commit in sorted((uri / "_delta_log").glob("*.json")):
        actions = [json.loads(line) for line in commit.read_text().splitlines()]
        # In a commit that deletes rows the file is added again, with its deletion vector, in a line before it is removed without.
        for action in actions:
            if "remove" in action:
                added.pop(_file_key(action["remove"]), None)
        for action in actions:
            if "add" in action:
                added[_file_key(action["add"])] = action["add"]
    if not added or any(file.get("deletionVector") for file in added.values()):
        found = "deleted rows" if added else "nothing"
        raise LakeError(
            "bench", expected=f"the rows of a first night in {uri}", found=found, remedy="Give the benchmark a fresh lake."
        )
    files = [str(uri / unquote(file["path"])) for file in added.values()]
    rows = ds.dataset(files, format="parquet", partitioning="hive")
    found_rows = rows.to_table(columns=list(columns), filter=ds.field("split") == "train")
    return found_rows.sort_by([(column, "ascending") for column in columns])


def _rows(lake: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DeltaTable(str(lake / table)).to_pyarrow_table().to_pylist()
    return found


def _rows_by_split(lake: Path, pipeline: str) -> dict[str, int]:
    """Rows of each split of gold, from its log."""
    files = pa.table(DeltaTable(str(lake / "gold" / pipeline)).get_add_actions(flatten=True))
    counts = files.group_by("partition.split").aggregate([("num_records", "sum")]).to_pylist()
    return {row["partition.split"]: row["num_records_sum"] for row in counts}


def _file_key(action: Mapping[str, Any]) -> tuple[str, str]:
    """What identifies a file in the log: its path and its deletion vector (Delta protocol, "Action Reconciliation")."""
    vector = action.get("deletionVector") or {}
    return action["path"], "/".join(str(vector.get(name)) for name in ("storageType", "pathOrInlineDv", "offset"))


def _test_accuracy(rows: Iterable[Mapping[str, Any]]) -> float:
    wanted = {"metric": "accuracy", "split": "test", "slice": "all", "artifact": "keras"}
    found = [row["value"] for row in rows if all(row[name] == value for name, value in wanted.items())]
    if len(found) != 1:
        raise LakeError(
            "bench",
            expected="one test accuracy in metrics/evaluation",
            found=f"{len(found)}",
            remedy="Run the night's publish step.",
        )
    return float(found[0])
