"""A night with 1 % new rows against a rebuild of everything, and a night with 1 % updated rows beside it.

The connections of kddcup99, over and over, each with an id of its own: the pipeline that ships, with `id` as the contract's key.
Ingest and preprocess run as a user's jobs do, in one warm session on two cores; seconds are from a call to its return, session
start excluded. A first lake gets all rows but the new ones in one night, which is the rebuild, then a night of 1 % new rows for
each round. A second, smaller lake's contract says `upsert`; after its rows comes a night with other values for 1 % of the ids.
Its pipeline drops no duplicates: where one row may stand for others, an update makes all anew. Counts come from the ledger, and
what each table's log has gained and lost in a night from the Delta log.
"""

from __future__ import annotations

import gzip
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml

from bench.pipeline_side import STEPS
from bench.report import Bound, Figure, Result
from bench.tree_memory import TreeMemory
from bench.workers import ROOT, Worker
from millrace.errors import MillraceError, SourceError
from millrace.lake import log
from millrace.lake.layout import Lake
from millrace.lake.ledger import Entry, Ledger

NUM_ROWS = 3_300_000
UPDATED_SHARE = 4
"""The lake of updates has one row of so many."""
MAX_RATIO = 0.15
MIN_REBUILD_SECONDS = 120.0
PIPELINE = "connections"
TABLES = ("bronze", "silver", "gold")
_CORES = 2
_FIRST = date(2026, 11, 21)
_NUM_FILES = 8
_STRIDE = 7_919
"""A prime: rows that follow each other in the data, which is sorted by attack, lie that far apart here."""
_WARM_UP = 50
"""The warm-up has one row of so many."""
_TIMEOUT_SECONDS = 1_200.0

Seconds = Mapping[str, float]
"""By step, seconds, and as `STEP/cpu_seconds` and `STEP/num_jobs` what processes have computed and Spark's jobs."""


@dataclass(frozen=True)
class Night:
    """What a night took, kept and changed."""

    seconds: Seconds
    num_rows_in: int
    num_rows_kept: int
    files: Mapping[str, tuple[int, int]]
    """By table, how many files its log has gained and lost. Silver of an upsert is for Spark only, and left out."""

    @property
    def total_seconds(self) -> float:
        """Of both steps."""
        return sum(self.seconds[step] for step in STEPS)

    @property
    def cpu_seconds(self) -> float:
        """Of both steps."""
        return sum(self.seconds[f"{step}/cpu_seconds"] for step in STEPS)


@dataclass(frozen=True)
class Measured:
    """All nights."""

    rebuild: Night
    new: Sequence[Night]
    updated_rebuild: Night
    updated: Night
    cold_seconds: float
    peak_bytes: int
    """The session's process tree, over all nights."""


class Bench:
    """A lake with its raw files and configuration."""

    def __init__(self, directory: Path, lines: Sequence[bytes], *, upsert: bool) -> None:
        self._raw, self._conf, self._lines = directory / "raw", directory / "conf", lines
        self._lake = Lake.at(str(directory / "lake"))
        self._nights = 0
        self._raw.mkdir(parents=True)
        write_config(self._conf, self._raw, upsert=upsert)

    def write(self, name: str, ids: range, *, shift: int = 0, num_files: int = 1) -> None:
        """Raw files of some ids; with another `shift` they have other values."""
        for number in range(num_files):
            part = ids[len(ids) * number // num_files : len(ids) * (number + 1) // num_files]
            with (self._raw / f"{name}-{number}.csv").open("wb") as stream:
                stream.writelines(rows(self._lines, part, shift=shift))

    def night(self, worker: Worker) -> Night:
        """The next night. Raises MillraceError where it does not do what it should."""
        night = (_FIRST + timedelta(days=self._nights)).isoformat()
        self._nights += 1
        before = self._files()
        options = ["--pipeline", PIPELINE, "--lake", self._lake.uri, "--conf-dir", str(self._conf), "--night", night]
        seconds = worker.ask(ask="night", options=options)
        entry = self._preprocess_of(night)
        assert entry.counts is not None
        after = self._files()
        files = {table: (len(after[table] - before[table]), len(before[table] - after[table])) for table in after}
        return Night(seconds, entry.counts.num_rows_in, entry.counts.num_rows_kept, files)

    def _preprocess_of(self, night: str) -> Entry:
        found = [each for each in Ledger.read(self._lake).entries if each.status == "succeeded" and each.run.night == night]
        return next(each for each in found if each.step == "preprocess")

    def _files(self) -> dict[str, frozenset[str]]:
        """The files of each table's newest version."""
        found = {}
        for kind in TABLES:
            uri = self._lake.path(f"{kind}/{PIPELINE}")
            if not log.exists(uri):
                found[kind] = frozenset[str]()
            elif not log.is_for_spark_only(uri):
                found[kind] = frozenset(log.open_table(uri).file_uris())
        return found


def run(num_rounds: int) -> Result:
    """Measure. Raises MillraceError where the data is missing, a night fails or does not keep what it should."""
    return measure(num_rounds, lines=connections(data_directory()), num_rows=NUM_ROWS)


def measure(num_rounds: int, *, lines: Sequence[bytes], num_rows: int, warm_up: int = _WARM_UP) -> Result:
    """Seconds of all nights over so many rows made of some lines."""
    settings = (f"spark.master=local[{_CORES}]",)
    with (
        tempfile.TemporaryDirectory(prefix="millrace-bench-") as name,
        TreeMemory(without_self=True) as memory,
        Worker("bench.pipeline_side", *settings, environment={}, timeout_seconds=_TIMEOUT_SECONDS) as worker,
    ):
        cold_seconds = worker.ask(ask="start")["seconds"]
        _say("warming up")
        one_lake(worker, Path(name) / "warm", lines, num_rows // warm_up, num_nights=1)
        updated_lake(worker, Path(name) / "warm-updated", lines, num_rows // warm_up)
        _say(f"{num_rows:,} rows, then 1 % new ones")
        rebuild, *new = one_lake(worker, Path(name) / "new", lines, num_rows, num_nights=num_rounds)
        num_updated = num_rows // UPDATED_SHARE
        _say(f"{num_updated:,} rows, then 1 % updated")
        updated_rebuild, updated = updated_lake(worker, Path(name) / "updated", lines, num_updated)
    measured = Measured(rebuild, new, updated_rebuild, updated, cold_seconds, memory.peak_bytes)
    check(measured, num_rows)
    return summarise(measured)


def one_lake(worker: Worker, directory: Path, lines: Sequence[bytes], num_rows: int, *, num_nights: int) -> list[Night]:
    """A lake of so many rows in one night, then nights of 1 % new ones."""
    bench = Bench(directory, lines, upsert=False)
    bench.write("base", range(num_rows), num_files=_NUM_FILES)
    nights = [bench.night(worker)]
    few = num_rows // 100
    for number in range(num_nights):
        bench.write(f"new-{number}", range(num_rows + number * few, num_rows + (number + 1) * few))
        nights.append(bench.night(worker))
    return nights


def updated_lake(worker: Worker, directory: Path, lines: Sequence[bytes], num_rows: int) -> list[Night]:
    """A lake of so many rows in one night, then a night with other values for one id of a hundred."""
    bench = Bench(directory, lines, upsert=True)
    bench.write("base", range(num_rows), num_files=_NUM_FILES)
    nights = [bench.night(worker)]
    bench.write("updated", range(0, num_rows, 100), shift=1)
    return [*nights, bench.night(worker)]


def check(measured: Measured, num_rows: int) -> None:
    """Raises MillraceError where a night has not had its rows and kept all but a few (of attacks that are too rare for the train
    split to have one), or one of new rows has taken a file from a table."""
    num_updated = num_rows // UPDATED_SHARE
    wanted = {"the rebuild": (measured.rebuild, num_rows), "the rebuild with upsert": (measured.updated_rebuild, num_updated)}
    wanted |= {f"night {number} of new rows": (night, num_rows // 100) for number, night in enumerate(measured.new, start=1)}
    wanted["the night of updated rows"] = (measured.updated, len(range(0, num_updated, 100)))
    for name, (night, num_rows_in) in wanted.items():
        if night.num_rows_in != num_rows_in or night.num_rows_kept < 0.999 * num_rows_in:
            raise _wrong(f"{name} to keep {num_rows_in:,} rows", f"{night.num_rows_kept:,} of {night.num_rows_in:,}")
    for night in measured.new:
        lost = {table: num_lost for table, (_, num_lost) in night.files.items() if num_lost}
        if lost or set(night.files) != set(TABLES):
            raise _wrong("a night of new rows to add files, and take none away", f"{lost or sorted(night.files)}")


def summarise(measured: Measured) -> Result:
    """Medians over the nights of new rows, against the rebuild of the same lake."""
    new_seconds = statistics.median(night.total_seconds for night in measured.new)
    new_cpu_seconds = statistics.median(night.cpu_seconds for night in measured.new)
    rebuild_seconds = measured.rebuild.total_seconds
    figures = [
        Figure("num_rows", measured.rebuild.num_rows_kept, "rows"),
        Figure("cold_start", measured.cold_seconds, "s"),
        Figure("peak_memory", measured.peak_bytes / 2**30, "GiB"),
        Figure("full_rebuild", rebuild_seconds, "s"),
        Figure("one_percent_new", new_seconds, "s"),
        Figure("one_percent_night", new_seconds / rebuild_seconds, "ratio"),
        Figure("one_percent_night_cpu", new_cpu_seconds / measured.rebuild.cpu_seconds, "ratio"),
        Figure("num_rows_with_upsert", measured.updated_rebuild.num_rows_kept, "rows"),
        Figure("full_rebuild_with_upsert", measured.updated_rebuild.total_seconds, "s"),
        Figure("one_percent_updated", measured.updated.total_seconds, "s"),
        Figure("one_percent_updated_night", measured.updated.total_seconds / measured.updated_rebuild.total_seconds, "ratio"),
    ]
    named = {"full_rebuild": [measured.rebuild], "one_percent_new": measured.new}
    named |= {"full_rebuild_with_upsert": [measured.updated_rebuild], "one_percent_updated": [measured.updated]}
    details = []
    for name, nights in named.items():
        for part in (f"{step}{kind}" for kind in ("", "/cpu_seconds", "/num_jobs") for step in STEPS):
            value = statistics.median(float(night.seconds[part]) for night in nights)
            details.append(Figure(f"{name}/{part}", value, "jobs" if part.endswith("jobs") else "s"))
        for table, (num_added, num_removed) in nights[-1].files.items():
            details.append(Figure(f"{name}/{table}/files_added", num_added, "files"))
            details.append(Figure(f"{name}/{table}/files_removed", num_removed, "files"))
    details += [
        Figure(f"round_{number}/one_percent_new", night.total_seconds, "s") for number, night in enumerate(measured.new, 1)
    ]
    bounds = [
        Bound("one_percent_night", new_seconds / rebuild_seconds, "<=", MAX_RATIO),
        Bound("full_rebuild_seconds", rebuild_seconds, ">=", MIN_REBUILD_SECONDS),
    ]
    return Result(figures=figures, bounds=bounds, details=details)


def write_config(conf: Path, raw: Path, *, upsert: bool) -> None:
    """The pipeline of kddcup99 and its contract, with an id."""
    pipeline = yaml.safe_load((ROOT / "conf" / "pipelines" / "kddcup99.yaml").read_text())
    contract = yaml.safe_load((ROOT / "schemas" / "kddcup99_raw.yaml").read_text())
    schema = f"{PIPELINE}_raw"
    source = {**pipeline["source"], "name": PIPELINE, "path": str(raw), "schema": schema}
    source["columns"] = ["id", *source["columns"]]
    values = {**pipeline, "name": PIPELINE, "source": source, "model": None, "publish": {}, "training": {}}
    if upsert:
        values |= {"clean": [], "split": {**pipeline["split"], "key": ["id"]}}
    contract |= {"name": schema, "key": ["id"], "upsert": upsert}
    contract["columns"] = {"id": {"type": "bigint", "nullable": False}, **contract["columns"]}
    for kind, name, content in (("pipelines", PIPELINE, values), ("schemas", schema, contract)):
        (conf / kind).mkdir(parents=True)
        (conf / kind / f"{name}.yaml").write_text(yaml.safe_dump(content))


def rows(lines: Sequence[bytes], ids: range, *, shift: int = 0) -> Iterator[bytes]:
    """A CSV line for each id: the id, then one of `lines`."""
    for number in ids:
        yield b"%d,%s" % (number, lines[(number + shift) * _STRIDE % len(lines)])


def connections(data: Path) -> list[bytes]:
    """The lines of kddcup99, with their ends. Raises SourceError where they are missing."""
    path = data / "kddcup99_10pct" / "kddcup.data_10_percent.gz"
    try:
        with gzip.open(path) as stream:
            return stream.readlines()
    except OSError as error:
        raise SourceError(
            "bench", expected=f"connections in {path}", found=str(error), remedy="Set MILLRACE_DATA to where the data sets are."
        ) from None


def data_directory() -> Path:
    """Where the data sets lie."""
    return Path(os.environ.get("MILLRACE_DATA", "../shared/data"))


def _wrong(expected: str, found: Any) -> MillraceError:
    return MillraceError("bench", expected=expected, found=str(found), remedy="Look at the ledger of such a lake.")


def _say(text: str) -> None:
    print(f"bench preprocess_night: {text}", file=sys.stderr, flush=True)
