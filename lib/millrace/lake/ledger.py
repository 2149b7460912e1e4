"""metrics/runs, the commit point of a night: what has not `succeeded` there has not happened, and is done again, whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from millrace.lake import log
from millrace.lake.layout import RUNS, Lake


@dataclass(frozen=True)
class TableVersion:
    """A table at one version."""

    table: str
    version: int


@dataclass(frozen=True)
class RawFile:
    """A raw file as it was when it was taken."""

    path: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Counts:
    """The counting law: num_rows_in = kept + quarantined + dropped by a named rule."""

    num_rows_in: int = 0
    num_rows_kept: int = 0
    num_rows_quarantined: int = 0
    num_rows_dropped: int = 0

    def __post_init__(self) -> None:
        total = self.num_rows_kept + self.num_rows_quarantined + self.num_rows_dropped
        assert total == self.num_rows_in, f"the counting law is broken: {self}"


@dataclass(frozen=True)
class Inputs:
    """What a step reads, fixed when it starts."""

    tables: tuple[TableVersion, ...] = ()
    files: tuple[RawFile, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a step has done."""

    outputs: tuple[TableVersion, ...] = ()
    counts: Counts = Counts()


@dataclass(frozen=True)
class Run:
    """One pipeline's night with one config."""

    pipeline: str
    night: str
    run_id: str
    config_hash: str
    code_revision: str


@dataclass(frozen=True)
class Entry:
    """One row of the ledger."""

    run: Run
    step: str
    step_key: str
    status: str
    attempt: int
    started_at: datetime
    ended_at: datetime | None = None
    inputs: Inputs = Inputs()
    outputs: tuple[TableVersion, ...] = ()
    counts: Counts | None = None
    error: str | None = None

    def output(self, table: str) -> int | None:
        """The version of `table` that it wrote or left standing."""
        return next((found.version for found in self.outputs if found.table == table), None)

    def to_row(self) -> dict[str, Any]:
        """As a row of metrics/runs."""
        counts = vars(self.counts) if self.counts else dict.fromkeys(vars(Counts()))
        return {
            "pipeline": self.run.pipeline,
            "run_id": self.run.run_id,
            "_night": self.run.night,
            "step": self.step,
            "step_key": self.step_key,
            "status": self.status,
            "attempt": self.attempt,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            **counts,
            "inputs": [vars(table) for table in self.inputs.tables],
            "outputs": [vars(table) for table in self.outputs],
            "files": [vars(file) for file in self.inputs.files],
            "config_hash": self.run.config_hash,
            "code_revision": self.run.code_revision,
            "error": self.error,
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Entry:
        """From a row of metrics/runs."""
        run = Run(row["pipeline"], row["_night"], row["run_id"], row["config_hash"], row["code_revision"])
        counts = None if row["num_rows_in"] is None else Counts(**{name: row[name] for name in vars(Counts())})
        inputs = Inputs(
            tuple(TableVersion(**table) for table in row["inputs"] or ()), tuple(RawFile(**file) for file in row["files"] or ())
        )
        outputs = tuple(TableVersion(**table) for table in row["outputs"] or ())
        fields = {name: row[name] for name in ("step", "step_key", "status", "attempt", "started_at", "ended_at", "error")}
        return cls(run=run, inputs=inputs, outputs=outputs, counts=counts, **fields)


@dataclass(frozen=True)
class Ledger:
    """The entries of metrics/runs, oldest first, as they were when read."""

    lake: Lake
    entries: tuple[Entry, ...] = field(default=(), repr=False)

    @classmethod
    def read(cls, lake: Lake) -> Ledger:
        """Everything that has happened in the lake; nothing in a lake that is not there yet."""
        uri = lake.path(RUNS)
        if not log.exists(uri):
            return cls(lake)
        entries = [Entry.from_row(row) for row in log.read_rows(uri).to_pylist()]
        order = {"started": 0, "failed": 1, "succeeded": 1}
        return cls(lake, tuple(sorted(entries, key=lambda entry: (entry.ended_at or entry.started_at, order[entry.status]))))

    def succeeded(self, *, step_key: str | None = None, step: str | None = None, run_id: str | None = None) -> Entry | None:
        """The newest `succeeded` entry that fits."""
        return self._newest(lambda entry: entry.status == "succeeded", step_key=step_key, step=step, run_id=run_id)

    def last(self, *, step: str, run_id: str) -> Entry | None:
        """The newest entry of a run's step."""
        return self._newest(lambda _: True, step=step, run_id=run_id)

    def version_of(self, table: str) -> int | None:
        """The version of `table` that the newest `succeeded` entry about it names: the one that readers may use."""
        found = self._newest(lambda entry: entry.status == "succeeded" and entry.output(table) is not None)
        return found.output(table) if found else None

    def is_finished(self, run_id: str) -> bool:
        """Whether the run's night was finished, and nothing of it has been started again since."""
        night = self.succeeded(step="nightly", run_id=run_id)
        started = [entry.started_at for entry in self.entries if entry.run.run_id == run_id and entry.status == "started"]
        return night is not None and night.ended_at is not None and all(moment <= night.ended_at for moment in started)

    def attempts(self, *, step: str, run_id: str) -> int:
        """How often a run's step was started."""
        return sum(entry.status == "started" and entry.step == step and entry.run.run_id == run_id for entry in self.entries)

    def _newest(self, accept: Callable[[Entry], bool], **wanted: str | None) -> Entry | None:
        for entry in reversed(self.entries):
            found = {"step_key": entry.step_key, "step": entry.step, "run_id": entry.run.run_id}
            if accept(entry) and all(value is None or found[name] == value for name, value in wanted.items()):
                return entry
        return None


@dataclass(frozen=True)
class Attempt:
    """One try at a step: what its work may read, and the mark for its commits."""

    lake: Lake
    run: Run
    step: str
    step_key: str
    number: int
    """Counted from 1 within the run."""
    inputs: Inputs
    ledger: Ledger

    @property
    def mark(self) -> dict[str, str]:
        """`userMetadata` of every commit of this attempt."""
        return {"run_id": self.run.run_id, "step_key": self.step_key}

    def input_version(self, table: str) -> int | None:
        """The version of an input table."""
        return next((found.version for found in self.inputs.tables if found.table == table), None)
