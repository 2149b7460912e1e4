"""spark-submit.sh, run for real: exit codes, signals, the terminal, and that no process is left.

The jobs here do what every driver does: take over SIGINT, then write their pid to MILLRACE_READY_FILE.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
WRAPPER = ROOT / "spark-submit.sh"
DEADLINE_SECONDS = 120.0

READY = """
import os, signal, sys, time
from pathlib import Path

def stop(signum, frame):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt

def ready(handler=stop):
    signal.signal(signal.SIGINT, handler)
    Path(os.environ["MILLRACE_READY_FILE"]).write_text(str(os.getpid()))
"""
SLEEP = (
    READY
    + """
try:
    ready()
    print("running", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print("stopped", flush=True)
    sys.exit(130)
"""
)
SESSION = (
    READY
    + """
ready()
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
signal.signal(signal.SIGINT, stop)  # a SparkContext takes the handler away
try:
    spark.range(4).repartition(2).mapInArrow(lambda batches: batches, "id long").collect()
    print("running", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    spark.stop()
    print("stopped", flush=True)
    sys.exit(130)
"""
)


class Run:
    """One call of spark-submit.sh in a process group of its own; what it starts is known by a mark in the environment."""

    def __init__(self, folder: Path, job: str, *arguments: str, options: tuple[str, ...] = ()) -> None:
        script = folder / "job.py"
        script.write_text(job)
        self.mark = f"MILLRACE_TEST_MARK={uuid.uuid4().hex}"
        name, value = self.mark.split("=")
        self.output = folder / "stdout"
        self.errors = folder / "stderr"
        with self.output.open("wb") as output, self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                ["env", "--default-signal=HUP", WRAPPER, *options, script, *arguments],  # which nohup would have ignored
                cwd=folder,
                env={**os.environ, name: value, "TMPDIR": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Until `condition` holds; an end of the run before that is an error."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.errors.read_text()}"
            assert time.monotonic() < deadline, "the run never came so far"
            time.sleep(0.05)

    def says(self, word: str) -> bool:
        return word in self.output.read_text()

    def catches_sigint(self) -> bool:
        """Whether the script has set its traps: until then Ctrl-C ends it as it ends any program."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGINT - 1) & 1)

    def end(self) -> int:
        return self.process.wait(DEADLINE_SECONDS)

    def processes(self) -> list[psutil.Process]:
        """Everything alive with this run's mark."""
        name, value = self.mark.split("=")
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def java(self) -> psutil.Process | None:
        """The driver's JVM, once it runs Spark."""
        for process in self.processes():
            try:
                if "org.apache.spark.deploy.SparkSubmit" in process.cmdline() and process.name() == "java":
                    return process
            except psutil.Error:
                continue
        return None


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts a job; afterwards nothing of it may be alive, nor its directory in TMPDIR."""
    started: list[Run] = []

    def start(job: str, *arguments: str, options: tuple[str, ...] = ()) -> Run:
        started.append(Run(tmp_path, job, *arguments, options=options))
        return started[-1]

    yield start
    for each in started:
        left = each.processes()
        for process in left:
            process.kill()
        assert each.process.poll() is not None, "spark-submit.sh itself did not end"
        assert left == []


@pytest.mark.parametrize("code", [0, 1, 2, 3, 130])
def test_the_jobs_exit_code_is_returned(run: Callable[..., Run], code: int, tmp_path: Path) -> None:
    job = run("import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(int(sys.argv[1]))", str(code))
    assert job.end() == code
    # stderr is the job's alone: neither the JVM nor the scripts add a word, and nothing moved to stdout.
    assert (job.output.read_text(), job.errors.read_text()) == ("out\n", "err\n")
    assert list(tmp_path.glob("millrace-*")) == []


def test_a_session_says_nothing_and_the_jobs_arguments_arrive_unchanged(run: Callable[..., Run], tmp_path: Path) -> None:
    job = run(
        """
import os, sys
from importlib import resources
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
spark.createDataFrame([(1, "a")], "a int, b string").write.format("delta").save(sys.argv[1])
spark.sql("CREATE TABLE kept (a INT) USING parquet")
import millrace
print(spark.conf.get("spark.sql.session.timeZone"), spark.sparkContext.appName, "millrace.zip" in millrace.__file__)
print(sys.argv[2:], os.environ["MILLRACE_ROOT"], resources.files("millrace").joinpath("_builtin/REVISION").is_file())
""",
        str(tmp_path / "table"),
        "--profile",
        "a b",
        "--master=x",
        "*",
        options=("--name", "two words", "--conf=spark.sql.shuffle.partitions=3"),
    )
    assert job.end() == 0
    assert job.errors.read_text() == ""
    assert job.output.read_text() == f"UTC two words True\n['--profile', 'a b', '--master=x', '*'] {ROOT} True\n"
    assert not (tmp_path / "spark-warehouse").exists()


def test_an_unknown_profile_is_refused_in_one_line(run: Callable[..., Run]) -> None:
    job = run("", options=("--profile", "laptop"))
    assert job.end() == 2
    assert job.errors.read_text() == (
        "spark-submit.sh: unknown profile 'laptop': known are local, cluster, gpu (conf/spark/NAME.conf)\n"
    )


@pytest.mark.parametrize("to_group", [True, False], ids=["group", "wrapper"])
def test_ctrl_c_stops_a_driver_with_a_session_in_order(run: Callable[..., Run], to_group: bool) -> None:
    job = run(SESSION)
    job.wait_for(lambda: job.says("running"))
    (os.killpg if to_group else os.kill)(job.process.pid, signal.SIGINT)
    assert job.end() == 130
    assert job.output.read_text() == "running\nstopped\n"
    assert job.errors.read_text() == ""


@pytest.mark.parametrize("to_group", [True, False], ids=["group", "wrapper"])
@pytest.mark.parametrize("moment", ["at once", "in the JVM"])
def test_ctrl_c_before_the_driver_is_ready(run: Callable[..., Run], to_group: bool, moment: str) -> None:
    job = run("import time\ntime.sleep(600)")
    if moment == "in the JVM":
        job.wait_for(job.java)
    else:
        job.wait_for(job.catches_sigint)
    (os.killpg if to_group else os.kill)(job.process.pid, signal.SIGINT)
    assert job.end() == 130
    assert (job.output.read_text(), job.errors.read_text()) == ("", "")


def test_a_second_ctrl_c_kills_what_does_not_stop(run: Callable[..., Run]) -> None:
    job = run(READY + "ready(lambda *_: print('no', flush=True))\nwhile True:\n    time.sleep(1)")
    job.wait_for(lambda: (ready := list(job.output.parent.glob("millrace-*/ready"))) and ready[0].read_text())
    os.killpg(job.process.pid, signal.SIGINT)
    job.wait_for(lambda: job.says("no"))
    os.killpg(job.process.pid, signal.SIGINT)
    assert job.end() == 130
    assert job.output.read_text() == "no\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["TERM", "HUP"])
def test_term_and_hup_are_passed_on(run: Callable[..., Run], number: signal.Signals, code: int) -> None:
    job = run(SLEEP)
    job.wait_for(lambda: job.says("running"))
    os.kill(job.process.pid, number)
    assert job.end() == code


@pytest.mark.parametrize("victim", ["driver", "JVM", "wrapper"])
def test_a_killed_part_takes_the_others_with_it(run: Callable[..., Run], victim: str) -> None:
    job = run(SLEEP)
    job.wait_for(lambda: job.says("running"))
    java = job.java()
    assert java is not None
    driver = int(next(job.output.parent.glob("millrace-*/ready")).read_text())
    os.kill({"driver": driver, "JVM": java.pid, "wrapper": job.process.pid}[victim], signal.SIGKILL)
    assert job.end() == (-signal.SIGKILL if victim == "wrapper" else 137)
    deadline = time.monotonic() + 20
    while job.processes() and time.monotonic() < deadline:
        time.sleep(0.1)


def test_the_driver_sees_the_terminal_and_its_ctrl_c(tmp_path: Path, run: Callable[..., Run]) -> None:
    """The terminal is the wrapper's controlling one, so that the key itself sends the signal, to the whole foreground group."""
    (tmp_path / "job.py").write_text(SLEEP.replace('"running"', '"running", sys.stdout.isatty(), sys.stderr.isatty()'))
    master, slave = pty.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [WRAPPER, tmp_path / "job.py"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
        preexec_fn=take_terminal,  # noqa: PLW1509  one ioctl, before any thread of the child
    )
    os.close(slave)
    text = b""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if select.select([master], [], [], 0.1)[0]:
            try:
                text += os.read(master, 4096)
            except OSError:
                break
            if text.endswith(b"running True True\r\n"):
                os.write(master, b"\x03")
    assert process.wait(DEADLINE_SECONDS) == 130
    os.close(master)
    assert text.decode().replace("\r\n", "\n") == (
        "running True True\n^Cspark-submit.sh: stopping; Ctrl-C again ends it at once\nstopped\n"
    )


def test_python_is_the_environments_own(run: Callable[..., Run]) -> None:
    job = run("import sys, os\nprint(sys.executable, os.environ['PYSPARK_PYTHON'])")
    assert job.end() == 0
    assert job.output.read_text() == f"{sys.executable} {sys.executable}\n"
