"""`materialize: [gold]`: raw files go to gold without bronze and silver, and gold is the same as with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession

from millrace.config.load import load_pipeline
from millrace.config.places import Places
from millrace.contracts.table import load_contract
from millrace.fit.state import FittedState
from millrace.flows import ingest, preprocess, raw_to_gold
from millrace.flows.context import Context, make_run
from millrace.flows.job import run
from millrace.flows.nightly import NIGHT, only
from millrace.flows.raw_again import raw_rows_of_gold
from millrace.flows.raw_rows import packing_of
from millrace.flows.raw_to_gold import encoded_when_read
from millrace.flows.scope import entry_of_gold, state_of
from millrace.lake import log
from millrace.lake.layout import Lake
from millrace.lake.ledger import Entry, Ledger
from millrace.loading.index import build_index
from millrace.transforms.features import EncodedWhenRead
from millrace.transforms.split import SPLITS

FIRST, SECOND = "2026-11-21", "2026-11-22"
HEADER = "id,kind,size,weight,part,species"
CONTRACT = {
    "name": "beasts_raw",
    "grain": "one row per beast",
    "key": ["id"],
    "columns": {
        "id": {"type": "bigint", "nullable": False},
        "kind": {"type": "string", "nullable": False},
        "size": {"type": "int", "range": [0, 1000]},
        "weight": {"type": "double", "nullable": False, "range": [0, 100]},
        "part": {"type": "string", "nullable": False, "one_of": ["train", "validation", "test"]},
        "species": {"type": "string", "nullable": False},
    },
    "checks": [{"rule": "light_for_its_size", "expression": "size IS NULL OR weight < 90 OR size > 3"}],
    "evolution": {"added": "quarantine", "missing": "refuse", "retyped": "quarantine"},
}
PIPELINE = {
    "name": "beasts",
    "source": {"name": "beasts", "format": "csv", "path": "", "schema": "beasts_raw"},
    "quality": {"max_reject_ratio": 0.2},
    "split": {"method": "given", "column": "part"},
    "features": [
        {"columns": ["size"], "encode": "log", "impute": "median"},
        {"columns": ["weight"], "encode": "zscore"},
        {"columns": ["kind"], "encode": "one_hot", "unknown": "slot"},
    ],
    "label": {"column": "species", "kind": "class"},
}


def beast(number: int) -> str:
    part = ("train", "train", "train", "validation", "test")[number % 5]
    size = "" if number % 7 == 0 else str(number * 37 % 1000)
    return f"{number},{'abc'[number * 5 % 3]},{size},{number * 13 % 89 / 2},{part},{'xy'[number % 2]}"


BROKEN = [
    "900,a,12,nothing,train,x",
    "901,a,0x10,1.5,train,x",
    "902,a,12,100.5,train,x",
    "903,,12,1.5,train,x",
    "904,a,12,1.5,elsewhere,x",
    "905,a,12,1.5,train",
    "906,a,12,1.5,train,x,y",
    "907,a,2,95.0,train,x",
    "908,a,12,NaN,train,x",
    "909,a,12,1.5,test,z",
    "5,c,12,1.5,train,x",
    " 910 ,a, +12,1e1,train,x",
]
"""Each breaks a rule; of the key 5 the earlier row stays, the class z is not in the train split, and the last row is good."""


class Beasts:
    """One lake for each way, over the same files."""

    def __init__(self, directory: Path, spark: SparkSession) -> None:
        self.raw, self.conf, self.spark = directory / "raw", directory / "conf", spark
        self.lakes = {way: Lake.at(str(directory / way)) for way in ("all", "gold")}
        self.raw.mkdir()
        self.define()

    def define(self, contract: dict[str, object] | None = None, **sections: object) -> None:
        for folder, name, content in (
            ("schemas", "beasts_raw", {**CONTRACT, **(contract or {})}),
            ("pipelines", "beasts", {**PIPELINE, "source": {**PIPELINE["source"], "path": str(self.raw)}, **sections}),
        ):
            (self.conf / folder).mkdir(parents=True, exist_ok=True)
            (self.conf / folder / f"{name}.yaml").write_text(yaml.safe_dump(content))

    def write(self, name: str, *rows: str) -> Path:
        path = self.raw / name
        path.write_text("\n".join([HEADER, *rows]) + "\n")
        return path

    def write_without_part(self, name: str, *rows: str) -> None:
        parts = [row.split(",") for row in rows]
        text = "\n".join(",".join([*fields[:4], *fields[5:]]) for fields in [HEADER.split(","), *parts])
        (self.raw / name).write_text(text + "\n")

    def call(self, way: str, night: str, *arguments: str, whole: bool = False) -> list[int]:
        mode = {"all": [], "gold": ["--set", "materialize=[gold]"]}[way]
        options = ["--pipeline", "beasts", "--lake", self.lakes[way].uri, "--conf-dir", str(self.conf), "--night", night]
        flows = [NIGHT] if whole else [only(ingest.step), only(preprocess.step)]
        return [run(flow, "", [*options, *mode, *arguments], spark=self.spark) for flow in flows]

    def context(self, way: str, night: str) -> Context:
        places = Places.standard(str(self.conf))
        config = load_pipeline("beasts", places, overrides=["materialize=[gold]"] if way == "gold" else [])
        contract = load_contract(config.source.contract, places)
        return Context(lambda: self.spark, self.lakes[way], config, contract, make_run(config, contract, night))

    def both(self, night: str, *arguments: str) -> None:
        for way in self.lakes:
            assert self.call(way, night, *arguments) == [0, 0]

    def gold(self, way: str) -> pa.Table:
        """All columns, in the order in which a training has the rows: by split, file and row."""
        uri, version = self.lakes[way].path("gold/beasts"), Ledger.read(self.lakes[way]).version_of("gold/beasts")
        tables = []
        for split in SPLITS:
            for file in build_index(uri, version=version, partitions={"split": split}).files:
                rows = pq.ParquetFile(file).read()
                tables.append(rows.append_column("split", pa.array([split] * rows.num_rows)))
        return pa.concat_tables(tables)

    def rejected(self, way: str) -> set[tuple[object, ...]]:
        found = []
        for table in ("quarantine/sources/beasts", "quarantine/pipelines/beasts"):
            uri = self.lakes[way].path(table)
            found += log.read_rows(uri).to_pylist() if log.exists(uri) else []
        names = ("row_id", "record", "source_file", "rule", "reason", "action", "_night")
        return {tuple(row[name] for name in names) for row in found}

    def entry(self, way: str, step: str = "preprocess") -> Entry:
        return next(each for each in reversed(Ledger.read(self.lakes[way]).entries) if each.step == step)

    def check_equal(self) -> None:
        one, other = self.gold("all"), self.gold("gold")
        assert one.num_rows > 0
        assert other.equals(one)
        one_schema, other_schema = (log.open_table(lake.path("gold/beasts")).schema() for lake in self.lakes.values())
        assert other_schema == one_schema
        one_profile, other_profile = (self.state(way).profile for way in self.lakes)
        assert other_profile == one_profile is not None

    def check_test_rows(self, night: str) -> int:
        """What publishing reads of the raw files are silver's rows; how many."""
        columns = ["row_id", "size", "weight", "kind"]
        context = self.context("gold", night)
        ledger = Ledger.read(context.lake)
        version = ledger.version_of("gold/beasts")
        assert version is not None
        entry, state = entry_of_gold(context, ledger, version), state_of(context, ledger, version)
        found = raw_rows_of_gold(context, entry, version, state, split="test", columns=columns)
        uri, at = self.lakes["all"].path("silver/beasts"), Ledger.read(self.lakes["all"]).version_of("silver/beasts")
        silver = log.read_rows(uri, version=at)
        expected = silver.filter(pc.equal(silver.column("split"), "test")).select(columns)
        assert found.sort_by("row_id").equals(expected.sort_by("row_id"))
        return found.num_rows

    def state(self, way: str) -> FittedState:
        entry = self.entry(way)
        return FittedState.load(self.lakes[way], "beasts", entry.run.run_id, entry.step_key)


@pytest.fixture
def beasts(tmp_path: Path, spark: SparkSession) -> Beasts:
    return Beasts(tmp_path, spark)


def test_gold_and_quarantine_are_those_of_the_long_way(beasts: Beasts) -> None:
    """Two nights: the second adds to the statistics that stand, and brings a key again that the first has."""
    beasts.write("a.csv", *map(beast, range(100)), *BROKEN)
    beasts.both(FIRST)
    beasts.check_equal()
    assert beasts.rejected("gold") == beasts.rejected("all")
    counts = beasts.entry("gold").counts
    assert counts is not None
    assert vars(counts) == {"num_rows_in": 112, "num_rows_kept": 101, "num_rows_quarantined": 10, "num_rows_dropped": 1}
    beasts.write("b.csv", *map(beast, range(97, 150)))
    beasts.both(SECOND)
    beasts.check_equal()
    assert beasts.rejected("gold") == beasts.rejected("all")
    lake = beasts.lakes["gold"]
    tables = {output.table for entry in Ledger.read(lake).entries for output in entry.outputs}
    assert not {table for table in tables if table.startswith(("bronze", "silver"))}
    assert not Path(lake.path("bronze")).exists()
    assert not Path(lake.path("silver")).exists()


def test_a_night_without_a_key_cleaned_and_split_by_hash(beasts: Beasts) -> None:
    """Rows are told by their texts and ordinals, equal ones too; a fitted step of clean; two nights at once after a change."""
    sections = {
        "split": {"method": "hash", "key": ["kind", "size"], "seed": 3, "fractions": {"train": 0.7, "test": 0.3}},
        "clean": [{"fillna": {"columns": ["size"], "statistic": "mean"}}, {"filter": {"where": "weight > 1", "rule": "light"}}],
        "label": None,
    }
    beasts.define(contract={"key": None, "checks": []}, **sections)
    beasts.write("a.csv", *map(beast, range(40)), *map(beast, range(20)), *BROKEN[:4])
    beasts.both(FIRST)
    beasts.check_equal()
    beasts.write("b.csv", *map(beast, range(10, 30)))
    beasts.both(SECOND)
    beasts.check_equal()
    assert beasts.rejected("gold") == beasts.rejected("all")
    sections["split"] = {**sections["split"], "seed": 4}
    beasts.define(contract={"key": None, "checks": []}, **sections)
    beasts.both(SECOND, "--force")
    beasts.check_equal()


def test_numbers_that_spark_does_not_look_at_travel_packed(beasts: Beasts) -> None:
    """Rows that came typed and rows that came as text, some of them broken; a second night, whose keys are compared."""
    columns = {name: column for name, column in CONTRACT["columns"].items() if name != "part"}
    sections = {
        "split": {"method": "hash", "key": ["id"], "seed": 3, "fractions": {"train": 0.7, "test": 0.3}},
        "quality": {"max_reject_ratio": 0.2},
    }
    beasts.define(contract={"checks": [], "columns": columns}, **sections)
    packing = packing_of(beasts.context("gold", FIRST))
    assert packing is not None
    assert packing.types == {"size": pa.int32(), "weight": pa.float64()}

    beasts.write_without_part("a.csv", *map(beast, range(100)), *BROKEN[1:])
    beasts.both(FIRST)
    beasts.check_equal()
    assert beasts.rejected("gold") == beasts.rejected("all")
    beasts.write_without_part("b.csv", *map(beast, range(100, 150)), "200,a,  77,1e1,x,x")
    beasts.both(SECOND)
    beasts.write_without_part("c.csv", *map(beast, range(140, 160)))
    beasts.both("2026-11-23")
    beasts.check_equal()
    assert beasts.rejected("gold") == beasts.rejected("all")
    assert len(beasts.gold("gold")) > 150
    assert beasts.check_test_rows("2026-11-23") > 30


def test_rows_that_all_came_typed_are_encoded_where_they_are_read(beasts: Beasts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken rows among them, a class that train does not have, and a second night; one kept row that came as text ends it."""
    columns = {name: column for name, column in CONTRACT["columns"].items() if name != "part"}
    where = {"test": {"where": "id % 10 = 9"}, "validation": {"where": "id % 10 = 8"}}
    sections = {
        "split": {"method": "hash", "key": ["id"], "seed": 3, "fractions": {"train": 1.0}, **where},
        "quality": {"max_reject_ratio": 0.3},
    }
    beasts.define(contract={"checks": [], "columns": columns}, **sections)
    found: list[EncodedWhenRead | None] = []

    def noted(*arguments: Any) -> EncodedWhenRead | None:
        found.append(encoded_when_read(*arguments))
        return found[-1]

    monkeypatch.setattr(raw_to_gold, "encoded_when_read", noted)

    unseen = "909,a,12,1.5,test,z"
    beasts.write_without_part(
        "a.csv", *map(beast, range(100)), "902,a,12,100.5,train,x", "903,,12,1.5,train,x", unseen, "908,a,12,NaN,train,x"
    )
    beasts.both(FIRST)
    beasts.write_without_part("b.csv", *map(beast, range(100, 150)), "912,b,12,,train,x")
    beasts.both(SECOND)
    assert [each is not None for each in found] == [True, True]
    assert beasts.rejected("gold") == beasts.rejected("all")
    assert {row[3] for row in beasts.rejected("gold")} == {
        "weight_out_of_range",
        "kind_is_null",
        "species_unseen_in_train",
        "weight_is_null",
    }
    beasts.write_without_part("c.csv", *map(beast, range(160, 170)), " 170 ,a, +12,1e1,train,x")
    beasts.both("2026-11-23")
    assert [each is not None for each in found] == [True, True, False]
    beasts.check_equal()
    assert beasts.rejected("gold") == beasts.rejected("all")


def test_the_night_protocol(beasts: Beasts) -> None:
    beasts.write("a.csv", *map(beast, range(30)))
    assert beasts.call("gold", FIRST, whole=True) == [0]
    before = Ledger.read(beasts.lakes["gold"]).entries
    assert [entry.step for entry in before if entry.status == "succeeded"] == ["ingest", "preprocess", "nightly"]
    assert beasts.call("gold", FIRST, whole=True) == [0]
    assert Ledger.read(beasts.lakes["gold"]).entries == before
    assert beasts.call("gold", SECOND) == [0, 0]  # no new files
    assert beasts.entry("gold").outputs[0] == before[-2].outputs[0]
    gold = beasts.gold("gold")
    assert beasts.call("gold", FIRST, "--force", whole=True) == [0]
    assert beasts.gold("gold").equals(gold)
    assert beasts.entry("gold").outputs[0] != before[-2].outputs[0]


def test_too_many_rejects_leave_gold_as_it_was(beasts: Beasts, capfd: pytest.CaptureFixture[str]) -> None:
    beasts.write("a.csv", *map(beast, range(30)))
    assert beasts.call("gold", FIRST) == [0, 0]
    gold = beasts.gold("gold")
    beasts.write("b.csv", *map(beast, range(30, 40)), *BROKEN)
    assert beasts.call("gold", SECOND) == [0, 2]
    assert "expected at most 20.00% of the rows quarantined (quality.max_reject_ratio); found" in capfd.readouterr().err
    assert beasts.gold("gold").equals(gold)
    assert {row[3] for row in beasts.rejected("gold")} >= {"too_few_fields", "kind_is_null", "species_unseen_in_train"}


def test_a_new_class_brings_back_the_rows_that_were_rejected_for_it(beasts: Beasts) -> None:
    beasts.write("a.csv", *map(beast, range(30)), BROKEN[9])
    beasts.both(FIRST)
    beasts.write("b.csv", "1000,a,12,1.5,train,z")
    beasts.both(SECOND)
    beasts.check_equal()
    assert len(beasts.gold("gold")) == 32


def test_a_file_that_changes_under_way_ends_the_step(
    beasts: Beasts, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Between its passes, and between the nights; the next try after that is whole."""
    path = beasts.write("a.csv", *map(beast, range(30)))
    assert beasts.call("gold", FIRST) == [0, 0]
    gold = beasts.gold("gold")
    new = beasts.write("b.csv", *map(beast, range(30, 40)))
    write = raw_to_gold.write_gold

    def change_then_write(*arguments: object, **keys: object) -> object:
        new.write_text(new.read_text().replace("30,", "31,", 1))
        return write(*arguments, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(raw_to_gold, "write_gold", change_then_write)
        assert beasts.call("gold", SECOND) == [0, 1]
    said = capfd.readouterr().err
    assert f"preprocess: expected {new} to stay as it is while it is read; found that it has changed." in said
    assert beasts.gold("gold").equals(gold)
    new.unlink()
    assert beasts.call("gold", SECOND) == [0, 2]
    assert f"expected the file {new}, which gold is made of; found none." in capfd.readouterr().err
    beasts.write("b.csv", *map(beast, range(30, 40)))
    assert beasts.call("gold", SECOND) == [0, 0]
    assert len(beasts.gold("gold")) == 40
    path.write_text(path.read_text().replace("1.5", "2.5"))
    assert beasts.call("gold", SECOND, "--set", "split.column=part", "--force") == [0, 2]
    assert f"expected {path} as its night took it; found other content." in capfd.readouterr().err


def test_the_raw_rows_of_the_test_split_are_those_that_silver_has(beasts: Beasts) -> None:
    """Also of a key that two files have in one night, and one that comes again in another."""
    beasts.write("a.csv", *map(beast, range(40)))
    beasts.write("b.csv", "4,c,1,1.5,test,x", "9,c,1,1.5,train,x")
    beasts.both(FIRST)
    beasts.write("c.csv", *map(beast, range(40, 60)), "14,c,1,1.5,test,x")
    beasts.both(SECOND)
    beasts.check_equal()
    assert beasts.check_test_rows(SECOND) == 12


REFUSED = {
    "upsert": ({"upsert": True}, {}, "upsert in beasts_raw: a newer row takes the place of one in silver"),
    "unique": (
        {"unique": [["kind", "size"]]},
        {},
        "unique columns in beasts_raw: they are compared with those of other nights in silver",
    ),
    "references": (
        {"references": [{"column": "kind", "table": "silver/kinds", "key": "kind"}]},
        {},
        "references in beasts_raw: they name rows of other tables",
    ),
    "groups": (
        {},
        {
            "split": {
                "method": "group",
                "group": ["kind"],
                "fractions": {"train": 0.9, "validation": 0.1},
                "test": {"where": "size = 2"},
            }
        },
        "rules or strata of split beside kind: that none of them is on two sides is seen in silver",
    ),
    "drop_duplicates": (
        {},
        {"clean": [{"drop_duplicates": ["kind"]}]},
        "drop_duplicates in clean: rows are compared with those of other nights in silver",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_silver_is_refused(name: str, beasts: Beasts, capfd: pytest.CaptureFixture[str]) -> None:
    contract, sections, found = REFUSED[name]
    beasts.define(contract=contract, **sections)
    beasts.write("a.csv", *map(beast, range(5)))
    assert beasts.call("gold", FIRST, whole=True) == [2]
    expected = "config: expected nothing that needs bronze or silver with materialize: [gold]"
    assert f"{expected}; found {found}. Set materialize: [bronze, silver, gold]." in capfd.readouterr().err
    assert not Path(beasts.lakes["gold"].uri).exists()


def test_other_lists_of_tables_are_refused(beasts: Beasts, capfd: pytest.CaptureFixture[str]) -> None:
    beasts.write("a.csv", *map(beast, range(5)))
    assert beasts.call("all", FIRST, "--set", "materialize=[silver, gold]", whole=True) == [2]
    assert "it is [bronze, silver, gold] or [gold], not [silver, gold]" in capfd.readouterr().err
