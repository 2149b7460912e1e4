"""What a finished night tells of its time: the ledger's steps and the log's timings; and which rows it trained on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from millrace.errors import LakeError

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


@dataclass(frozen=True)
class NightRecord:
    """A night as its lake tells it."""

    run_id: str
    steps: Sequence[Span]
    timings: Sequence[Span]
    accuracy: float

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
        accuracy=_test_accuracy(_rows(lake, "metrics/evaluation")),
    )


def train_keys(lake: Path, *, pipeline: str, columns: Sequence[str]) -> pa.Table:
    """The key columns of the train rows in silver, in key order."""
    silver = DeltaTable(str(lake / "silver" / pipeline)).to_pyarrow_dataset()
    found = silver.to_table(columns=list(columns), filter=pc.field("split") == "train")
    return found.sort_by([(column, "ascending") for column in columns])


def _rows(lake: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DeltaTable(str(lake / table)).to_pyarrow_table().to_pylist()
    return found


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
