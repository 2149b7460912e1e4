"""Rows per second of the loader against other ways to get shuffled batches into TensorFlow, and its memory at ten times the rows.

Four shapes of rows. Every loader runs in a process of its own, which stays for all rounds and waits while the others measure; the
first pass over a shape is not counted. Rounds go over all shapes and loaders, each for a second and in an order that turns from
round to round. What each loader does, and with how much shuffling, stands in loading_peers.py.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import commands
from bench.loading_data import SHAPES, Shape, write_table
from bench.loading_peers import LOADERS
from bench.report import Bound, Figure, Result
from bench.workers import ROOT, Worker

SECONDS = 1.0
MIN_ROUNDS = 5
TIMES = 10
_IMAGES_ALONE = ("millrace_v1", "millrace_v32")
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "RUST_LOG": "error", "PYTHONWARNINGS": "ignore"}
_TIMEOUT_SECONDS = 600.0

BOUNDS = (
    ("images", "petastorm", ">=", 8.0),
    ("images", "tfrecord", ">=", 15.0),
    ("images", "arrow", ">=", 0.6),
    ("floats", "petastorm", ">=", 4.0),
    ("columns", "petastorm", ">=", 4.0),
    ("tokens", "petastorm", ">=", 4.0),
)
"""Millrace's rate over another loader's."""
MAX_MEMORY_10X = 1.1

Round = Mapping[tuple[str, str], float]
"""Rows per second by (shape, loader)."""


def run(num_rounds: int) -> Result:
    """Measure at least 5 rounds. Raises MillraceError where a loader fails."""
    return measure(max(num_rounds, MIN_ROUNDS), shapes=list(SHAPES.values()), loaders=list(LOADERS), seconds=SECONDS)


def measure(num_rounds: int, *, shapes: Sequence[Shape], loaders: Sequence[str], seconds: float) -> Result:
    """The rates of some loaders on some shapes; with the images among them, the memory too."""
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as name:
        directory = Path(name)
        for shape in shapes:
            _say(f"writing {shape.name}")
            write_table(shape, str(directory / shape.name))
        with ExitStack() as stack:
            workers = {loader: stack.enter_context(_worker(loader, directory)) for loader in loaders}
            rounds = []
            for number in range(1, num_rounds + 1):
                _say(f"round {number}/{num_rounds}")
                rounds.append(_round(number, workers, shapes, seconds))
        memory = {}
        if SHAPES["images"] in shapes:
            for times in (1, TIMES):
                _say(f"memory at {times} times the rows")
                memory[times] = _memory(directory, times)
    return summarise(rounds, memory)


def _worker(loader: str, directory: Path) -> Worker:
    return Worker("bench.loading_peers", loader, str(directory), environment=_ENVIRONMENT, timeout_seconds=_TIMEOUT_SECONDS)


def _round(number: int, workers: Mapping[str, Worker], shapes: Sequence[Shape], seconds: float) -> Round:
    rates = {}
    for shape in shapes:
        names = [name for name in workers if shape.name == "images" or name not in _IMAGES_ALONE]
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            answer = workers[name].ask(shape=shape.name, seconds=seconds, round=number)
            rates[shape.name, name] = answer["num_rows"] / answer["seconds"]
    return rates


def _memory(directory: Path, times: int) -> Mapping[str, float]:
    command = [sys.executable, "-m", "bench.loading_memory", str(directory), str(times)]
    environment = {**os.environ, **_ENVIRONMENT}
    done = commands.run(command, cwd=ROOT, environment=environment, timeout_seconds=_TIMEOUT_SECONDS)
    printed: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return printed


def summarise(rounds: Sequence[Round], memory: Mapping[int, Mapping[str, float]]) -> Result:
    """Medians over the rounds; ratios are medians of each round's own ratio, so that a slow minute hits both sides."""

    def ratio(cell: tuple[str, str], other: tuple[str, str]) -> float:
        return statistics.median(one[cell] / one[other] for one in rounds)

    cells = list(rounds[0])
    figures = [Figure("/".join(cell), statistics.median(one[cell] for one in rounds), "rows/s") for cell in cells]
    ratios = {(shape, loader): ratio((shape, "millrace"), (shape, loader)) for shape, loader in cells if loader != "millrace"}
    figures += [Figure(name_of(*cell), value, "ratio") for cell, value in ratios.items()]
    figures += [
        Figure(f"images_{loader}_vs_arrow_loop", ratio(("images", loader), ("images", "arrow")), "ratio")
        for loader in (*_IMAGES_ALONE, "millrace_dataset")
        if {("images", loader), ("images", "arrow")} <= set(cells)
    ]
    bounds = [
        Bound(name_of(shape, peer), ratios[shape, peer], op, limit)
        for shape, peer, op, limit in BOUNDS
        if (shape, peer) in ratios
    ]
    if memory:
        growth = memory[TIMES]["peak_bytes"] / memory[1]["peak_bytes"]
        for times, known in memory.items():
            figures += [Figure(f"memory_{times}x/{name}", known[f"{name}_bytes"] / 2**20, "MiB") for name in ("peak", "start")]
            figures.append(Figure(f"memory_{times}x/num_windows", known["num_windows"], "windows"))
        above = [memory[times]["peak_bytes"] - memory[times]["start_bytes"] for times in (1, TIMES)]
        figures.append(Figure("memory_10x_above_start", above[1] / above[0], "ratio"))  # without TensorFlow, which both have
        bounds.append(Bound("memory_10x", growth, "<=", MAX_MEMORY_10X))
    details = [
        Figure(f"round_{number}/{shape}/{loader}", rate, "rows/s")
        for number, one in enumerate(rounds, start=1)
        for (shape, loader), rate in one.items()
    ]
    return Result(figures=figures, bounds=bounds, details=details)


def name_of(shape: str, loader: str) -> str:
    """The name of Millrace's rate over another's."""
    return f"{shape}_vs_{'arrow_loop' if loader == 'arrow' else loader}"


def _say(text: str) -> None:
    print(f"bench loading: {text}", file=sys.stderr, flush=True)
