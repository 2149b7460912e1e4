"""Ingest and preprocess over several nights, pipelines and configs, on the tests' session: what stands in the lake in the end."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml
from pyspark.sql import SparkSession

from millrace.flows import ingest, preprocess
from millrace.flows.job import run
from millrace.flows.nightly import NIGHT, only
from millrace.lake import log, small
from millrace.lake.layout import RUNS, Lake
from millrace.lake.ledger import Ledger
from tests.flows.nights import ROOT

FIRST, SECOND = "2026-11-21", "2026-11-22"


class Pipelines:
    """Small pipelines that end at gold, over CSV files of a few rows."""

    def __init__(self, directory: Path, spark: SparkSession) -> None:
        self.raw, self.conf, self.spark = directory / "raw", directory / "conf", spark
        self.lake = Lake.at(str(directory / "lake"))
        self.raw.mkdir()
        (self.conf / "pipelines").mkdir(parents=True)
        self.define("digits")

    def define(self, name: str, **source: object) -> None:
        raw = yaml.safe_load((ROOT / "conf" / "pipelines" / "digits.yaml").read_text())
        raw = {**raw, "name": name, "model": None, "label": None, "quality": {"max_reject_ratio": 0.0}}
        raw["source"] = {**raw["source"], "sample": None, "path": str(self.raw), **source}
        (self.conf / "pipelines" / f"{name}.yaml").write_text(yaml.safe_dump(raw))

    def write(self, name: str, *indices: int, digit: int = 1) -> Path:
        rows = [f"{index},{' '.join(map(str, [index % 17, index // 17, *[0] * 62]))},{digit}" for index in indices]
        path = self.raw / name
        path.write_text("\n".join(("index,image,digit", *rows)) + "\n")
        return path

    def call(
        self, night: str, *arguments: str, pipeline: str = "digits", steps: tuple[str, ...] = ("ingest", "preprocess")
    ) -> list[int]:
        options = ["--pipeline", pipeline, "--lake", self.lake.uri, "--conf-dir", str(self.conf), "--night", night, *arguments]
        flows = {"ingest": only(ingest.step), "preprocess": only(preprocess.step), "night": NIGHT}
        return [run(flows[step], "", options, spark=self.spark) for step in steps]

    def rows(self, table: str) -> Counter[tuple[str, object]]:
        version = Ledger.read(self.lake).version_of(table)
        found = log.read_rows(self.lake.path(table), version=version).to_pylist()
        return Counter((row["_night"], int(row["index"]) if "index" in row else row["row_id"]) for row in found)

    def forget_success(self, step: str) -> None:
        """Leaves the lake as a kill between the work's last commit and its ledger row does."""
        entries = list(Ledger.read(self.lake).entries)
        kept = [entry for entry in entries if not (entry is entries[-1] and entry.step == step)]
        assert len(kept) == len(entries) - 1
        shutil.rmtree(self.lake.path(RUNS))
        for entry in kept:
            small.append(self.lake, RUNS, [entry.to_row()], metadata={})


@pytest.fixture
def pipelines(tmp_path: Path, spark: SparkSession) -> Pipelines:
    return Pipelines(tmp_path, spark)


def test_an_older_night_that_comes_again_leaves_newer_nights_whole(pipelines: Pipelines) -> None:
    """Night 1 is killed after its ingest, night 2 goes on, night 1 comes again."""
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    pipelines.forget_success("preprocess")
    pipelines.write("b.csv", 3, 4)
    assert pipelines.call(SECOND) == [0, 0]
    assert pipelines.call(FIRST) == [0, 0]
    expected = Counter({(FIRST, 1): 1, (FIRST, 2): 1, (SECOND, 3): 1, (SECOND, 4): 1})
    assert pipelines.rows("bronze/digits") == pipelines.rows("silver/digits") == expected


def test_files_of_a_killed_ingest_are_taken_once(pipelines: Pipelines) -> None:
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST, steps=("ingest",)) == [0]
    pipelines.forget_success("ingest")
    assert pipelines.call(SECOND) == [0, 0]
    assert pipelines.call(FIRST) == [0, 0]
    assert pipelines.rows("bronze/digits") == Counter({(SECOND, 1): 1, (SECOND, 2): 1})


def test_two_pipelines_on_one_source_have_tables_of_their_own(pipelines: Pipelines) -> None:
    pipelines.define("other")
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    assert pipelines.call(FIRST, pipeline="other") == [0, 0]
    assert pipelines.rows("silver/other") == pipelines.rows("silver/digits")
    assert pipelines.rows("gold/other") == pipelines.rows("gold/digits")


def test_two_pipelines_that_mean_different_things_by_a_source(pipelines: Pipelines, capsys: pytest.CaptureFixture[str]) -> None:
    pipelines.define("other", path=str(pipelines.raw / "elsewhere"))
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    assert pipelines.call(FIRST, pipeline="other", steps=("ingest",)) == [2]
    assert "expected digits and other to mean the same by the source digits; found another path." in capsys.readouterr().err


def test_a_config_that_comes_back_is_done_again(pipelines: Pipelines) -> None:
    pipelines.write("a.csv", *range(50))
    assert pipelines.call(FIRST) == [0, 0]
    first = splits(pipelines)
    assert pipelines.call(FIRST, "--set", "split.seed=8") == [0, 0]
    assert splits(pipelines) != first
    assert pipelines.call(FIRST) == [0, 0]
    assert splits(pipelines) == first


def splits(pipelines: Pipelines) -> dict[str, str]:
    rows = log.read_rows(pipelines.lake.path("gold/digits"), version=Ledger.read(pipelines.lake).version_of("gold/digits"))
    return {row["row_id"]: row["split"] for row in rows.to_pylist()}


def test_a_mended_source_is_looked_at_again(pipelines: Pipelines) -> None:
    pipelines.write("a.csv", 1, 2, digit=77)
    assert pipelines.call(FIRST) == [0, 2]
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    assert pipelines.rows("gold/digits").total() == 2


@pytest.mark.parametrize("on_missing", ["fail", "skip"])
def test_files_that_are_gone_leave_the_night_as_it_was(pipelines: Pipelines, on_missing: str) -> None:
    pipelines.define("digits", on_missing=on_missing)
    path = pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    path.unlink()
    assert pipelines.call(FIRST, "--set", "split.seed=8") == [0, 0]
    assert pipelines.call(FIRST, "--force", steps=("ingest",)) == [2]
    assert pipelines.rows("bronze/digits").total() == pipelines.rows("gold/digits").total() == 2


def test_a_column_that_comes_to_a_source_is_null_in_older_nights(pipelines: Pipelines) -> None:
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    contract = yaml.safe_load((ROOT / "schemas" / "digits_raw.yaml").read_text())
    contract["columns"]["writer"] = {"type": "string"}
    (pipelines.conf / "schemas").mkdir()
    (pipelines.conf / "schemas" / "digits_raw.yaml").write_text(yaml.safe_dump(contract))
    (pipelines.raw / "b.csv").write_text(f"index,image,digit,writer\n3,{' '.join(['0'] * 64)},1,ann\n")
    assert pipelines.call(SECOND) == [0, 0]
    version = Ledger.read(pipelines.lake).version_of("silver/digits")
    rows = log.read_rows(pipelines.lake.path("silver/digits"), version=version).to_pylist()
    assert {row["index"]: row["writer"] for row in rows} == {1: None, 2: None, 3: "ann"}


def test_a_first_night_of_a_source_that_is_skipped_ends_in_peace(pipelines: Pipelines) -> None:
    pipelines.define("digits", on_missing="skip")
    assert pipelines.call(FIRST, steps=("night",)) == [0]
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST, steps=("night",)) == [0]
    assert pipelines.rows("gold/digits").total() == 2


def test_a_file_with_new_content_under_an_old_name_is_new(pipelines: Pipelines) -> None:
    pipelines.write("latest.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    pipelines.write("latest.csv", 3)
    assert pipelines.call(SECOND) == [0, 0]
    assert pipelines.rows("silver/digits") == Counter({(FIRST, 1): 1, (FIRST, 2): 1, (SECOND, 3): 1})


def test_a_forced_night_without_rows_of_its_own(pipelines: Pipelines) -> None:
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    assert pipelines.call(SECOND, "--force") == [0, 0]
    assert pipelines.rows("gold/digits").total() == 2


def test_rows_dropped_for_a_night_that_changes_come_back(pipelines: Pipelines) -> None:
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    pipelines.write("b.csv", 2, 3)
    assert pipelines.call(SECOND) == [0, 0]
    assert (SECOND, 2) not in pipelines.rows("silver/digits")
    pipelines.write("a.csv", 1)
    assert pipelines.call(FIRST, "--force") == [0, 0]
    assert pipelines.rows("silver/digits") == Counter({(FIRST, 1): 1, (SECOND, 2): 1, (SECOND, 3): 1})
