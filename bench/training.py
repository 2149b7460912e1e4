"""Steps per second of a Millrace worker against Keras's `fit`, and of two workers against two processes that share nothing.

Two models: an MLP (784-512-10) and a small CNN, 128 rows a step on each worker. Five sides take turns, round after round:

    loop_1          one worker with two threads, fed from the table
    fit_1           `fit` with two threads, on arrays in memory
    fits_2          two processes with `fit` side by side with one thread each
    workers_2       two Horovod ranks side by side with one thread each, 256 rows a step in all
    loops_2         two worlds of one side by side with one thread each: the same without all-reduce

What is compared takes turns next to each other, in every second round the other way round: a machine's speed drifts.
Where two run side by side, the rate is of steps that both have taken, by the slower one's time.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import commands, scaling
from bench.report import Bound, Figure, Result
from bench.training_peers import MODELS, write_table
from bench.workers import ROOT, Worker

BATCH = 128
MIN_ROUNDS = 5
STEPS = {"mlp": 400, "cnn": 64}
"""In a measurement; the first, which also compiles, is not counted."""

BOUNDS = (
    ("step_vs_keras_mlp", "mlp", "loop_1", "fit_1", 1.15),
    ("step_vs_keras_cnn", "cnn", "loop_1", "fit_1", 1.0),
    ("two_workers_vs_two_fit", "cnn", "workers_2", "fits_2", 1.0),
    ("two_workers_vs_two_loops", "cnn", "workers_2", "loops_2", 0.7),
)
"""Name, model, side, other side, and what the rate of the first over that of the second is at least."""
BESIDE = (
    ("two_workers_vs_two_fit_mlp", "mlp", "workers_2", "fits_2"),
    ("two_workers_vs_two_loops_mlp", "mlp", "workers_2", "loops_2"),
)

_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "RUST_LOG": "error", "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""}
_KERNELS = {"TF_ENABLE_ONEDNN_OPTS": "1"}  # the same for all sides
_TIMEOUT_SECONDS = 900.0

Round = Mapping[tuple[str, str], float]
"""Steps per second by (model, side)."""


def run(num_rounds: int) -> Result:
    """Measure at least 5 rounds. Raises MillraceError where a process fails."""
    return measure(max(num_rounds, MIN_ROUNDS), steps=STEPS)


def measure(num_rounds: int, *, steps: Mapping[str, int], starts: bool = True) -> Result:
    """`steps` in each measurement of each model; `starts`: with the seconds that a start on Spark takes."""
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as name:
        directory = Path(name)
        _say("writing the table")
        write_table(str(directory / "digits"))
        rounds: list[dict[tuple[str, str], float]] = [{} for _ in range(num_rounds)]
        for model, count in steps.items():
            with sides(model, directory) as groups:
                for number, one in enumerate([{}, *rounds]):
                    _say(f"{model}: round {number}/{num_rounds}" if number else f"{model}: warming up")
                    rates = {side: _rate(groups[side], count) for side in list(groups)[:: -1 if number % 2 else 1]}
                    one.update({(model, side): rates[side] for side in groups})
        seconds = _start_seconds(directory) if starts else {}
    return summarise(rounds, seconds)


@contextmanager
def sides(model: str, directory: Path) -> Iterator[Mapping[str, Sequence[Worker]]]:
    """The processes of each side, started and waiting."""
    from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
    from horovod.runner.gloo_run import create_run_env_vars, create_slot_env_vars
    from horovod.runner.http.http_server import RendezvousServer

    rendezvous = RendezvousServer(0)
    slots = get_host_assignments(parse_hosts("localhost:2"), 2)
    shared = create_run_env_vars("127.0.0.1", ["lo"], rendezvous.start())
    rendezvous.init(slots)
    with ExitStack() as stack:

        def start(kind: str, threads: int, batch: int, **environment: str) -> Worker:
            known = {**_QUIET, **_KERNELS, "OMP_NUM_THREADS": str(threads), **environment}
            arguments = (kind, model, str(threads), str(batch), str(directory))
            return stack.enter_context(
                Worker("bench.training_peers", *arguments, environment=known, timeout_seconds=_TIMEOUT_SECONDS)
            )

        ranks = [{name: str(value) for name, value in {**shared, **create_slot_env_vars(slot)}.items()} for slot in slots]
        yield {
            "loop_1": [start("loop", 2, BATCH)],
            "fit_1": [start("fit", 2, BATCH)],
            "fits_2": [start("fit", 1, BATCH) for _ in range(2)],
            "workers_2": [start("loop", 1, 2 * BATCH, **environment) for environment in ranks],
            "loops_2": [start("loop", 1, BATCH) for _ in range(2)],
        }
    rendezvous.stop()


def _rate(group: Sequence[Worker], steps: int) -> float:
    """Steps per second of processes that work at the same time."""
    for worker in group:
        worker.tell(steps=steps)
    return steps / max(float(worker.answer()["seconds"]) for worker in group)


def _start_seconds(directory: Path) -> Mapping[str, float]:
    _say("starts on Spark")
    command = [sys.executable, "-m", "bench.training_start", str(directory)]
    done = commands.run(command, cwd=ROOT, environment={**os.environ, **_QUIET}, timeout_seconds=_TIMEOUT_SECONDS)
    printed: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return printed


def summarise(rounds: Sequence[Round], start_seconds: Mapping[str, float]) -> Result:
    """Medians over the rounds; ratios are medians of each round's own ratio, so that a slow minute hits both sides."""

    def ratio(model: str, side: str, other: str) -> float:
        return statistics.median(one[model, side] / one[model, other] for one in rounds)

    cells = list(rounds[0])
    models = [model for model in MODELS if (model, "loop_1") in cells]
    rates = {cell: statistics.median(one[cell] for one in rounds) for cell in cells}
    figures = [Figure("/".join(cell), rate, "steps/s") for cell, rate in rates.items()]
    figures += [Figure(name, ratio(model, *both), "ratio") for name, model, *both in BESIDE if model in models]
    figures += [Figure(f"start/{name}", value, "s") for name, value in start_seconds.items()]
    for model in models:
        setting = scaling.Setting(num_parameters=scaling.PARAMETERS[model], compute_seconds=1 / rates[model, "loop_1"])
        figures += [
            Figure(f"{model}/efficiency_on_{ranks}_ranks_on_paper", scaling.efficiency(setting, ranks), "share")
            for ranks in (2, 32, 1024)
        ]
    bounds = [
        Bound(name, ratio(model, side, other), ">=", limit) for name, model, side, other, limit in BOUNDS if model in models
    ]
    details = [
        Figure(f"round_{number}/{model}/{side}", rate, "steps/s")
        for number, one in enumerate(rounds, start=1)
        for (model, side), rate in one.items()
    ]
    return Result(figures=figures, bounds=bounds, details=details)


def _say(text: str) -> None:
    print(f"bench training: {text}", file=sys.stderr, flush=True)
