"""One attempt at a training: Horovod's processes in Spark tasks, watched, and gone when this returns."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil

from millrace.training.failure import AttemptFailedError, explain, no_result
from millrace.training.heartbeat import Event
from millrace.training.listener import HeartbeatServer
from millrace.training.request import TrainRequest, TrainResult
from millrace.training.shield import HeldSignals, WorkerOutput, gloo_is_there, quick_quiet_tasks, quiet_threads
from millrace.training.watchdog import Watchdog
from millrace.training.worker import is_allowed

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_GLOO_TIMEOUT_SECONDS = 10
_CYCLE_MILLISECONDS = 2
_GONE_SECONDS = 10.0


def run_attempt(
    spark: SparkSession, request: TrainRequest, *, num_workers: int, on_event: Callable[[Event], None] | None
) -> TrainResult:
    """Trains on `num_workers` Spark tasks, from the newest checkpoint. Call it from the main thread.

    Signal handlers are as before when this returns or raises, and no worker process is left. Raises AttemptFailedError; what
    `on_event` raises; KeyboardInterrupt for Ctrl-C.
    """
    assert threading.current_thread() is threading.main_thread(), "Horovod sets signal handlers"
    local = str(spark.sparkContext.master).startswith("local")
    output = WorkerOutput()
    with HeartbeatServer(_driver_host(spark, local), on_event, num_ranks=num_workers) as server:
        raised: BaseException | None = None
        with HeldSignals() as signals, quiet_threads(), Watchdog(server, request.training, num_ranks=num_workers) as watchdog:
            try:
                results = _run(spark, request, server, output, num_workers=num_workers, local=local)
            except BaseException as error:  # it is looked at when handlers are restored and workers are gone
                raised = error
        server.hang_up()
        _wait_until_gone(server)
    signals.raise_what_came(own_terminations=watchdog.num_terminations)
    if server.callback_error is not None:
        raise server.callback_error
    if isinstance(raised, KeyboardInterrupt):
        raise raised
    if raised is not None:
        raise AttemptFailedError(explain(raised, server, watchdog, output.text())) from None
    if results[0] is None:
        host, port = server.address
        raise AttemptFailedError(no_result(f"{host}:{port}", len(server.states()), num_workers))
    return TrainResult.from_json(results[0])


def _run(
    spark: SparkSession, request: TrainRequest, server: HeartbeatServer, output: WorkerOutput, *, num_workers: int, local: bool
) -> list[str | None]:
    import horovod.spark

    includes = list(spark.sparkContext._python_includes or ())
    with gloo_is_there(), quick_quiet_tasks():
        results: list[str | None] = horovod.spark.run(
            _bootstrap(includes),
            args=(request.to_json(), server.address, server.token),
            num_proc=num_workers,
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
    settings: dict[str, str | None] = {name: None for name, value in os.environ.items() if not is_allowed(name, value)}
    settings |= {
        "HOROVOD_GLOO_TIMEOUT_SECONDS": str(_GLOO_TIMEOUT_SECONDS),
        "HOROVOD_CYCLE_TIME": str(_CYCLE_MILLISECONDS),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # a convolution takes half the time, and the same bits come out in every run on as many threads
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "OMP_NUM_THREADS": str(request.training.threads_per_worker),
        "PYTHONUNBUFFERED": "1",
    }
    return settings


def _driver_host(spark: SparkSession, local: bool) -> str:
    return "127.0.0.1" if local else spark.sparkContext.getConf().get("spark.driver.host", socket.getfqdn())


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
