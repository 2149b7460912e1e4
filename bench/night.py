"""The whole MNIST night, as a user starts it, against a plain single-process script that does the same work.

Rounds go A B C D, A B C D, ...: the night with one worker, the script, the night with two workers, and a night of a few rows and
one epoch, which is the fixed part: what grows with neither rows nor epochs. Each night has a fresh lake. The script trains on the
rows that the first night put into the train split.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import statistics
import struct
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow.parquet as pq

from bench import commands
from bench.night_records import NightRecord, read_night, seconds_by_name, train_keys
from bench.report import Bound, Figure, Result
from millrace.errors import SourceError

ROOT = Path(__file__).resolve().parent.parent
PIPELINE = "mnist"
NIGHT = "2026-11-22"
KEY = ("subset", "index")
MAX_RATIO = 4.0
FEW_ROWS = 256
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
    fixed: NightRun


def run(num_rounds: int) -> Result:
    """Measure `num_rounds` rounds. Raises SourceError (exit code 2) without the data, MillraceError where a command fails."""
    environment = {**os.environ, "MILLRACE_DATA": str(data_directory(os.environ))}
    rounds = []
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as directory:
        keys = Path(directory) / "train_keys.parquet"
        for number in range(1, num_rounds + 1):
            lakes = [Path(directory) / f"lake-{number}-{name}" for name in ("1", "2", "fixed")]
            night_1 = _night(lakes[0], num_workers=1, environment=environment, title=f"{number}/{num_rounds}")
            if not keys.exists():
                pq.write_table(train_keys(lakes[0], pipeline=PIPELINE, columns=KEY), keys)
            script = _script(keys, environment=environment, title=f"{number}/{num_rounds}")
            night_2 = _night(lakes[1], num_workers=2, environment=environment, title=f"{number}/{num_rounds}")
            few = write_few_rows(Path(environment["MILLRACE_DATA"], "mnist"), Path(directory, "few"))
            options = {"source.path": str(few), "training.epochs": "1"}
            fixed = _night(lakes[2], num_workers=1, environment=environment, title=f"{number}/{num_rounds}", options=options)
            rounds.append(Round(night_1, script, night_2, fixed))
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


def write_few_rows(mnist: Path, directory: Path) -> Path:
    """The first rows of each idx file of `mnist`, as files of the same kind in `directory`."""
    directory.mkdir(exist_ok=True)
    for name in IDX_FILES:
        plain = mnist / name
        content = plain.read_bytes() if plain.exists() else gzip.decompress(plain.with_name(f"{name}.gz").read_bytes())
        num_dimensions = content[3]
        head = 4 + 4 * num_dimensions
        row_bytes = math.prod(struct.unpack(f">{num_dimensions - 1}I", content[8:head]))
        few = content[:4] + struct.pack(">I", FEW_ROWS) + content[8:head] + content[head : head + FEW_ROWS * row_bytes]
        (directory / name).write_bytes(few)
    return directory


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
    figures.append(Figure("fixed", median(lambda one: one.fixed.wall_seconds), "s"))
    for name in ("fixed", "night_1", "night_2"):
        figures.extend(_parts([getattr(one, name) for one in rounds], prefix=f"{name}/"))
    figures.extend(_medians([seconds_by_name(one.fixed.record.timings) for one in rounds], prefix="fixed/timing/"))
    figures.extend(_medians([one.script.printed["seconds"] for one in rounds], prefix="plain_script/"))
    details = _medians([seconds_by_name(one.night_1.record.timings) for one in rounds], prefix="night_1/timing/")
    for number, one in enumerate(rounds, start=1):
        walls = (("night_1_worker", one.night_1), ("plain_script", one.script), ("night_2_workers", one.night_2))
        details.extend(Figure(f"round_{number}/{name}", side.wall_seconds, "s") for name, side in walls)
    return Result(figures=figures, bounds=[Bound("night_vs_plain_script", ratio_1, "<=", MAX_RATIO)], details=details)


def _parts(nights: Sequence[NightRun], *, prefix: str) -> list[Figure]:
    """Seconds of each step, and what lies outside of them: process and session start, and the end."""
    outside = statistics.median(night.record.outside_seconds(night.wall_seconds) for night in nights)
    steps = _medians([seconds_by_name(night.record.steps) for night in nights], prefix=f"{prefix}step/")
    return [Figure(f"{prefix}outside of the steps", outside, "s"), *steps]


def _medians(samples: Sequence[Mapping[str, float]], *, prefix: str) -> list[Figure]:
    """The median of each name over the samples that have it."""
    names = list(dict.fromkeys(name for sample in samples for name in sample))
    return [
        Figure(f"{prefix}{name}", statistics.median(float(sample[name]) for sample in samples if name in sample), "s")
        for name in names
    ]


def _night(
    lake: Path, *, num_workers: int, environment: Mapping[str, str], title: str, options: Mapping[str, str] = MappingProxyType({})
) -> NightRun:
    kind = "the night with few rows" if options else f"the night with {num_workers} worker{'s' if num_workers > 1 else ''}"
    _say(f"round {title}: {kind}")
    command = ["./spark-submit.sh", "jobs/nightly.py", "--pipeline", PIPELINE, "--lake", str(lake), "--night", NIGHT]
    for key, value in {"training.num_workers": str(num_workers), **options}.items():
        command += ["--set", f"{key}={value}"]
    done = commands.run(command, cwd=ROOT, environment=environment, timeout_seconds=TIMEOUT_SECONDS)
    return NightRun(wall_seconds=done.wall_seconds, record=read_night(lake, pipeline=PIPELINE))


def _script(keys: Path, *, environment: Mapping[str, str], title: str) -> ScriptRun:
    _say(f"round {title}: the plain script")
    command = [sys.executable, "bench/plain_mnist.py", "--keys", str(keys)]
    done = commands.run(command, cwd=ROOT, environment=environment, timeout_seconds=TIMEOUT_SECONDS)
    return ScriptRun(wall_seconds=done.wall_seconds, printed=json.loads(done.stdout.splitlines()[-1]))


def _say(text: str) -> None:
    print(f"bench night: {text}", file=sys.stderr, flush=True)
