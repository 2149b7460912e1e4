"""Faults in real workers, at an exact step: a module that Python imports at the start of each worker process plants them.

The library knows nothing of it. The worker's `Heartbeat.send` is wrapped from outside; after the event that was named, the
process kills, stops or hangs itself, raises, or kills its executor. A fault happens once, in the first attempt to come by.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

READER = "exec_in_new_process"
"""What stands in the command of a reader process."""
_DAEMONS = ("pyspark.daemon", "millrace.python_daemon")
"""Spark's own Python processes, which stay for as long as it does."""

_PLANT = """
import json, os, signal, sys, time
from pathlib import Path

HERE = Path(__file__).parent


def damage(checkpoint, how):
    content = checkpoint.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    checkpoint.write_bytes({"torn": content[:middle], "empty": b"", "flipped": flipped}[how])


def happen(fault):
    what = fault["what"]
    if what in ("torn", "empty", "flipped"):
        damage(max(Path(fault["checkpoints"]).glob("*/*.ckpt"), key=os.path.getmtime), what)
        what = "kill"
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if what == "hang":
        time.sleep(10_000)
    if what == "raise":
        raise RuntimeError("planted in " + str(fault["rank"]))
    if what == "kill executor":
        import psutil
        executor = next(parent for parent in psutil.Process().parents() if parent.name() == "java")
        executor.kill()
        time.sleep(10_000)


def plant():
    from millrace.training.heartbeat import Heartbeat

    fault = json.loads((HERE / "fault.json").read_text())
    send = Heartbeat.send

    def send_and_fail(self, kind, **fields):
        send(self, kind, **fields)
        if self._rank == fault["rank"] and kind == fault["kind"] and fault["at"].items() <= fields.items():
            try:
                os.close(os.open(HERE / "happened", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
            happen(fault)

    Heartbeat.send = send_and_fail


if "horovod.spark.task.gloo_exec_fn" in sys.orig_argv:
    plant()
"""


def plant(directory: Path, *, rank: int, what: str, kind: str = "step", checkpoints: str = "", **at: Any) -> None:
    """A fault of `rank`, after the event of this kind whose fields are `at`; for workers with `directory` on PYTHONPATH."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sitecustomize.py").write_text(_PLANT)
    fault = {"rank": rank, "kind": kind, "at": at, "what": what, "checkpoints": checkpoints}
    (directory / "fault.json").write_text(json.dumps(fault))


def happened_at(directory: Path) -> float | None:
    """When the fault happened, of time.time(); None where it has not."""
    mark = directory / "happened"
    return mark.stat().st_mtime if mark.exists() else None


class Watcher:
    """Keeps a run's events, and does something once when a certain one comes."""

    def __init__(self, when: Callable[..., bool] | None = None, do: Callable[..., object] | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.environments: dict[int, str] = {}
        self._when, self._do = when, do

    def __call__(self, event) -> None:
        self.events.append(dict(event))
        if event["kind"] == "hello":
            self.environments[event["rank"]] = Path(f"/proc/{event['pid']}/environ").read_text()
        if self._when is not None and self._when(event):
            self._when = None
            assert self._do is not None
            self._do(self.pids)

    @property
    def pids(self) -> dict[int, int]:
        """Of the newest attempt, by rank."""
        return {event["rank"]: event["pid"] for event in self.events if event["kind"] == "hello"}

    @property
    def remarks(self) -> list[str]:
        """What was said for the log."""
        return [event["message"] for event in self.events if event["kind"] == "log"]

    def all_gone(self) -> bool:
        """Whether no worker of any attempt is left."""
        return not any(_is_running(event["pid"]) for event in self.events if event["kind"] == "hello")


class Log(logging.Handler):
    """Keeps what the log says."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self.times: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the line, and its time as time.time() gives it."""
        self.lines.append(record.getMessage())
        self.times.append(record.created)


def no_process_is_left(fault: Path | None = None) -> bool:
    """Whether all of a run's processes under this one end by themselves within some seconds: workers, their readers, shells,
    middlemen. With the directory of a planted `fault`, those too that no longer hang together with this one."""
    parts = ("horovod.spark.task", "multiprocessing.spawn", READER)
    mine = [process for process in psutil.Process().children(recursive=True) if any(part in _command(process) for part in parts)]
    if fault is not None:
        mine += [process for process in psutil.process_iter() if str(fault) in _environment(process)]
        mine = [process for process in mine if not any(daemon in _command(process) for daemon in _DAEMONS)]
    _, alive = psutil.wait_procs(mine, timeout=10)
    return not alive


def handlers() -> list[Any]:
    """Who handles the signals that end a run."""
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def ctrl_c_works() -> bool:
    """Whether SIGINT interrupts this process."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    except KeyboardInterrupt:
        return True
    return False


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def _environment(process: psutil.Process) -> str:
    try:
        return Path(f"/proc/{process.pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


def _is_running(pid: int) -> bool:
    """Not gone, and not a zombie either, which has ended and only waits to be counted by its parent."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


_RECORDER = '''
import importlib.abc, json, os, subprocess, sys
from pathlib import Path

HERE = Path(__file__).parent


class FirstImport(importlib.abc.MetaPathFinder):
    """Finds nothing; notes how the process stands when it asks for TensorFlow for the first time."""

    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            sys.meta_path.remove(self)
            child = subprocess.run(["env", "-0"], capture_output=True, text=True).stdout
            seen = {"environment": dict(os.environ), "child": child, "command": Path("/proc/self/cmdline").read_text()}
            (HERE / f"rank-{os.environ['HOROVOD_RANK']}.json").write_text(json.dumps(seen))
        return None


if "horovod.spark.task.gloo_exec_fn" in sys.orig_argv:
    sys.meta_path.insert(0, FirstImport())
'''


def plant_recorder(directory: Path) -> None:
    """Lets each worker with `directory` on PYTHONPATH write to rank-N.json what it is when it is about to import TensorFlow."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sitecustomize.py").write_text(_RECORDER)
