"""metrics/runs, the commit point of a night: what has not `succeeded` there has not happened, and is done again, whole."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from millrace import observe
from millrace.config.load import hash_of
from millrace.errors import MillraceError, find_in
from millrace.lake import locks, log, small
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
    inputs: Inputs
    ledger: Ledger

    @property
    def mark(self) -> dict[str, str]:
        """`userMetadata` of every commit of this attempt."""
        return {"run_id": self.run.run_id, "step_key": self.step_key}

    def input_version(self, table: str) -> int | None:
        """The version of an input table."""
        return next((found.version for found in self.inputs.tables if found.table == table), None)


@dataclass(frozen=True)
class Step:
    """A step of a night: what it depends on and what it does."""

    name: str
    lock: str
    sections: Sequence[Any]
    """The parts of the config, and the hashes of fitted state, that it reads."""
    find_inputs: Callable[[Ledger], Inputs]
    work: Callable[[Attempt], Outcome]
    before: Callable[[], object] = lambda: None
    """Called first of all when the step is to be run, not when it is only planned: lays out a sample's files."""
    prepare: Callable[[], object] = lambda: None
    """Called once it is clear that the step has to run, before it counts as started: opens the session."""


def step_key(step: Step, inputs: Inputs) -> str:
    """SHA-256 of all that the step's result depends on. Raw files count by content, not by where they lie."""
    files = sorted((file.path.rpartition("/")[2], file.sha256) for file in inputs.files)
    return hash_of(step.name, list(step.sections), [vars(table) for table in inputs.tables], files)


@dataclass(frozen=True)
class Plan:
    """What a step would do, and why."""

    step: Step
    inputs: Inputs
    key: str
    done_by: Entry | None
    reason: str


def plan_step(ledger: Ledger, run: Run, step: Step, *, force: bool = False) -> Plan:
    """Fixes a step's inputs and says whether it has to run. Changes nothing."""
    last = ledger.last(step=step.name, run_id=run.run_id)
    # A try that was killed has fixed its inputs. One that failed over raw files looks at them anew: mending them is the remedy.
    resumes = last is not None and (last.status == "started" or (last.status == "failed" and not last.inputs.files))
    inputs = last.inputs if last is not None and resumes and not force else step.find_inputs(ledger)
    key = step_key(step, inputs)
    done = None if force else ledger.succeeded(step_key=key)
    if done is not None:
        reason = f"nothing it depends on has changed since {done.run.run_id}"
    elif force:
        reason = "--force"
    elif last is None:
        reason = "not done yet"
    else:
        reason = {"started": "its last try was killed", "failed": "its last try failed"}.get(
            last.status, "its inputs or config have changed"
        )
    return Plan(step, inputs, key, done, reason)


def run_step(lake: Lake, run: Run, step: Step, *, force: bool = False) -> tuple[Entry, bool]:
    """Does a step unless it is done. Returns the `succeeded` entry that stands for it, and whether it was done now.

    Raises what the work raises, after a `failed` entry has been written, and LakeError where another process holds the lock.
    """
    with locks.exclusive(lake, step.lock, run_id=run.run_id):
        step.before()
        ledger = Ledger.read(lake)
        plan = plan_step(ledger, run, step, force=force)
        if plan.done_by is not None:
            observe.say(f"{step.name}: {plan.reason}", step=step.name, step_key=plan.key)
            return plan.done_by, False
        step.prepare()
        entry = Entry(
            run=run,
            step=step.name,
            step_key=plan.key,
            status="started",
            attempt=ledger.attempts(step=step.name, run_id=run.run_id) + 1,
            started_at=datetime.now(UTC),
            inputs=plan.inputs,
        )
        _append(lake, entry)
        with _failure_recorded(lake, entry), observe.timed(f"step/{step.name}"), observe.working_on(step.name):
            outcome = step.work(Attempt(lake, run, step.name, plan.key, plan.inputs, ledger))
        done = replace(entry, status="succeeded", ended_at=datetime.now(UTC), outputs=outcome.outputs, counts=outcome.counts)
        _append(lake, done)
        _say_done(done, outcome.counts)
        return done, True


def _say_done(entry: Entry, counts: Counts) -> None:
    assert entry.ended_at is not None
    seconds = (entry.ended_at - entry.started_at).total_seconds()
    away = [(counts.num_rows_quarantined, "quarantined"), (counts.num_rows_dropped, "dropped")]
    rest = "".join(f", {number:,} {what}" for number, what in away if number)
    observe.say(f"{entry.step}: {counts.num_rows_kept:,} of {counts.num_rows_in:,} rows{rest}, {seconds:.1f} s", step=entry.step)


def record_night(lake: Lake, run: Run, started_at: datetime) -> None:
    """Marks a night as finished: run again with the same config, it does nothing."""
    key = hash_of("nightly", run.run_id)
    _append(lake, Entry(run, "nightly", key, "succeeded", 1, started_at, datetime.now(UTC), counts=None))


@contextmanager
def _failure_recorded(lake: Lake, entry: Entry) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        text = "interrupted" if isinstance(error, KeyboardInterrupt) else "".join(traceback.format_exception_only(error)).strip()
        ours = error if isinstance(error, MillraceError) else find_in(text)  # an executor's error lies inside Spark's own
        text = text if ours is None else str(ours)
        failed = replace(entry, status="failed", ended_at=datetime.now(UTC), error=observe.mask(text)[:4000])
        try:
            _append(lake, failed)
        except Exception as second:
            observe.warn(f"the ledger could not be written either: {second}")
        raise


def _append(lake: Lake, entry: Entry) -> None:
    with observe.timed("ledger"):
        small.append(lake, RUNS, [entry.to_row()], metadata={"run_id": entry.run.run_id, "step_key": entry.step_key})
