"""What a night touches: nothing where nothing is new; where a few rows are, their files alone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyspark.sql import SparkSession

from millrace.flows.known_files import KnownFiles
from millrace.lake import log
from millrace.lake.layout import Lake
from millrace.lake.ledger import Ledger, RawFile
from millrace.lake.read import read_version
from millrace.sources.csv import CsvReader
from millrace.sources.files import identify, stamps
from millrace.sources.read import FileSource
from millrace.sources.reader import FileReader
from tests.factories import write_file
from tests.flows.pipelines import FIRST, SECOND, Pipelines

TABLES = ("bronze/digits", "silver/digits", "gold/digits")
THIRD = "2026-11-23"


def versions(pipelines: Pipelines) -> dict[str, int | None]:
    ledger = Ledger.read(pipelines.lake)
    return {table: ledger.version_of(table) for table in TABLES}


def newest(pipelines: Pipelines) -> dict[str, int | None]:
    """Also what no entry of the ledger names."""
    return {table: log.latest_version(pipelines.lake.path(table)) for table in TABLES}


def removed(pipelines: Pipelines, table: str, since: int | None) -> set[str]:
    """The files that commits after a version have taken from a table; one that is there again with deleted rows stays."""
    commits = sorted(Path(pipelines.lake.path(table), "_delta_log").glob("*.json"))
    gone: set[str] = set()
    for commit in commits[1 + (since or 0) :]:
        actions = [json.loads(line) for line in commit.read_text().splitlines()]
        gone |= {action["remove"]["path"] for action in actions if "remove" in action}
        gone -= {action["add"]["path"] for action in actions if "add" in action}
    return gone


def splits(pipelines: Pipelines, spark: SparkSession) -> dict[str, str]:
    rows = read_version(spark, pipelines.lake, "silver/digits", versions(pipelines)["silver/digits"])
    return {row["row_id"]: row["split"] for row in rows.select("row_id", "split").collect()}


def state(pipelines: Pipelines) -> dict[str, object]:
    """What the newest preprocess has saved."""
    (entry, *_) = [entry for entry in reversed(Ledger.read(pipelines.lake).entries) if entry.step == "preprocess"]
    uri = pipelines.lake.artifacts("digits", entry.run.run_id, f"fitted-{entry.step_key[:16]}.json")
    found: dict[str, object] = json.loads(Path(uri).read_text())
    return found


def test_new_rows_touch_no_old_file_and_no_old_row(pipelines: Pipelines, spark: SparkSession) -> None:
    pipelines.write("a.csv", *range(200))
    assert pipelines.call(FIRST) == [0, 0]
    before, old = versions(pipelines), splits(pipelines, spark)
    assert pipelines.call(SECOND) == pipelines.call(FIRST) == [0, 0]  # the same files, by another night and by the same
    assert versions(pipelines) == newest(pipelines) == before
    pipelines.write("b.csv", 300, 301)
    assert pipelines.call(THIRD) == [0, 0]
    after, new = versions(pipelines), splits(pipelines, spark)
    assert after == newest(pipelines) == dict.fromkeys(TABLES, 1)
    assert {table: removed(pipelines, table, before[table]) for table in TABLES} == {table: set() for table in TABLES}
    assert len(new) == state(pipelines)["num_silver_rows"] == 202 and new.items() > old.items()
    night = log.read_rows(pipelines.lake.path("gold/digits"), version=after["gold/digits"]).to_pylist()
    assert {row["row_id"]: row["split"] for row in night} == new


def test_updated_rows_leave_the_files_of_silver_where_they_are(pipelines: Pipelines, spark: SparkSession) -> None:
    pipelines.contract(upsert=True)
    pipelines.define("digits", {"clean": []})
    pipelines.write("a.csv", *range(200))
    assert pipelines.call(FIRST) == [0, 0]
    before, old = versions(pipelines), splits(pipelines, spark)
    pipelines.write("b.csv", 7, 8, 300, digit=5)
    assert pipelines.call(SECOND) == [0, 0]
    assert removed(pipelines, "bronze/digits", before["bronze/digits"]) == set()
    assert removed(pipelines, "silver/digits", before["silver/digits"]) == set()
    new = splits(pipelines, spark)
    assert len(new) == state(pipelines)["num_silver_rows"] == 201 and new.items() > old.items()


@dataclass(frozen=True)
class Watched(FileSource):
    """CSV files, and which of them were read to see what they are."""

    reader: FileReader = field(default_factory=CsvReader)
    read: list[str] = field(default_factory=list)

    def identify(self, addresses: Sequence[str]) -> tuple[RawFile, ...]:
        self.read.extend(Path(address).name for address in addresses)
        return super().identify(addresses)


def test_only_files_that_have_changed_since_they_were_taken_are_read(tmp_path: Path, lake: Lake) -> None:
    paths = [write_file(tmp_path / name, name) for name in ("a.csv", "b.csv", "c.csv")]
    an_hour_ago = time.time() - 3600
    for path in paths[:2]:
        os.utime(path, (an_hour_ago, an_hour_ago))  # c is so young that it may change without a trace

    def known() -> tuple[list[str], tuple[RawFile, ...]]:
        source = Watched()
        return source.read, KnownFiles.load(lake, "digits").identify(source, paths)

    names, first = known()
    assert (names, first) == (["a.csv", "b.csv", "c.csv"], identify(paths))
    KnownFiles.load(lake, "digits").save_with(lake, "digits", first, stamps(paths))
    assert known() == (["c.csv"], first)
    Path(paths[1]).write_text("B.csv")  # as long as before
    os.utime(paths[1], (an_hour_ago + 1, an_hour_ago + 1))
    names, second = known()
    assert names == ["b.csv", "c.csv"]
    assert second == identify(paths) != first
    Path(paths[0]).unlink()
    del paths[0]
    assert known()[1] == identify(paths)


def test_a_lost_memory_of_files_costs_only_time(tmp_path: Path, lake: Lake) -> None:
    path = write_file(tmp_path / "a.csv", "a")
    os.utime(path, (1.0e9, 1.0e9))
    KnownFiles({}).save_with(lake, "digits", identify([path]), stamps([path]))
    Path(lake.path("artifacts", "_sources", "digits", "_files", "known.json")).write_text("{")
    source = Watched()
    assert KnownFiles.load(lake, "digits").identify(source, [path]) == identify([path])
    assert source.read == ["a.csv"]
