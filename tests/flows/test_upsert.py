"""A contract with `upsert`: the newest row of a key stands, in silver and in gold, and what gives way is accounted for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from millrace.errors import LakeError
from millrace.flows.inspect import sql
from millrace.flows.maintain import Options, maintain
from millrace.lake import log
from millrace.lake.ledger import Ledger
from millrace.lake.read import read_version
from tests.flows.law import check_law
from tests.flows.pipelines import FIRST, SECOND, Pipelines

THIRD = "2026-11-23"


@pytest.fixture
def upserting(pipelines: Pipelines) -> Pipelines:
    pipelines.contract(upsert=True)
    pipelines.define("digits", {"clean": []})
    return pipelines


def digits(pipelines: Pipelines, spark: SparkSession) -> dict[int, tuple[str, int]]:
    """index -> (night, digit) of silver's rows."""
    rows = read_version(spark, pipelines.lake, "silver/digits", Ledger.read(pipelines.lake).version_of("silver/digits")).collect()
    found = {row["index"]: (row["_night"], row["digit"]) for row in rows}
    assert len(found) == len(rows)
    assert pipelines.rows("gold/digits") == Counter((row["_night"], row["row_id"]) for row in rows)
    return found


def quarantine(pipelines: Pipelines) -> Counter[tuple[str, str]]:
    """(night, reason) of what was dropped."""
    table = "quarantine/pipelines/digits"
    rows = log.read_rows(pipelines.lake.path(table), version=Ledger.read(pipelines.lake).version_of(table)).to_pylist()
    assert {row["action"] for row in rows} == {"dropped"}
    for row in rows:  # which rule it is tells whether an older night had counted the row as kept
        assert row["rule"] == ("gave_way" if "this one was of" in row["reason"] else "superseded")
    return Counter((row["_night"], row["reason"]) for row in rows)


def test_newer_rows_take_the_place_of_older_ones(upserting: Pipelines, spark: SparkSession) -> None:
    upserting.write("a.csv", 1, 2, 3, digit=1)
    upserting.write("b.csv", 3, digit=5)  # within a night the later file's row stays
    assert upserting.call(FIRST) == [0, 0]
    assert digits(upserting, spark) == {1: (FIRST, 1), 2: (FIRST, 1), 3: (FIRST, 5)}
    upserting.write("c.csv", 2, 4, digit=7)
    assert upserting.call(THIRD) == [0, 0]
    assert digits(upserting, spark) == {1: (FIRST, 1), 2: (THIRD, 7), 3: (FIRST, 5), 4: (THIRD, 7)}
    check_law(upserting.lake, "digits", num_raw=6, num_silver=len(digits(upserting, spark)))
    tables = sql(upserting.lake, "SHOW TABLES").column("name").to_pylist()
    assert "gold_digits" in tables and "silver_digits" not in tables  # deletion vectors are for Spark alone, which copies them
    query = "SELECT index, digit FROM Silver_digits ORDER BY index"
    assert sql(upserting.lake, query, sessions=lambda: spark).to_pydict() == {"index": [1, 2, 3, 4], "digit": [1, 7, 5, 7]}
    upserting.write("d.csv", 2, 3, digit=8)  # an older night that comes late
    assert upserting.call(SECOND) == [0, 0]
    assert digits(upserting, spark) == {1: (FIRST, 1), 2: (THIRD, 7), 3: (SECOND, 8), 4: (THIRD, 7)}
    check_law(upserting.lake, "digits", num_raw=8, num_silver=len(digits(upserting, spark)))
    assert quarantine(upserting) == Counter(
        {
            (FIRST, "the same night, or a newer one, has a later row with this key"): 1,
            (THIRD, f"a newer night has a row with this key; this one was of {FIRST}"): 1,
            (SECOND, "a newer night has a row with this key"): 1,
            (SECOND, f"a newer night has a row with this key; this one was of {FIRST}"): 1,
        }
    )


def test_a_killed_merge_is_done_again_and_a_rebuild_gives_the_same(upserting: Pipelines, spark: SparkSession) -> None:
    upserting.write("a.csv", 1, 2, digit=1)
    assert upserting.call(FIRST) == [0, 0]
    upserting.write("c.csv", 2, 4, digit=7)
    assert upserting.call(SECOND) == [0, 0]
    expected = digits(upserting, spark)
    assert expected == {1: (FIRST, 1), 2: (SECOND, 7), 4: (SECOND, 7)}
    upserting.forget_success("preprocess")
    assert upserting.call(SECOND) == [0, 0]
    assert digits(upserting, spark) == expected
    assert upserting.call(SECOND, "--set", "split.seed=8") == [0, 0]
    assert digits(upserting, spark) == expected
    check_law(upserting.lake, "digits", num_raw=4, num_silver=len(digits(upserting, spark)))


def test_a_newer_row_that_is_rejected_takes_no_place_night_by_night_and_in_a_rebuild(
    pipelines: Pipelines, spark: SparkSession
) -> None:
    """For want of a partner, of a label, or by a rule of the contract that a step of `clean` has it break."""
    columns = {
        "index": {"type": "int", "nullable": False},
        "image": {"type": "string"},
        "digit": {"type": "int", "range": [0, 99]},
    }
    reference = {"column": ["digit"], "table": "bronze/known", "key": ["digit"]}
    pipelines.contract(columns=columns, key=["index"], upsert=True, references=[reference])
    sections: dict[str, object] = {
        "clean": [{"map": {"column": "digit", "values": {40: 140}}}],
        "label": {"column": "digit", "kind": "number"},
        "training": {"loss": "mse"},
        "features": [{"column": "index", "encode": "zscore"}],
        "quality": {"max_reject_ratio": 1.0},
    }
    pipelines.define("digits", sections)
    pipelines.define("known", {**sections, "clean": []}, name="known", path=str(pipelines.raw / "a.csv"))
    pipelines.write("a.csv", 1, 2, 3, digit=5)
    assert pipelines.call(FIRST, pipeline="known", steps=("ingest",)) == [0]
    assert pipelines.call(FIRST) == [0, 0]
    pipelines.write("b.csv", 1, digit=6)  # 6 is not in known
    pipelines.write("c.csv", 2, digit=40)
    (pipelines.raw / "d.csv").write_text("index,image,digit\n3,x,\n")
    assert pipelines.call(SECOND) == [0, 0]
    expected = {1: (FIRST, 5), 2: (FIRST, 5), 3: (FIRST, 5)}
    assert digits(pipelines, spark) == expected
    assert pipelines.call(SECOND, "--force", steps=("preprocess",)) == [0]
    assert digits(pipelines, spark) == expected


def test_rows_that_were_equal_to_one_that_gives_way_come_back(pipelines: Pipelines, spark: SparkSession) -> None:
    """drop_duplicates had dropped row 9 as equal to row 2 but for its key; row 2 is then another."""
    pipelines.contract(upsert=True)
    pipelines.define("digits", {"clean": [{"drop_duplicates": ["digit"]}]})
    pipelines.write("a.csv", 2, 9, digit=1)
    assert pipelines.call(FIRST) == [0, 0]
    assert len(digits(pipelines, spark)) == 1
    first = next(iter(digits(pipelines, spark)))
    pipelines.write("b.csv", first, digit=5)
    assert pipelines.call(SECOND) == [0, 0]
    assert digits(pipelines, spark) == {first: (SECOND, 5), 11 - first: (FIRST, 1)}


def test_a_newer_row_is_no_duplicate_of_the_one_whose_place_it_takes(pipelines: Pipelines, spark: SparkSession) -> None:
    pipelines.contract(upsert=True)
    pipelines.define("digits", {"clean": [{"drop_duplicates": ["digit"]}]})
    pipelines.write("a.csv", 1, digit=1)
    assert pipelines.call(FIRST) == [0, 0]
    pipelines.write("b.csv", 1, digit=1)
    assert pipelines.call(SECOND) == [0, 0]
    assert digits(pipelines, spark) == {1: (SECOND, 1)}
    assert pipelines.call(SECOND, "--force", steps=("preprocess",)) == [0]
    assert digits(pipelines, spark) == {1: (SECOND, 1)}


def test_a_row_that_takes_a_place_and_is_dropped_later_leaves_none_night_by_night_and_in_a_rebuild(
    pipelines: Pipelines, spark: SparkSession
) -> None:
    """Row 1 of the second night is as row 2 but for its key: dropped as its duplicate, when row 1 of the first has given way."""
    pipelines.contract(upsert=True)
    pipelines.define("digits", {"clean": [{"drop_duplicates": ["digit"]}]})
    pipelines.write("a.csv", 1, digit=1)
    pipelines.write("b.csv", 2, digit=2)
    assert pipelines.call(FIRST) == [0, 0]
    pipelines.write("c.csv", 1, digit=2)
    assert pipelines.call(SECOND) == [0, 0]
    assert digits(pipelines, spark) == {2: (FIRST, 2)}
    check_law(pipelines.lake, "digits", num_raw=3, num_silver=1)
    assert pipelines.call(SECOND, "--force", steps=("preprocess",)) == [0]
    assert digits(pipelines, spark) == {2: (FIRST, 2)}


def test_maintenance_by_spark_and_the_night_after_it(upserting: Pipelines, spark: SparkSession) -> None:
    """Silver has deletion vectors, which deltalake does not read."""
    upserting.write("a.csv", 1, 2, 3, digit=1)
    assert upserting.call(FIRST) == [0, 0]
    upserting.write("c.csv", 2, 4, digit=7)
    assert upserting.call(SECOND) == [0, 0]
    before, lake = digits(upserting, spark), upserting.lake
    options = Options(retention=timedelta(0), night=SECOND)
    files = data_files(upserting)
    dry = maintain(lake, replace(options, dry_run=True), lambda: spark)
    assert (data_files(upserting), dry.small_files["silver/digits"]) == (files, len(files))
    maintain(lake, options, lambda: spark)
    assert digits(upserting, spark) == before
    assert files < data_files(upserting)  # gold that stands was made of them
    assert len(data_files(upserting) - files) == 1
    with pytest.raises(LakeError, match=r"expected Spark, for a table with features that deltalake does not know"):
        maintain(lake, options)
    upserting.write("d.csv", 2, 5, digit=9)
    assert upserting.call(THIRD) == [0, 0]
    after = digits(upserting, spark)
    assert after == {**before, 2: (THIRD, 9), 5: (THIRD, 9)}
    done = maintain(lake, replace(options, night=THIRD), lambda: spark)
    assert files <= {Path(path).name for found in done.removed if found.table == "silver/digits" for path in found.paths}
    assert not files & data_files(upserting)
    assert digits(upserting, spark) == after


def data_files(pipelines: Pipelines) -> set[str]:
    return {path.name for path in Path(pipelines.lake.path("silver/digits")).glob("*.parquet")}
