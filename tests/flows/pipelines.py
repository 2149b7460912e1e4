"""Small pipelines on the tests' session, step by step, and what stands in their lake."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

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

    def define(self, name: str, sections: Mapping[str, object] = MappingProxyType({}), **source: object) -> None:
        raw = yaml.safe_load((ROOT / "conf" / "pipelines" / "digits.yaml").read_text())
        raw = {**raw, "name": name, "model": None, "label": None, "quality": {"max_reject_ratio": 0.0}, **sections}
        raw["source"] = {**raw["source"], "sample": None, "path": str(self.raw), **source}
        (self.conf / "pipelines" / f"{name}.yaml").write_text(yaml.safe_dump(raw))

    def contract(self, **keys: object) -> None:
        """Changes the contract of the raw rows."""
        raw = yaml.safe_load((ROOT / "schemas" / "digits_raw.yaml").read_text())
        (self.conf / "schemas").mkdir(exist_ok=True)
        (self.conf / "schemas" / "digits_raw.yaml").write_text(yaml.safe_dump({**raw, **keys}))

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
