"""Nothing that is fitted, and no encoded train row, changes when rows of validation and test change: a whole preprocess of every
encoder, every tokenizer and every step of `clean` that looks at the train split."""

from __future__ import annotations

import csv
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from pyspark.sql import SparkSession

from millrace.fit.state import FittedState
from millrace.flows import ingest, preprocess
from millrace.flows.job import run
from millrace.flows.nightly import only
from millrace.lake import log
from millrace.lake.layout import Lake
from millrace.lake.ledger import Ledger

NIGHT, NEXT = "2026-11-22", "2026-11-23"
NUMBERS = ("mean", "median", "mode", "wide", "iqr", "z", "plain", "skewed")
TEXTS = ("words", "characters", "jieba", "bpe", "wordpiece")
TYPES = {**dict.fromkeys(NUMBERS, "double"), "kind": "string", "other": "string", "moment": "timestamp"}
CONTRACT = {
    "name": "leaky_raw",
    "grain": "one row per thing",
    "key": ["id"],
    "columns": {
        "id": {"type": "int", "nullable": False},
        "subset": {"type": "string", "nullable": False},
        **{name: {"type": kind} for name, kind in TYPES.items()},
        **{name: {"type": "string"} for name in TEXTS},
        "label": {"type": "string", "nullable": False},
    },
}
PIPELINE = {
    "name": "leaky",
    "source": {"name": "leaky", "format": "csv", "schema": "leaky_raw"},
    "quality": {"max_reject_ratio": 1.0},
    "clean": [
        {"drop_duplicates": ["id"]},
        {"fillna": {"columns": ["mean"], "statistic": "mean"}},
        {"fillna": {"columns": ["median"], "statistic": "median"}},
        {"fillna": {"columns": ["mode"], "statistic": "mode"}},
        {"winsorize": {"columns": ["wide"]}},
        {"outliers": {"columns": ["iqr"], "method": "iqr", "action": "clip"}},
        {"outliers": {"columns": ["z"], "method": "z", "limit": 2.5}},
    ],
    "split": {"method": "given", "column": "subset"},
    "features": [
        {"columns": ["mean", "median", "mode", "wide", "iqr", "z"], "encode": "zscore"},
        {"column": "plain", "encode": "minmax", "impute": "mode"},
        {"column": "plain", "encode": "robust", "impute": "median", "indicator": True},
        {"columns": ["skewed"], "encode": "log"},
        {"column": "skewed", "encode": "number"},
        {"columns": ["kind"], "encode": "one_hot", "unknown": "slot", "min_count": 2},
        {"columns": ["kind", "other"], "encode": "index"},
        {"column": "other", "encode": "hash", "buckets": 7},
        {"columns": ["kind", "other"], "encode": "cross", "buckets": 9, "output": "ids"},
        {"column": "moment", "encode": "datetime", "parts": ["hour", "year"], "time_zone": "Asia/Shanghai"},
        {"column": "words", "encode": "words", "length": 6, "num_words": 20, "oov_token": "<oov>"},
        {"column": "words", "encode": "hash", "buckets": 5},  # a text may be a category as well
        {"column": "characters", "encode": "characters", "length": 6},
        {"column": "jieba", "encode": "jieba", "length": 6},
        {"column": "bpe", "encode": "bpe", "vocab_size": 300, "length": 6},
        {"column": "wordpiece", "encode": "wordpiece", "vocab_size": 300, "length": 6},
    ],
    "label": {"column": "label", "kind": "class"},
}
_TEXT = "the cat sat on a mat and saw the dog naïve café 北京 的 学生 来到 上海 大学 \U0001f600 ß"
Row = dict[str, object]


def rows_of(subset: str, first: int, seed: int, num_rows: int = 60) -> list[Row]:
    """Of one subset, with gaps, rare kinds, and an outlier here and there; another seed gives other values throughout."""
    chance = random.Random(f"{subset} {seed}")
    words = [*_TEXT.split(), *(f"w{seed}x{number}" for number in range(9))]
    made = []
    for number in range(first, first + num_rows):
        row: Row = {"id": number, "subset": subset}
        for name in NUMBERS:
            value = chance.gauss(seed, 3.0) * (100.0 if chance.random() < 0.05 else 1.0)
            row[name] = "" if chance.random() < 0.1 else round(value)
        row |= {"kind": chance.choice("abcdef") + str(seed % 2), "other": chance.choice(["x", "y", "", f"z{seed}"])}
        row["moment"] = (datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=chance.randrange(10**6))).isoformat()
        row |= {name: " ".join(chance.choices(words, k=chance.randrange(9))) for name in TEXTS}
        is_new = subset != "train" and chance.random() < 0.1
        row["label"] = f"class {seed + 9 if is_new else chance.randrange(3)}"
        made.append(row)
    return made


class Leaky:
    """A lake and a configuration of their own."""

    def __init__(self, directory: Path, spark: SparkSession) -> None:
        self.directory, self.spark = directory, spark
        self.lake = Lake.at(str(directory / "lake"))
        for folder, content in (("schemas", CONTRACT), ("pipelines", PIPELINE)):
            place = directory / "conf" / folder / f"{content['name']}.yaml"
            place.parent.mkdir(parents=True)
            place.write_text(yaml.safe_dump(content))
        (directory / "raw").mkdir()

    def preprocess(self, rows: list[Row], night: str = NIGHT) -> FittedState:
        """Another file, and the state after the night that finds it."""
        with (self.directory / "raw" / f"{night}.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        options = ["--pipeline", "leaky", "--lake", self.lake.uri, "--conf-dir", str(self.directory / "conf"), "--night", night]
        options += ["--set", f"source.path={self.directory / 'raw'}"]
        assert [run(only(step), "", options, spark=self.spark) for step in (ingest.step, preprocess.step)] == [0, 0]
        entry = next(entry for entry in reversed(Ledger.read(self.lake).entries) if entry.output("gold/leaky") is not None)
        return FittedState.load(self.lake, "leaky", entry.run.run_id, entry.step_key)

    def gold(self, split: str) -> pa.Table:
        version = Ledger.read(self.lake).version_of("gold/leaky")
        rows = log.read_rows(self.lake.path("gold/leaky"), version=version).sort_by("row_id")
        return rows.filter(pc.equal(rows.column("split"), split))


def fitted_of(state: FittedState) -> FittedState:
    """What encodes rows: without what describes the night's rows and files."""
    return replace(state, nights={}, num_rows=None, num_silver_rows=0, profile=None, reference=None)


def check(directory: Path, spark: SparkSession, seed: int) -> tuple[Leaky, FittedState]:
    """Two lakes with the same train rows, and other rows in all that is not trained on."""
    train = rows_of("train", 0, seed)
    lakes, states = [], []
    for number in (1, 2):
        lake = Leaky(directory / f"{seed}-{number}", spark)
        others = rows_of("validation", 100, seed + number) + rows_of("test", 200, seed + 10 * number, num_rows=30 * number)
        states.append(lake.preprocess([*train, *others] if number == 1 else [*others, *train]))
        lakes.append(lake)
    one, other = states
    assert fitted_of(one) == fitted_of(other)
    assert one.cleaning is not None and one.statistics is not None and one.features is not None
    assert sorted(one.tokenizers) == sorted(TEXTS)
    assert one.classes == ("class 0", "class 1", "class 2")
    assert lakes[0].gold("train").equals(lakes[1].gold("train"))
    assert lakes[0].gold("train").num_rows > 40
    assert not lakes[0].gold("test").equals(lakes[1].gold("test"))
    return lakes[0], one


def test_nothing_leaks_from_validation_and_test(tmp_path: Path, spark: SparkSession) -> None:
    check(tmp_path, spark, 3)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(20, 24))
def test_nothing_leaks_whatever_the_rows(seed: int, tmp_path: Path, spark: SparkSession) -> None:
    """Also where a later night brings other rows to what is not trained on. Each column of the train split does count. Four
    lakes, and five tokenizers for each."""
    lake, state = check(tmp_path, spark, seed)
    later = lake.preprocess(rows_of("validation", 300, seed + 2) + rows_of("test", 400, seed + 3), NEXT)
    assert fitted_of(later) == fitted_of(state)
    assert later.num_silver_rows > state.num_silver_rows
    changed = Leaky(tmp_path / "changed", spark).preprocess(rows_of("train", 0, seed + 1))
    assert changed.cleaning != state.cleaning and changed.features != state.features and changed.statistics != state.statistics
    assert all(changed.tokenizers[name] != state.tokenizers[name] for name in TEXTS)
