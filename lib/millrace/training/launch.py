"""Training on Spark: Horovod's processes in Spark tasks, watched, and gone when this returns."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable

import psutil
from pyspark import SparkContext
from pyspark.sql import SparkSession

from millrace.errors import PlanError, TrainingError, find_in
from millrace.loading.plan import check_memory, shards_of_rank
from millrace.loading.pool import held_ahead, reader_threads
from millrace.training.heartbeat import Event, HeartbeatServer
from millrace.training.request import TrainRequest, TrainResult, resolve_index
from millrace.training.shield import HeldSignals, WorkerOutput, quick_quiet_tasks, quiet_threads
from millrace.training.watchdog import ParentWatchdog, Watchdog, describe
from millrace.training.worker import is_allowed

STAGE = "training"
_GLOO_TIMEOUT_SECONDS = 10
_CYCLE_MILLISECONDS = 2
_SLOT_WAIT_SECONDS = 30.0  # for executors of a cluster to register
_GONE_SECONDS = 10.0


def train_on_spark(spark: SparkSession, request: TrainRequest, *, on_event: Callable[[Event], None] | None = None) -> TrainResult:
    """Trains on `request.training.num_workers` Spark tasks. Call it from the main thread.

    `on_event` gets the events that heartbeat.py lists, in another thread. Signal handlers are as before when this returns or
    raises, and no worker process is left. Raises PlanError and LakeError before anything starts; what a worker raises, as itself
    and once; TrainingError with retry where a worker died, fell silent or did not start; KeyboardInterrupt for Ctrl-C.
    """
    assert threading.current_thread() is threading.main_thread(), "Horovod sets signal handlers"
    _refuse_what_cannot_run(spark, request)
    local = str(spark.sparkContext.master).startswith("local")
    output = WorkerOutput()
    with HeartbeatServer(_driver_host(spark, local), on_event) as server:
        failure: BaseException | None = None
        with (
            HeldSignals() as signals,
            quiet_threads(),
            Watchdog(server, request.training, num_ranks=request.training.num_workers) as watchdog,
        ):
            try:
                results = _run(spark, request, server, output, local=local)
            except BaseException as error:  # it is looked at when handlers are restored and workers are gone
                failure = error
        server.hang_up()
        _wait_until_gone(server)
    signals.raise_what_came(own_terminations=int(watchdog.reason is not None))
    if server.callback_error is not None:
        raise server.callback_error
    if failure is not None:
        raise _explain(failure, server, watchdog, output) from None
    assert results[0] is not None, "rank 0 gives the result"
    return TrainResult.from_json(results[0])


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


def _run(spark: SparkSession, request: TrainRequest, server: HeartbeatServer, output: WorkerOutput, *, local: bool) -> list[str]:
    import horovod.runner.launch
    import horovod.spark

    # Horovod would fork this process to import TensorFlow and ask it for Gloo: seconds, noise on the terminal, and a fork beside
    # threads. A worker without Gloo says so itself.
    horovod.runner.launch.gloo_built = lambda **_: True
    includes = list(spark.sparkContext._python_includes or ())
    with quick_quiet_tasks():
        results: list[str] = horovod.spark.run(
            _bootstrap(includes),
            args=(request.to_json(), server.address, server.token),
            num_proc=request.training.num_workers,
            start_timeout=request.training.start_timeout_seconds,
            use_gloo=True,
            env=_environment(request),
            stdout=output,
            stderr=output,
            verbose=0,
            nics={"lo"} if local else None,
            executable=sys.executable if local else None,
        )
    return results


def _bootstrap(includes: list[str]) -> Callable[..., str | None]:
    """The function that workers get. It travels by value, because a worker finds this package only after its first lines."""

    def start(request_json: str, address: tuple[str, int], token: str) -> str | None:
        import os
        import sys

        work_dir = os.environ.get("HOROVOD_SPARK_WORK_DIR", ".")
        # files given to spark-submit by --py-files lie where the Spark task runs
        sys.path[:0] = [path for name in includes if os.path.exists(path := os.path.join(work_dir, name))]  # noqa: PTH110, PTH118
        from horovod.spark.task import get_available_devices

        from millrace.training.worker import run_worker

        return run_worker(request_json, address, token, gpus=get_available_devices())

    return start


def _environment(request: TrainRequest) -> dict[str, str | None]:
    """What is set for the workers. None takes a variable away that a local executor would hand on from this process."""
    settings: dict[str, str | None] = {name: None for name in os.environ if not is_allowed(name)}
    settings |= {
        "HOROVOD_GLOO_TIMEOUT_SECONDS": str(_GLOO_TIMEOUT_SECONDS),
        "HOROVOD_CYCLE_TIME": str(_CYCLE_MILLISECONDS),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "OMP_NUM_THREADS": str(request.training.threads_per_worker),
        "PYTHONUNBUFFERED": "1",
    }
    return settings


def _refuse_what_cannot_run(spark: SparkSession, request: TrainRequest) -> None:
    training = request.training
    plan = request.plan(resolve_index(request.train))
    shards_of_rank(plan.virtual_shards, training.num_workers, 0)
    check_memory(
        plan,
        world_size=training.num_workers,
        row_bytes=sum(column.row_bytes for column in request.columns),
        reads_ahead=held_ahead(reader_threads(training.threads_per_worker), training.loading),
        limit_bytes=training.memory_limit_bytes,
    )
    slots = _slots(spark, training.num_workers)
    if slots < training.num_workers:
        raise PlanError(
            STAGE,
            expected=f"at most {slots} workers, because Spark has {slots} task slots",
            found=f"training.num_workers = {training.num_workers}",
            remedy="Lower training.num_workers, or give Spark more cores (--master local[N], or more executors).",
        )


def _slots(spark: SparkSession, wanted: int) -> int:
    """Tasks that Spark can run at the same time. Waits a little for a cluster's executors to register."""
    context = spark.sparkContext
    if context.getConf().get("spark.dynamicAllocation.enabled", "false") == "true":
        return wanted  # Spark starts executors when tasks wait; the start time-out tells
    scala = context._jsc.sc()
    profile = scala.resourceProfileManager().defaultResourceProfile()
    deadline = time.monotonic() + (0.0 if str(context.master).startswith("local[") else _SLOT_WAIT_SECONDS)
    while True:
        slots = int(scala.maxNumConcurrentTasks(profile))
        if slots >= wanted or time.monotonic() >= deadline:
            return slots
        time.sleep(0.5)


def _driver_host(spark: SparkSession, local: bool) -> str:
    return "127.0.0.1" if local else spark.sparkContext.getConf().get("spark.driver.host", socket.getfqdn())


def _explain(failure: BaseException, server: HeartbeatServer, watchdog: Watchdog, output: WorkerOutput) -> BaseException:
    """One error for the user: a worker's own where one was raised, else who fell silent or died."""
    errors = sorted(server.errors(), key=lambda event: bool(event["collective"]))
    if errors and not errors[0]["collective"]:
        text = str(errors[0]["error"])
        return find_in(text) or TrainingError(
            STAGE,
            expected="every rank to finish",
            found=f"this in rank {errors[0]['rank']}:\n{text}\n",
            remedy="If it is not a mistake in the code, run again; training goes on from its last checkpoint.",
        )
    reason = _blame(server, watchdog) or f"{type(failure).__name__}: {failure}"
    tail = output.text()
    return TrainingError(
        STAGE,
        expected="every rank to take part in every step",
        found=reason + (f"; the workers' last output was:\n{tail}\n" if tail else ""),
        remedy="Run again; training goes on from its last checkpoint.",
        retry=True,
    )


def _blame(server: HeartbeatServer, watchdog: Watchdog) -> str | None:
    """The ranks that the others have suffered from, as well as it can be told; None where nothing is known."""
    states = [state for state in server.states().values() if state.kind not in ("error", "done")]
    gone = [state for state in states if not state.connected]
    frozen = [state for state in states if state.connected and not state.reacted]
    if gone or frozen:
        return describe(gone or frozen, watchdog.aborted_at or time.monotonic())
    return watchdog.reason


def _wait_until_gone(server: HeartbeatServer) -> None:
    """Worker processes on this machine have hung up or were ended by Horovod; what is still there is killed."""
    here = socket.gethostname()
    processes = []
    for state in server.states().values():
        if state.host == here:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(state.pid)
                if "gloo_exec_fn" in " ".join(process.cmdline()):  # the number may be another's by now
                    processes.append(process)
    _, alive = psutil.wait_procs(processes, timeout=_GONE_SECONDS)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=_GONE_SECONDS)
