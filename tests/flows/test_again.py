"""Nights that come again, come late, bring nothing, or bring another config."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.flows.nights import NIGHT, Night

LATER = "2026-11-23"


def test_a_night_without_new_files_trains_nothing(finished: Night, copy_of: Callable[[Night], Night]) -> None:
    night = copy_of(finished)
    later = night.submit("nightly", "--night", LATER)
    assert later.returncode == 0, later.stderr
    assert "ingest: no new files" in later.stderr
    assert Counter(night.steps("succeeded")) == {"ingest": 2, "preprocess": 1, "train": 1, "publish": 1, "nightly": 2}
    assert night.table("registry/models").num_rows == 1


def test_a_changed_learning_rate_trains_anew_on_the_same_gold(finished: Night, copy_of: Callable[[Night], Night]) -> None:
    night = copy_of(finished)
    changed = night.submit("nightly", "--night", NIGHT, "--set", "training.optimizer.learning_rate=0.002")
    assert changed.returncode == 0, changed.stderr
    assert Counter(night.steps("succeeded")) == {"ingest": 1, "preprocess": 1, "train": 2, "publish": 2, "nightly": 2}
    assert sorted(night.table("registry/models").column("version").to_pylist()) == [1, 2]
    runs = {entry.run.run_id for entry in night.entries("succeeded")}
    assert set(night.table("metrics/epochs").column("run_id").to_pylist()) == runs


def test_a_backfill_leaves_both_nights_whole(finished: Night, tmp_path: Path) -> None:
    """Night 2 first, then night 1, from a source path with {night}; ends at gold."""
    for night, name in ((NIGHT, "digits-0.csv"), (LATER, "digits-1.csv")):
        (tmp_path / "raw" / night).mkdir(parents=True)
        shutil.copy(finished.raw / name, tmp_path / "raw" / night / name)
    night = Night(tmp_path)
    options = [
        "--set",
        "model=null",
        "--set",
        "label=null",
        "--set",
        "source.sample=null",
        "--set",
        f"source.path={tmp_path}/raw/{{night}}",
    ]
    for date in (LATER, NIGHT):
        done = night.submit("nightly", *options, "--night", date)
        assert done.returncode == 0, done.stderr
    for table in ("bronze/digits", "silver/digits", "gold/digits"):
        assert Counter(night.table(table).column("_night").to_pylist()) == {NIGHT: 599, LATER: 599}, table
    assert len(set(night.table("gold/digits").column("row_id").to_pylist())) == 2 * 599


def test_a_night_that_is_forced_gives_the_same_tables(finished: Night, copy_of: Callable[[Night], Night]) -> None:
    night = copy_of(finished)
    tables = ["bronze/digits", "silver/digits", "gold/digits", "quarantine/sources/digits", "quarantine/pipelines/digits"]
    before = {table: night.content_hash(table) for table in tables}
    forced = night.submit("nightly", "--night", NIGHT, "--force")
    assert forced.returncode == 0, forced.stderr
    assert {table: night.content_hash(table) for table in tables} == before
    assert night.table("registry/models").num_rows == 1
    assert night.table("predictions/digits").num_rows == finished.table("predictions/digits").num_rows
