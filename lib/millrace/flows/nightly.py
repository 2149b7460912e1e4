"""A whole night: ingest, preprocess, train, publish. What is done already is not done again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from rich.table import Table

from millrace import observe
from millrace.flows import ingest, preprocess, publish, train
from millrace.flows.context import Context, Flow
from millrace.flows.summary import print_summary
from millrace.lake import ledger as books
from millrace.lake import locks, protocol

MakeStep = Callable[[Context], protocol.Step]


def steps_of(context: Context) -> list[MakeStep]:
    """The night's steps; without a model it ends at gold."""
    steps: list[MakeStep] = [ingest.step, preprocess.step]
    return [*steps, train.step, publish.step] if context.config.trains else steps


def run_night(context: Context) -> None:
    """Runs the night's steps in order, each unless it is done, and prints what came of it."""
    with locks.exclusive(context.lake, context.pipeline_lock, run_id=context.run.run_id):
        if is_finished(context):
            observe.say(f"{context.run.run_id} is finished; nothing to do (--force does it again)")
        else:
            started_at = datetime.now(UTC)
            for make_step in steps_of(context):
                if make_step is preprocess.step and not ingest.has_rows(context):
                    observe.say("no rows have arrived yet; the night ends here and may be run again")
                    return
                step = make_step(context)
                if step.name == train.STEP:
                    step = replace(step, prepare=partial(_prepare_both, step.prepare))
                protocol.run_step(context.lake, context.run, step, force=context.force)
            protocol.record_night(context.lake, context.run, started_at)
        print_summary(context)


def _prepare_both(prepare_training: Callable[[], object]) -> None:
    publish.import_early()
    prepare_training()


def is_finished(context: Context) -> bool:
    """Whether this night was finished with this config, and is not forced."""
    return not context.force and books.Ledger.read(context.lake).is_finished(context.run.run_id)


def check_night(context: Context) -> None:
    """Raises what already shows to be wrong with the night's first step."""
    if not is_finished(context):
        protocol.plan_step(books.Ledger.read(context.lake), context.run, ingest.step(context), force=context.force)


def plan_night(context: Context) -> None:
    """Prints what the night would do and why. A step after one that would run cannot be known yet."""
    rows: list[tuple[str, str, str]] = []
    for make_step in steps_of(context):
        name = make_step(context).name
        if is_finished(context):
            rows.append((name, "nothing", "this night is finished"))
        elif any(would == "run" for _, would, _ in rows):
            rows.append((name, "decide then", "it depends on what the step before it finds"))
        else:
            rows.append(_planned(context, make_step))
    _print_plan(context, rows)


NIGHT = Flow(check=check_night, plan=plan_night, run=run_night)


def only(make_step: MakeStep) -> Flow:
    """The flow of a single step."""

    def check(context: Context) -> None:
        protocol.plan_step(books.Ledger.read(context.lake), context.run, make_step(context), force=context.force)

    def run(context: Context) -> None:
        entry, is_new = protocol.run_step(context.lake, context.run, make_step(context), force=context.force)
        if not is_new:
            observe.say(f"{entry.step}: done by {entry.run.run_id}; nothing to do (--force does it again)")
        print_summary(context)

    return Flow(check=check, plan=lambda context: _print_plan(context, [_planned(context, make_step)]), run=run)


def _planned(context: Context, make_step: MakeStep) -> tuple[str, str, str]:
    plan = protocol.plan_step(books.Ledger.read(context.lake), context.run, make_step(context), force=context.force)
    return plan.step.name, "nothing" if plan.done_by else "run", plan.reason


def _print_plan(context: Context, rows: list[tuple[str, str, str]]) -> None:
    table = Table("step", "would", "why", title=f"{context.run.run_id} in {context.lake.uri}", title_justify="left")
    for row in rows:
        table.add_row(*row)
    observe.console().print(table)
