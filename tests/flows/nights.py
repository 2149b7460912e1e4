"""Running jobs as users do, watching the ledger while they run, and comparing what two lakes hold."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa

from millrace.lake import log
from millrace.lake.layout import Lake
from millrace.lake.ledger import Entry, Ledger

ROOT = Path(__file__).resolve().parents[2]
NIGHT = "2026-11-22"
FAST = ("--set", "training.epochs=3", "--set", "training.batch_size=64")
CANARY = "canary-of-the-environment"
OWN_TO_A_RUN = ("_run_id", "run_id", "_ingested_at")


class Night:
    """The digits in a lake of their own; `raw` may be shared, so that copies of a lake read the same files."""

    def __init__(self, directory: Path, raw: Path | None = None) -> None:
        self.lake = directory / "lake"
        self.raw = raw or directory / "raw"
        self.first_output: subprocess.CompletedProcess[str] | None = None

    def command(self, job: str, *arguments: str) -> list[str]:
        options = ["--pipeline", "digits", "--lake", str(self.lake), "--set", f"source.path={self.raw}", *FAST]
        return [str(ROOT / "spark-submit.sh"), str(ROOT / "jobs" / f"{job}.py"), *options, *arguments]

    def submit(self, job: str, *arguments: str, timeout: float = 300.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(job, *arguments), capture_output=True, text=True, timeout=timeout, check=False, env=environment()
        )

    def start(self, job: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(job, *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            start_new_session=True,
        )

    def entries(self, status: str | None = None) -> list[Entry]:
        return [entry for entry in Ledger.read(Lake.at(str(self.lake))).entries if status in (None, entry.status)]

    def steps(self, status: str) -> list[str]:
        return [entry.step for entry in self.entries(status)]

    def table(self, name: str) -> pa.Table:
        """A table at its last succeeded version; small tables at their newest."""
        lake = Lake.at(str(self.lake))
        return log.read_rows(lake.path(name), version=Ledger.read(lake).version_of(name))

    def content_hash(self, name: str) -> str:
        """SHA-256 over a table's rows in any order, without what belongs to one run."""
        rows = self.table(name)
        rows = rows.select([column for column in sorted(rows.column_names) if column not in OWN_TO_A_RUN])
        digests = sorted(hashlib.sha256(repr(row).encode()).hexdigest() for row in rows.to_pylist())
        return hashlib.sha256("".join(digests).encode()).hexdigest()


def environment() -> dict[str, str]:
    """The caller's, with a secret under two names, and nothing that makes a job talk to a terminal."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", "MILLRACE_TEST_CANARY": CANARY, "AWS_SECRET_ACCESS_KEY": CANARY}


def wait_until(condition: Callable[[], bool], *, seconds: float, process: subprocess.Popen[str] | None = None) -> None:
    """Polls often, so that a moment between two commits is met. Fails when `process` ends first."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the moment to wait for did not come"
        assert process is None or process.poll() is None, process.communicate()[1] if process else ""
        time.sleep(0.01)


def processes_of(lake: Path) -> list[psutil.Process]:
    """Every process whose command line or environment names the lake."""
    found = []
    for process in psutil.process_iter():
        try:
            text = " ".join(process.cmdline()) + " ".join(process.environ().values())
        except (psutil.Error, OSError):
            continue
        if str(lake) in text and process.pid != os.getpid():
            found.append(process)
    return found


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """A process and all that it has started so far."""
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def command_line(process: psutil.Process) -> str:
    """A process's words; none of one that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def driver_of(members: list[psutil.Process]) -> psutil.Process:
    """The Python driver among a job's processes."""
    return next(member for member in members if re.match(r"\S*/python\S* (-\S+ )*\S*jobs/\w+\.py ", command_line(member)))


def jvm_of(members: list[psutil.Process]) -> psutil.Process:
    """The JVM among a job's processes."""
    return next(member for member in members if " org.apache.spark.deploy.SparkSubmit " in command_line(member))


def all_gone(members: list[psutil.Process], *, seconds: float) -> list[psutil.Process]:
    """Those that still live after `seconds`."""
    return psutil.wait_procs(members, timeout=seconds)[1]
