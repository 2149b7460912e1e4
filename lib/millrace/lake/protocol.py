"""How a step of a night is run: what it would do and why, then lock, `started`, work, `succeeded` or `failed`."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from millrace import observe
from millrace.config.load import hash_of
from millrace.errors import MillraceError, find_in
from millrace.lake import locks, small
from millrace.lake.layout import RUNS, Lake
from millrace.lake.ledger import Attempt, Counts, Entry, Inputs, Ledger, Outcome, Run


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
    keeps_inputs: bool = False
    """Whether a try that was killed is resumed on the versions that it had. Right for steps that only read these versions; a step
    that brings a table up to date must look anew, since other nights may have gone on meanwhile."""
    stands: Callable[[Ledger, Entry], bool] = lambda _, __: True
    """Whether what a succeeded entry has made is still what readers find: another config may have replaced it since."""
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
    resumes = last is not None and last.status == "started" and step.keeps_inputs and not force
    inputs = last.inputs if last is not None and resumes else step.find_inputs(ledger)
    key = step_key(step, inputs)
    done = None if force else ledger.succeeded(step_key=key)
    if done is not None and not step.stands(ledger, done):
        done = None
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
        with _failure_recorded(lake, entry), observe.timed(f"step/{step.name}"), observe.working_on(step.name):
            _append(lake, entry)
            outcome = step.work(Attempt(lake, run, step.name, plan.key, entry.attempt, plan.inputs, ledger))
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
