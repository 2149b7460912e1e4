"""Raw CSV to a training table: 5,000,000 connections of kddcup99, on two threads, against polars, pandas and row-wise UDFs.

The rows are kddcup99 again and again with a unique `id` in front, so that the contract has a key (`tabular_data`). Millrace runs
the night that users call, with `materialize: [gold]`: contract, quarantine, split, fit, encode, hash order, ledger, over files
that it has not seen, in a session that has done a tenth of the rows before; the same with bronze and silver stands beside it,
and with a profile, which is on by default and no peer makes: `quality.profile` is off in the others.
polars and pandas hold the table in memory and do the same to it, as does a Spark pipeline of row-wise Python UDFs: the numbers
of rows, the sums of each encoded column in each split, and some rows must agree. polars without the hash order is a detail. A
side's peak memory is that of its whole process tree; a cold start is not in its seconds. Alone, once, on so many rows:
`python -m bench.preprocess_tabular [ROWS]`.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import commands, peers
from bench.report import Bound, Figure, Result, print_table
from bench.tabular_check import check_same, contents_of_gold, contents_of_peer, contents_of_udf
from bench.tabular_data import KEY, LABEL, NAME, SEED, TEXTS, numbers, rates, write_conf, write_rows
from bench.workers import ROOT, Worker

NUM_ROWS = 5_000_000
THREADS = 2
MIN_VS_UDF, MIN_VS_POLARS = 5.0, 0.25
_TIMEOUT_SECONDS = 1800.0

Side = Mapping[str, Any]
"""seconds, peak_bytes, stages."""


def run(num_rounds: int) -> Result:
    """Millrace and polars as often as said, in turn; the others, which take minutes, once. Raises MillraceError where one fails
    or gives another table."""
    return measure(num_rounds, NUM_ROWS)


def measure(num_rounds: int, num_rows: int) -> Result:
    """All sides on so many rows."""
    data = Path(os.environ.get("MILLRACE_DATA") or ROOT.parent / "shared" / "data").resolve()
    python = peers.python()
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as name:
        directory = Path(name)
        _say("writing rows")
        num_bytes = write_rows(data, directory / "rows", num_rows)
        write_rows(data, directory / "tenth", max(num_rows // 10, 10_000))
        for size in ("rows", "tenth"):
            write_conf(directory / f"conf-{size}", str(directory / size))
        sides = _Sides(directory, python)
        with Worker("bench.tabular_spark", str(THREADS), environment={}, timeout_seconds=_TIMEOUT_SECONDS) as worker:
            sides.add("start", worker.ask(ask="start"))
            for side in ("gold", "gold"):
                sides.add("first", sides.spark(worker, side, "tenth"))
            for number in range(num_rounds):
                _say(f"round {number + 1}/{num_rounds}")
                order = ("gold", "polars") if number % 2 else ("polars", "gold")
                for side in order:
                    sides.add(side, sides.spark(worker, side) if side == "gold" else sides.peer(side))
            _say("comparing")
            sides.compare_with_polars()
            for side in ("profiled", "all", "udf"):
                _say(side)
                sides.add(side, sides.spark(worker, side))
            sides.compare("udf", contents_of_udf(directory / "udf"))
            sides.add("account", worker.ask(ask="account", conf=str(directory / "conf-rows")))
        for side, shuffled in (("polars_unordered", False), ("pandas", True)):
            _say(side)
            sides.add(side, sides.peer(side.partition("_")[0], shuffled=shuffled))
        sides.compare("pandas", contents_of_peer(directory / "pandas"))
    return summarise(sides.measured, num_rows, num_bytes)


class _Sides:
    """What each side measured, round by round, and the tables to compare."""

    def __init__(self, directory: Path, python: Path) -> None:
        self._directory, self._python = directory, python
        self.measured: dict[str, list[Side]] = {}
        self._gold: Any = None

    def add(self, side: str, found: Side) -> None:
        """One round more."""
        self.measured.setdefault(side, []).append(found)

    def spark(self, worker: Worker, side: str, size: str = "rows") -> Side:
        """A side of `tabular_spark`."""
        found = worker.ask(
            ask=side,
            conf=str(self._directory / f"conf-{size}"),
            rows=str(self._directory / size),
            out=str(self._directory / side),
        )
        _say(f"{side}, {size}: {found['seconds']:.1f} s")
        return found

    def peer(self, side: str, *, shuffled: bool = True) -> Side:
        """A side of `tabular_peers`, in a process of its own."""
        out = self._directory / side
        commands.run(["rm", "-rf", str(out)], cwd=ROOT, environment={}, timeout_seconds=60.0)
        plan = {
            "numbers": numbers(),
            "texts": TEXTS,
            "rates": rates(),
            "label": LABEL,
            "key": KEY,
            "seed": SEED,
            "shuffled": shuffled,
        }
        command = [str(self._python), str(ROOT / "bench" / "tabular_peers.py"), side, str(self._directory / "rows"), str(out)]
        threads = {"POLARS_MAX_THREADS": str(THREADS), "OMP_NUM_THREADS": str(THREADS)}
        environment = peers.environment() | threads
        done = commands.run([*command, json.dumps(plan)], cwd=ROOT, environment=environment, timeout_seconds=_TIMEOUT_SECONDS)
        found: Side = json.loads(done.stdout.splitlines()[-1])
        _say(f"{side}: {found['seconds']:.1f} s")
        return found

    def compare_with_polars(self) -> None:
        """Keeps what gold has for the others."""
        self._gold = contents_of_gold(self._directory / "gold")
        self.compare("polars", contents_of_peer(self._directory / "polars"))

    def compare(self, side: str, contents: Any) -> None:
        """Raises MillraceError where a side has another table."""
        check_same(self._gold, contents, side=side)


def summarise(sides: Mapping[str, Sequence[Side]], num_rows: int, num_bytes: int) -> Result:
    """Medians of each side, the ratios, and where the time of a night with gold alone goes."""
    shown = ("gold", "profiled", "all", "polars", "pandas", "udf")
    seconds = {side: statistics.median(one["seconds"] for one in sides[side]) for side in (*shown, "polars_unordered")}
    figures = [Figure("rows", num_rows, "rows"), Figure("raw", num_bytes / 1e6, "MB")]
    figures += [Figure(f"tabular/{side}", seconds[side], "s") for side in shown]
    figures += [Figure(f"peak_memory/{side}", max(one["peak_bytes"] for one in sides[side]) / 2**30, "GiB") for side in shown]
    figures += [
        Figure("cold_start/session", sides["start"][0]["seconds"], "s"),
        Figure("cold_start/first_tenth", sides["first"][0]["seconds"], "s"),
        Figure("cold_start/warm_tenth", sides["first"][-1]["seconds"], "s"),
    ]
    figures += [Figure(f"cold_start/{side}", sides[side][0]["start_seconds"], "s") for side in ("polars", "pandas")]
    vs_polars = statistics.median(
        polars["seconds"] / gold["seconds"] for polars, gold in zip(sides["polars"], sides["gold"], strict=True)
    )
    ratios = {
        "tabular_vs_python_udf": seconds["udf"] / seconds["gold"],
        "tabular_vs_polars": vs_polars,
        "tabular_vs_pandas": seconds["pandas"] / seconds["gold"],
        "tabular_vs_polars_with_profile": seconds["polars"] / seconds["profiled"],
        "tabular_vs_all_tables": seconds["all"] / seconds["gold"],
        "tabular_vs_polars_unordered": seconds["polars_unordered"] / seconds["gold"],
    }
    figures += [Figure(name, value, "ratio") for name, value in ratios.items()]
    return Result(
        figures=[*figures, *_account(sides)],
        bounds=[
            Bound("tabular_vs_python_udf", ratios["tabular_vs_python_udf"], ">=", MIN_VS_UDF),
            Bound("tabular_vs_polars", ratios["tabular_vs_polars"], ">=", MIN_VS_POLARS),
        ],
        details=[
            *[Figure("tabular/polars_unordered", seconds["polars_unordered"], "s")],
            *[
                Figure(f"round_{number}/tabular/{side}", one["seconds"], "s")
                for side in ("gold", "polars")
                for number, one in enumerate(sides[side], start=1)
            ],
            *[Figure(f"stages_of_all/{name}", value, "s") for name, value in sides["all"][0]["stages"].items()],
        ],
    )


def _account(sides: Mapping[str, Sequence[Side]]) -> list[Figure]:
    """The stages of the night, medians over the rounds, and parts of a pass that were run alone."""
    names = dict.fromkeys(name for one in sides["gold"] for name in one["stages"])
    found = {name: statistics.median(one["stages"].get(name, 0.0) for one in sides["gold"]) for name in names}
    alone = sides["account"][0]["stages"]
    return [
        *[Figure(f"stages/{name}", value, "s") for name, value in found.items()],
        *[Figure(f"alone/{name}", value, "s") for name, value in alone.items()],
    ]


def _say(text: str) -> None:
    print(f"bench tabular: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    measured = measure(1, int(sys.argv[1]) if len(sys.argv) > 1 else NUM_ROWS)
    print_table(NAME, measured, Console())
    sys.exit(0 if measured.holds else 1)
