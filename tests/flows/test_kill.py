"""Kill -9 and Ctrl-C at the moments that matter: nothing is left running, and the next call goes on from what is finished."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from millrace.lake import locks, log
from millrace.lake.layout import DATA_QUALITY, EPOCHS, MODELS, RUNS, Lake
from tests.flows.nights import NIGHT, Night, all_gone, command_line, driver_of, family, jvm_of, processes_of, wait_until

TABLES = ["bronze/digits", "silver/digits", "gold/digits", "quarantine/sources/digits", "quarantine/pipelines/digits"]


def started(night: Night, step: str) -> bool:
    return step in night.steps("started")


def committed(night: Night, table: str) -> bool:
    return log.latest_version(str(night.lake / table)) is not None


def checkpointed(night: Night) -> bool:
    return any((night.lake / "artifacts" / "digits").glob("*/checkpoints/*/*.ckpt"))


@dataclass(frozen=True)
class Moment:
    """When to kill: `reached`, during `step`; where `held` names a table, the night waits before its next commit to that one."""

    name: str
    step: str
    reached: Callable[[Night], bool]
    held: str | None = None


MOMENTS = [
    Moment("during ingest", "ingest", lambda night: started(night, "ingest")),
    Moment("during preprocess", "preprocess", lambda night: started(night, "preprocess")),
    Moment("during train", "train", checkpointed),
    Moment("between train and publish", "publish", lambda night: "train" in night.steps("succeeded")),
    # between a table's commit and its ledger row
    Moment("bronze committed", "ingest", lambda night: committed(night, "bronze/digits"), held=DATA_QUALITY),
    Moment("silver and rejects committed", "preprocess", lambda night: committed(night, "silver/digits"), held=RUNS),
    Moment("gold committed", "preprocess", lambda night: committed(night, "gold/digits"), held=DATA_QUALITY),
    Moment("epochs committed", "train", lambda night: committed(night, EPOCHS), held=RUNS),
    Moment("predictions committed", "publish", lambda night: committed(night, "predictions/digits"), held=MODELS),
    Moment("registry committed", "publish", lambda night: committed(night, MODELS), held=RUNS),
]
ALL = [(moment, victim) for moment in MOMENTS for victim in (driver_of, jvm_of)]
ONE = ("during train", jvm_of)


@pytest.fixture
def night(finished: Night, tmp_path: Path) -> Iterator[Night]:
    """A lake of its own over the finished night's raw files; nothing of it is left running afterwards."""
    own = Night(tmp_path, raw=finished.raw)
    yield own
    for process in processes_of(own.lake):
        process.kill()


@pytest.mark.parametrize(
    ("moment", "victim"),
    [pytest.param(moment, victim, marks=() if (moment.name, victim) == ONE else pytest.mark.full) for moment, victim in ALL],
    ids=[f"{moment.name}-{victim.__name__}" for moment, victim in ALL],
)
def test_a_killed_night_goes_on(finished: Night, night: Night, moment: Moment, victim: Callable[..., psutil.Process]) -> None:
    """Takes a night and a half: the part before the kill, then the rest."""
    process = night.start("nightly", "--night", NIGHT)
    with ExitStack() as stack:
        if moment.held is not None:
            wait_until(lambda: started(night, moment.step), seconds=500, process=process)
            stack.enter_context(locks.short(Lake.at(str(night.lake)), moment.held))
        wait_until(lambda: moment.reached(night), seconds=500, process=process)
        kill_and_wait(night, process, victim)
    before = night.steps("succeeded")
    assert moment.step not in before

    rest = night.submit("nightly", "--night", NIGHT)
    assert rest.returncode == 0, rest.stderr
    assert sorted(night.steps("succeeded")) == sorted(["ingest", "preprocess", "train", "publish", "nightly"])
    done_again = [entry.step for entry in night.entries("started") if entry.attempt > 1]
    assert not set(done_again) & set(before)
    same_as(finished, night)


def kill_and_wait(night: Night, process: subprocess.Popen[str], victim: Callable[..., psutil.Process]) -> None:
    """Nothing of the night lives 30 s later."""
    members = family(process)
    victim(members).kill()
    left = all_gone(members, seconds=30)
    assert [command_line(member) for member in left] == []
    assert processes_of(night.lake) == []
    process.communicate()


def same_as(finished: Night, night: Night) -> None:
    """The lake of a killed night holds what that of a quiet night holds."""
    for table in TABLES:
        assert night.content_hash(table) == finished.content_hash(table), table
    for table, keys in {
        "metrics/epochs": ["epoch", "step", "split", "metric"],
        "metrics/evaluation": ["artifact", "split", "slice", "label", "average", "metric"],
        "metrics/confusion": ["artifact", "split", "label", "predicted"],
        "metrics/data_quality": ["stage", "table", "rule", "num_checked", "num_failed"],
    }.items():
        assert keys_of(night, table, keys) == keys_of(finished, table, keys), table
    mine, other = (scores_of(one) for one in (night, finished))
    assert mine.keys() == other.keys()
    np.testing.assert_allclose([mine[row] for row in sorted(mine)], [other[row] for row in sorted(other)], atol=1e-5)


def keys_of(night: Night, table: str, keys: list[str]) -> list[str]:
    return sorted(repr([row[key] for key in keys]) for row in night.table(table).to_pylist())


def scores_of(night: Night) -> dict[str, list[float]]:
    return {row["row_id"]: row["scores"] for row in night.table("predictions/digits").to_pylist()}


INTERRUPTIONS: dict[str, Callable[[Night, subprocess.Popen[str]], bool]] = {
    "at start-up": lambda _, process: any("SparkSubmit" in command_line(member) for member in family(process)),
    "during ingest": lambda night, _: started(night, "ingest"),
    "during preprocess": lambda night, _: started(night, "preprocess"),
    "while workers start": lambda night, _: started(night, "train"),
    "during train": lambda night, _: checkpointed(night),
    "during publish": lambda night, _: started(night, "publish"),
}


@pytest.mark.parametrize(
    "moment", [pytest.param(moment, marks=() if moment == "during train" else pytest.mark.full) for moment in INTERRUPTIONS]
)
def test_ctrl_c_leaves_no_process_and_exits_130(night: Night, moment: str) -> None:
    process = night.start("nightly", "--night", NIGHT)
    wait_until(lambda: INTERRUPTIONS[moment](night, process), seconds=500, process=process)
    members = family(process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert all_gone(members, seconds=10) == []
    assert processes_of(night.lake) == []
    assert "Traceback" not in stderr
    if moment != "at start-up":
        assert "interrupted; the same command goes on from the last finished step" in stderr
        last = night.entries()[-1]
        assert (last.status, last.error) == ("failed", "interrupted")


def test_a_second_driver_is_refused_with_pid_and_run(night: Night) -> None:
    process = night.start("nightly", "--night", NIGHT)
    wait_until(lambda: started(night, "ingest"), seconds=100, process=process)
    driver = driver_of(family(process))
    second = night.submit("nightly", "--night", "2026-11-23")
    assert second.returncode == 1
    (run_id,) = {entry.run.run_id for entry in night.entries()}
    assert f"lock: expected the lock pipeline-digits; found that pid {driver.pid} holds it, run {run_id}, since" in second.stderr
    assert "Wait for it to end, then try again." in second.stderr
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
