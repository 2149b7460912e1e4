"""The whole MNIST night, as a user starts it, against a plain single-process script that does the same work.

Rounds go A B C, A B C, ...: the night with one worker, the script, the night with two workers, each night in a fresh lake. The
script trains on the rows that the first night put into the train split.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bench import commands
from bench.night_records import NightRecord, is_fixed, read_night, seconds_by_name, train_keys
from bench.report import Bound, Figure, Result
from millrace.errors import SourceError

ROOT = Path(__file__).resolve().parent.parent
PIPELINE = "mnist"
NIGHT = "2026-11-22"
KEY = ("subset", "index")
MAX_RATIO = 4.0
TIMEOUT_SECONDS = 1800.0
IDX_FILES = tuple(f"{subset}-{kind}-ubyte" for subset in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


@dataclass(frozen=True)
class NightRun:
    """A night by the clock outside, and what its lake tells."""

    wall_seconds: float
    record: NightRecord


@dataclass(frozen=True)
class ScriptRun:
    """The script by the clock outside, and what it printed: `seconds` by stage, `accuracy`, `num_train_rows`, ..."""

    wall_seconds: float
    printed: Mapping[str, Any]


@dataclass(frozen=True)
class Round:
    """One turn of each side."""

    night_1: NightRun
    script: ScriptRun
    night_2: NightRun


def run(num_rounds: int) -> Result:
    """Measure `num_rounds` rounds. Raises SourceError (exit code 2) without the data, MillraceError where a command fails."""
    environment = {**os.environ, "MILLRACE_DATA": str(data_directory(os.environ))}
    rounds = []
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as directory:
        keys = Path(directory) / "train_keys.parquet"
        for number in range(1, num_rounds + 1):
            lakes = [Path(directory) / f"lake-{number}-{num_workers}" for num_workers in (1, 2)]
            night_1 = _night(lakes[0], num_workers=1, environment=environment, title=f"{number}/{num_rounds}")
            if not keys.exists():
                pq.write_table(train_keys(lakes[0], pipeline=PIPELINE, columns=KEY), keys)
            script = _script(keys, environment=environment, title=f"{number}/{num_rounds}")
            night_2 = _night(lakes[1], num_workers=2, environment=environment, title=f"{number}/{num_rounds}")
            rounds.append(Round(night_1, script, night_2))
    return summarise(rounds)


def data_directory(environment: Mapping[str, str]) -> Path:
    """The directory that holds mnist/: MILLRACE_DATA, else ../shared/data. Raises SourceError where an idx file is not there."""
    data = Path(environment.get("MILLRACE_DATA") or ROOT.parent / "shared" / "data").resolve()
    names = {path.name.removesuffix(".gz") for path in (data / "mnist").glob("*-ubyte*")}
    missing = [name for name in IDX_FILES if name not in names]
    if missing:
        raise SourceError(
            "bench night",
            expected=f"the MNIST idx files in {data / 'mnist'}",
            found=f"no {', '.join(missing)} there",
            remedy="Set MILLRACE_DATA to the directory that holds mnist/.",
        )
    return data


def summarise(rounds: Sequence[Round]) -> Result:
    """Medians over the rounds; the ratios are medians of each round's own ratio, so that a slow minute hits both sides."""

    def median(value: Callable[[Round], float]) -> float:
        return statistics.median(value(one) for one in rounds)

    ratio_1 = median(lambda one: one.night_1.wall_seconds / one.script.wall_seconds)
    ratio_2 = median(lambda one: one.night_2.wall_seconds / one.script.wall_seconds)
    figures = [
        Figure("night_1_worker", median(lambda one: one.night_1.wall_seconds), "s"),
        Figure("night_2_workers", median(lambda one: one.night_2.wall_seconds), "s"),
        Figure("plain_script", median(lambda one: one.script.wall_seconds), "s"),
        Figure("night_vs_plain_script", ratio_1, "ratio"),
        Figure("night_vs_plain_script_2_workers", ratio_2, "ratio"),
        Figure("accuracy_1_worker", median(lambda one: one.night_1.record.accuracy), "share"),
        Figure("accuracy_2_workers", median(lambda one: one.night_2.record.accuracy), "share"),
        Figure("accuracy_plain_script", median(lambda one: float(one.script.printed["accuracy"])), "share"),
        Figure("num_train_rows", median(lambda one: float(one.script.printed["num_train_rows"])), "rows"),
    ]
    for workers, nights in (("1_worker", [one.night_1 for one in rounds]), ("2_workers", [one.night_2 for one in rounds])):
        figures.extend(_parts(nights, prefix=f"{workers}/"))
    figures.extend(_medians([one.script.printed["seconds"] for one in rounds], prefix="plain_script/"))
    details = _medians([_timings(one.night_1, fixed=False) for one in rounds], prefix="1_worker/timing/")
    for number, one in enumerate(rounds, start=1):
        walls = (("night_1_worker", one.night_1), ("plain_script", one.script), ("night_2_workers", one.night_2))
        details.extend(Figure(f"round_{number}/{name}", side.wall_seconds, "s") for name, side in walls)
    return Result(figures=figures, bounds=[Bound("night_vs_plain_script", ratio_1, "<=", MAX_RATIO)], details=details)


def _parts(nights: Sequence[NightRun], *, prefix: str) -> list[Figure]:
    """Seconds of each step, and the fixed part with what it is made of."""
    fixed_total = statistics.median(night.record.fixed_seconds(night.wall_seconds) for night in nights)
    outside = statistics.median(night.record.outside_seconds(night.wall_seconds) for night in nights)
    workers = statistics.median(night.record.worker_start_seconds() for night in nights)
    epochs = statistics.median(night.record.epoch_seconds for night in nights)
    return [
        *_medians([seconds_by_name(night.record.steps) for night in nights], prefix=f"{prefix}step/"),
        Figure(f"{prefix}epochs", epochs, "s"),
        Figure(f"{prefix}fixed", fixed_total, "s"),
        Figure(f"{prefix}fixed/outside of the steps", outside, "s"),
        Figure(f"{prefix}fixed/workers but for their epochs", workers, "s"),
        *_medians([_timings(night, fixed=True) for night in nights], prefix=f"{prefix}fixed/"),
    ]


def _timings(night: NightRun, *, fixed: bool) -> dict[str, float]:
    return {name: value for name, value in seconds_by_name(night.record.timings).items() if is_fixed(name) == fixed}


def _medians(samples: Sequence[Mapping[str, float]], *, prefix: str) -> list[Figure]:
    """The median of each name over the samples that have it."""
    names = list(dict.fromkeys(name for sample in samples for name in sample))
    return [
        Figure(f"{prefix}{name}", statistics.median(float(sample[name]) for sample in samples if name in sample), "s")
        for name in names
    ]


def _night(lake: Path, *, num_workers: int, environment: Mapping[str, str], title: str) -> NightRun:
    _say(f"round {title}: the night with {num_workers} worker{'s' if num_workers > 1 else ''}")
    command = ["./spark-submit.sh", "jobs/nightly.py", "--pipeline", PIPELINE, "--lake", str(lake), "--night", NIGHT]
    command += ["--set", f"training.num_workers={num_workers}"]
    done = commands.run(command, cwd=ROOT, environment=environment, timeout_seconds=TIMEOUT_SECONDS)
    return NightRun(wall_seconds=done.wall_seconds, record=read_night(lake, pipeline=PIPELINE))


def _script(keys: Path, *, environment: Mapping[str, str], title: str) -> ScriptRun:
    _say(f"round {title}: the plain script")
    command = [sys.executable, "bench/plain_mnist.py", "--keys", str(keys)]
    done = commands.run(command, cwd=ROOT, environment=environment, timeout_seconds=TIMEOUT_SECONDS)
    return ScriptRun(wall_seconds=done.wall_seconds, printed=json.loads(done.stdout.splitlines()[-1]))


def _say(text: str) -> None:
    print(f"bench night: {text}", file=sys.stderr, flush=True)
