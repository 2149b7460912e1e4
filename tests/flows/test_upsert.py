"""A contract with `upsert`: the newest row of a key stands, in silver and in gold, and what gives way is accounted for."""

from __future__ import annotations

from collections import Counter

import pytest
from pyspark.sql import SparkSession

from millrace.flows.inspect import sql
from millrace.lake import log
from millrace.lake.ledger import Ledger
from millrace.lake.read import read_version
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
    assert {(row["rule"], row["action"]) for row in rows} == {("superseded", "dropped")}
    return Counter((row["_night"], row["reason"]) for row in rows)


def counted(pipelines: Pipelines) -> bool:
    """The counting law over the tables: each bronze row is in silver or in quarantine."""
    bronze, dropped = pipelines.rows("bronze/digits").total(), quarantine(pipelines).total()
    return bronze == pipelines.rows("gold/digits").total() + dropped


def test_newer_rows_take_the_place_of_older_ones(upserting: Pipelines, spark: SparkSession) -> None:
    upserting.write("a.csv", 1, 2, 3, digit=1)
    upserting.write("b.csv", 3, digit=5)  # within a night the later file's row stays
    assert upserting.call(FIRST) == [0, 0]
    assert digits(upserting, spark) == {1: (FIRST, 1), 2: (FIRST, 1), 3: (FIRST, 5)}
    upserting.write("c.csv", 2, 4, digit=7)
    assert upserting.call(THIRD) == [0, 0]
    assert digits(upserting, spark) == {1: (FIRST, 1), 2: (THIRD, 7), 3: (FIRST, 5), 4: (THIRD, 7)}
    assert counted(upserting)
    tables = sql(upserting.lake, "SHOW TABLES").column("name").to_pylist()
    assert "gold_digits" in tables and "silver_digits" not in tables  # deletion vectors are for Spark alone
    upserting.write("d.csv", 2, 3, digit=8)  # an older night that comes late
    assert upserting.call(SECOND) == [0, 0]
    assert digits(upserting, spark) == {1: (FIRST, 1), 2: (THIRD, 7), 3: (SECOND, 8), 4: (THIRD, 7)}
    assert counted(upserting)
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
    assert counted(upserting)


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
