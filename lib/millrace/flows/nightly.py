"""A whole night: ingest, preprocess, train, publish. What is done already is not done again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from rich.table import Table

from millrace import observe
from millrace.flows import ingest, preprocess, publish, train
from millrace.flows.context import Context
from millrace.flows.summary import print_summary
from millrace.lake import ledger as books
from millrace.lake import locks


def nightly(context: Context) -> None:
    """Runs the night's steps in order, each unless it is done, and prints what came of it."""
    with locks.exclusive(context.lake, context.pipeline_lock, run_id=context.run.run_id):
        finished = books.Ledger.read(context.lake).succeeded(step="nightly", run_id=context.run.run_id)
        if finished is not None and not context.force:
            observe.say(f"{context.run.run_id} is finished; nothing to do (--force does it again)")
            print_summary(context)
            return
        started_at = datetime.now(UTC)
        for make_step in steps_of(context):
            books.run_step(context.lake, context.run, make_step(context), force=context.force)
        books.record_night(context.lake, context.run, started_at)
        print_summary(context)


def one_step(make_step: Callable[[Context], books.Step]) -> Callable[[Context], None]:
    """A flow of a single step."""

    def flow(context: Context) -> None:
        entry, is_new = books.run_step(context.lake, context.run, make_step(context), force=context.force)
        if not is_new:
            observe.say(f"{entry.step}: done by {entry.run.run_id}; nothing to do (--force does it again)")
        print_summary(context)

    return flow


def steps_of(context: Context) -> list[Callable[[Context], books.Step]]:
    """The night's steps; without a model it ends at gold."""
    steps: list[Callable[[Context], books.Step]] = [ingest.step, preprocess.step]
    return [*steps, train.step, publish.step] if context.config.trains else steps


def print_plan(context: Context) -> None:
    """Prints what the night would do and why. Changes nothing: a step after one that would run cannot be known yet."""
    ledger = books.Ledger.read(context.lake)
    table = Table("step", "would", "why", title=f"{context.run.run_id} in {context.lake.uri}", title_justify="left")
    finished = ledger.succeeded(step="nightly", run_id=context.run.run_id) is not None and not context.force
    earlier_runs = False
    for make_step in steps_of(context):
        step = make_step(context)
        if finished:
            table.add_row(step.name, "nothing", "this night is finished")
        elif earlier_runs:
            table.add_row(step.name, "decide then", "it depends on what the step before it finds")
        else:
            plan = books.plan_step(ledger, context.run, step, force=context.force)
            earlier_runs = plan.done_by is None
            table.add_row(step.name, "nothing" if plan.done_by else "run", plan.reason)
    observe.console().print(table)
