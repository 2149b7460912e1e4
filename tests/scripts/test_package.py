"""scripts/package.sh: the line that it prints, run on a cluster of one machine, from another directory."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from millrace.lake import log

ROOT = Path(__file__).parents[2]
JOB = """
from pyspark.sql import SparkSession
import millrace.config
from importlib import resources

def where(batches):
    import os
    import sys
    import pyarrow as pa
    import millrace
    for batch in batches:
        yield pa.RecordBatch.from_pydict({"code": [millrace.__file__], "python": [sys.executable], "folder": [os.getcwd()]})

spark = SparkSession.builder.getOrCreate()
print("driver", "millrace.zip" in millrace.config.__file__)
print("builtin", resources.files("millrace").joinpath("_builtin", "REVISION").is_file())
row = spark.range(1).repartition(1).mapInArrow(where, "code string, python string, folder string").first()
print("executor", "millrace.zip" in row.code, row.python.replace(row.folder, "."))
"""


def package(*options: str) -> str:
    """The printed line."""
    done = subprocess.run([ROOT / "scripts" / "package.sh", *options], capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    return line


def run_line(line: str, folder: Path, job: Path, arguments: list[str], *, options: list[str], without: set[str]) -> list[str]:
    """Runs the line from `folder` with another master and another job; the lines that the job printed."""
    environment = dict(os.environ)
    words = shlex.split(line)
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    command = words[: words.index(str(ROOT / "jobs" / "nightly.py"))]
    for option in without:
        at = command.index(option)
        del command[at : at + 2]
    at = command.index("--master")
    command[at + 1] = "local-cluster[1,2,1024]"
    environment["SPARK_LOCAL_IP"] = "127.0.0.1"
    # Executors of such a cluster work under SPARK_HOME/work, and nothing can tell them otherwise.
    work = Path(environment["SPARK_HOME"], "work")
    before = set(work.glob("app-*"))
    done = subprocess.run(
        [*command, *options, str(job), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    for left in set(work.glob("app-*")) - before:
        shutil.rmtree(left)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def run_jobs(line: str, folder: Path, *, options: list[str], without: set[str]) -> list[str]:
    """Says where code and Python come from, then ingests and preprocesses the digits; gives what the first job printed."""
    job = folder / "job.py"
    job.write_text(JOB)
    printed = run_line(line, folder, job, [], options=options, without=without)
    arguments = ["--pipeline", "digits", "--lake", str(folder / "lake"), "--night", "2026-11-22"]
    for name in ("ingest", "preprocess"):
        run_line(line, folder, ROOT / "jobs" / f"{name}.py", arguments, options=options, without=without)
    assert log.read_rows(str(folder / "lake" / "gold" / "digits")).num_rows == 1797
    return printed


def test_the_zip_runs_on_executors_from_another_directory(tmp_path: Path) -> None:
    """Over 20 s on a busy machine: a master, a worker and an executor start for real."""
    line = package("--without-environment")
    # Nothing is packed here: executors take the Python of this environment.
    printed = run_jobs(line, tmp_path, options=["--conf", f"spark.pyspark.python={sys.executable}"], without={"--archives"})
    assert printed == ["driver True", "builtin True", f"executor True {sys.executable}"]


@pytest.mark.full
def test_the_packed_environment_runs_on_executors_and_names_no_checkout(tmp_path: Path) -> None:
    """Minutes: packs, unpacks and starts a whole environment."""
    printed = run_jobs(package(), tmp_path, options=[], without=set())
    assert printed == ["driver True", "builtin True", "executor True ./environment/bin/python"]
    leaks = []
    with tarfile.open(ROOT / "dist" / "environment.tar.gz") as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            assert not name.startswith(("java", "jars")), name
            assert "millrace" not in Path(name).name, name
            if str(ROOT) in member.linkname:
                leaks.append(name)
            # Compiled modules note where they were compiled; Python corrects that when it loads them.
            if member.isfile() and member.size < 200_000 and not name.endswith(".pyc"):
                stream = archive.extractfile(member)
                if stream is not None and str(ROOT).encode() in stream.read():
                    leaks.append(name)
    assert leaks == []


def test_an_unknown_option_is_refused() -> None:
    done = subprocess.run([ROOT / "scripts" / "package.sh", "--fast"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "package.sh: unknown option '--fast': known are --without-environment, --python-prefix\n",
    )
