"""Training on Spark: attempts, one after the other, until the last epoch is done or a restart cannot help."""

from __future__ import annotations

import os
from collections.abc import Callable

from pyspark import SparkContext
from pyspark.sql import SparkSession

from millrace import observe
from millrace.errors import PlanError
from millrace.loading.plan import PlanSpec, check_memory, shards_of_rank
from millrace.loading.pool import held_ahead, reader_threads
from millrace.training.attempt import run_attempt
from millrace.training.failure import AttemptFailedError
from millrace.training.heartbeat import Event
from millrace.training.request import TrainRequest, TrainResult, resolve_index, validation_of
from millrace.training.slots import choose_workers, workers_left
from millrace.training.watchdog import ParentWatchdog


def train_on_spark(spark: SparkSession, request: TrainRequest, *, on_event: Callable[[Event], None] | None = None) -> TrainResult:
    """Trains on `request.training.num_workers` Spark tasks. Call it from the main thread.

    Where a worker has died, fallen silent or not started, or has raised an error that says that a retry may help, training goes
    on by itself from its last checkpoint, up to `training.max_restarts` times, with the workers that Spark still has room for,
    and the log says so; a `log` event says from which checkpoint. Anything else that a worker raises ends the run at once.

    `on_event` gets the events that heartbeat.py lists, in another thread. Signal handlers are as before when this returns or
    raises, and no worker process is left. Raises PlanError and LakeError before anything starts; what a worker raises, as itself
    and once; TrainingError with retry where a worker died, fell silent or did not start and no restart is left;
    KeyboardInterrupt for Ctrl-C.
    """
    training = request.training
    plan = request.plan(resolve_index(request.train))
    validation_of(request)
    if training.num_workers != "auto":
        _check_plan(request, plan, training.num_workers)
    num_workers = most_workers = choose_workers(spark, training, plan)
    if training.num_workers == "auto":
        _check_plan(request, plan, num_workers)
        observe.say(f"training on {num_workers} workers: the plan has room for {plan.virtual_shards}", num_workers=num_workers)
    attempt = 1
    while True:
        try:
            return run_attempt(spark, request, num_workers=num_workers, on_event=on_event)
        except AttemptFailedError as failed:
            failure = failed.failure
        if not failure.may_pass or attempt > training.max_restarts:
            raise failure.error
        num_workers = workers_left(spark, most_workers)
        if not num_workers:
            raise failure.error
        try:
            _check_plan(request, plan, num_workers)
        except PlanError:  # too much for the workers that are left; with all of them it may go on
            raise failure.error from None
        attempt += 1
        observe.warn(
            f"{failure.reason}. Training goes on with {num_workers} worker{'s' if num_workers > 1 else ''} "
            f"(attempt {attempt} of {training.max_restarts + 1})",
            attempt=attempt,
            num_workers=num_workers,
        )


def _check_plan(request: TrainRequest, plan: PlanSpec, num_workers: int) -> None:
    """Raises PlanError where the plan does not fit this number of workers, or their memory."""
    shards_of_rank(plan.virtual_shards, num_workers, 0)
    check_memory(
        plan,
        world_size=num_workers,
        row_bytes=sum(column.row_bytes for column in request.columns),
        reads_ahead=held_ahead(reader_threads(request.training.threads_per_worker), request.training.loading),
        limit_bytes=request.training.memory_limit_bytes,
    )


def start_parent_watchdog() -> ParentWatchdog:
    """Ends this driver with exit code 1 soon after its JVM is gone: the parent under spark-submit, else PySpark's child.

    Call it after the session was made, and `stop()` what it gives before ending the session's JVM on purpose.
    """
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # set by spark-submit, whose JVM has started this process
        parent = os.getppid()
        return ParentWatchdog(lambda: os.getppid() == parent, what="spark-submit")
    gateway = SparkContext._gateway
    process = getattr(gateway, "proc", None)
    assert process is not None, "make the Spark session first"
    return ParentWatchdog(lambda: process.poll() is None, what="the Spark JVM")
