"""How many workers a run gets: what the config asks for, what the plan allows and what Spark has room for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from millrace.config.training import TrainingConfig
from millrace.errors import PlanError
from millrace.loading.plan import PlanSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

STAGE = "training"
_REGISTER_SECONDS = 30.0  # for executors of a cluster to come up
_COME_BACK_SECONDS = 15.0  # for an executor that was lost to be replaced
_SETTLED_SECONDS = 3.0  # without another executor: these are all


def choose_workers(spark: SparkSession, training: TrainingConfig, plan: PlanSpec) -> int:
    """The number of workers to start with.

    Raises PlanError where Spark has fewer task slots than `training.num_workers`, or none, or where `auto` cannot know.
    """
    if training.num_workers != "auto":
        wanted = training.num_workers
        slots = wanted if _grows(spark) else _wait_for_slots(spark, wanted, seconds=_REGISTER_SECONDS)
        if slots < wanted:
            raise PlanError(
                STAGE,
                expected=f"at most {slots} workers, because Spark has {slots} task slots",
                found=f"training.num_workers = {wanted}",
                remedy="Lower training.num_workers, or give Spark more cores (--master local[N], or more executors).",
            )
        return wanted
    if _grows(spark):
        raise PlanError(
            STAGE,
            expected="a number of workers, because with dynamic allocation Spark's task slots cannot be counted beforehand",
            found="training.num_workers = auto",
            remedy="Set training.num_workers, or spark.dynamicAllocation.enabled=false.",
        )
    slots = _wait_for_slots(spark, plan.virtual_shards, seconds=_REGISTER_SECONDS, settled_seconds=_SETTLED_SECONDS)
    if not slots:
        raise PlanError(
            STAGE,
            expected="at least one task slot for training.num_workers = auto",
            found="none",
            remedy="Give Spark executors with enough cores for a task and, where tasks ask for GPUs, with GPUs.",
        )
    return min(slots, plan.virtual_shards)


def workers_left(spark: SparkSession, wanted: int) -> int:
    """How many of `wanted` workers can be started after a failure; 0 where no slot is left."""
    return wanted if _grows(spark) else min(wanted, _wait_for_slots(spark, wanted, seconds=_COME_BACK_SECONDS))


def _grows(spark: SparkSession) -> bool:
    """Whether Spark starts executors when tasks wait: then only the start time-out tells."""
    return str(spark.sparkContext.getConf().get("spark.dynamicAllocation.enabled", "false")).lower() == "true"


def _wait_for_slots(spark: SparkSession, wanted: int, *, seconds: float, settled_seconds: float | None = None) -> int:
    """Tasks that Spark can run at the same time, by cores and GPUs. On a cluster it waits until there are `wanted`, and not
    longer than `settled_seconds` after the last executor has come."""
    context = spark.sparkContext
    scala = context._jsc.sc()
    profile = scala.resourceProfileManager().defaultResourceProfile()
    in_one_process = context.master == "local" or str(context.master).startswith("local[")
    deadline = time.monotonic() + (0.0 if in_one_process else seconds)
    slots, changed_at = -1, time.monotonic()
    while True:
        found = int(scala.maxNumConcurrentTasks(profile))
        if found != slots:
            slots, changed_at = found, time.monotonic()
        settled = settled_seconds is not None and slots > 0 and time.monotonic() - changed_at >= settled_seconds
        if slots >= wanted or settled or time.monotonic() >= deadline:
            return slots
        time.sleep(0.2)
