"""Row ids, hash numbers and splits: Spark and Python give the same, and nothing is confused with anything else."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from millrace.config.splitting import HashSplit
from millrace.errors import ContractError
from millrace.transforms.identity import (
    encoded,
    hash_number,
    python_encoded,
    python_hash_number,
    python_row_id,
    row_id,
    threshold,
    with_row_id,
)
from millrace.transforms.split import split_of

keys = st.tuples(st.none() | st.integers(-(2**63), 2**63 - 1), st.none() | st.text(max_size=8), st.none() | st.binary(max_size=8))
SCHEMA = StructType().add("n", "long").add("t", "string").add("b", "binary")


def test_spark_and_python_give_the_same_ids(spark: SparkSession) -> None:
    """Hypothesis makes 300 keys, Spark hashes them in one job."""
    found: list[tuple[object, ...]] = [(None, None, None), (0, "", b""), (-1, "ü\x00\U0001f600", b"\x00\xff")]

    @given(st.lists(keys, min_size=3, max_size=3))
    def collect(rows: list[tuple[object, ...]]) -> None:
        found.extend(rows)

    collect()
    frame = spark.createDataFrame(found, SCHEMA).select("*", row_id(SCHEMA, SCHEMA.names).alias("id"))
    number = hash_number(encoded(SCHEMA, ["t"]), seed=7).alias("number")
    rows = frame.select("*", encoded(SCHEMA, SCHEMA.names).alias("e"), number).collect()
    assert len(rows) == len(found) > 100
    for values, row in zip(found, rows, strict=True):
        assert bytes(row["e"]) == python_encoded(values)
        assert row["id"] == python_row_id(values)
        assert row["number"] == python_hash_number(python_encoded([values[1]]), seed=7)


@given(st.lists(st.none() | st.text(max_size=4), max_size=4), st.lists(st.none() | st.text(max_size=4), max_size=4))
def test_other_values_have_other_encodings(first: list[object], second: list[object]) -> None:
    assert (python_encoded(first) == python_encoded(second)) == (first == second)


def test_nulls_are_not_skipped() -> None:
    ids = {python_row_id(values) for values in ((None, "a"), ("a", None), ("a",), ("", "a"), ("a", ""), (None, None))}
    assert len(ids) == 6


def test_dates_and_times_do_not_depend_on_the_sessions_zone(spark: SparkSession) -> None:
    schema = StructType.fromDDL("d date, t timestamp")
    time = datetime.datetime(2026, 11, 22, 3, 4, 5, 6, tzinfo=datetime.UTC)
    frame = spark.createDataFrame([(datetime.date(2026, 11, 22), time)], schema)
    (row,) = frame.select(encoded(schema, ["d"]).alias("d"), encoded(schema, ["t"]).alias("t")).collect()
    assert bytes(row["d"]) == python_encoded(["2026-11-22"])
    assert bytes(row["t"]) == python_encoded([int(time.timestamp()) * 1_000_000 + 6])


@pytest.mark.parametrize("kind", ["float", "double", "boolean", "array<int>"])
def test_types_without_an_exact_text_are_refused(spark: SparkSession, kind: str) -> None:
    schema = StructType.fromDDL(f"x {kind}")
    with pytest.raises(ContractError) as caught:
        row_id(schema, ["x"])
    assert str(caught.value) == (
        f"identity: expected key columns of integers, texts, bytes, dates or timestamps; found x of type {kind}. "
        "Take another key: such a value has no text that every machine agrees on."
    )


def test_thresholds() -> None:
    assert [threshold(fraction) for fraction in (0.0, 0.5, 1.0)] == [0, 2**59, 2**60]


def test_splits_are_stable_and_of_the_right_size(spark: SparkSession) -> None:
    config = HashSplit.model_validate({"key": ["id"], "seed": 7, "fractions": {"train": 0.7, "validation": 0.1, "test": 0.2}})
    frame = spark.range(20_000)
    rows = frame.select("id", split_of(frame.schema, config).alias("split")).collect()
    limits = {"train": threshold(0.7), "validation": threshold(0.8), "test": 2**60}
    for row in rows[:200]:
        number = python_hash_number(python_encoded([row["id"]]), seed=7)
        assert row["split"] == next(name for name, limit in limits.items() if number < limit)
    for name, fraction in config.fractions.items():
        count = sum(row["split"] == name for row in rows)
        sigma = (20_000 * fraction * (1 - fraction)) ** 0.5
        assert abs(count - 20_000 * fraction) < 4 * sigma
    few = frame.filter("id % 1000 = 1").repartition(3)
    again = {row["id"]: row["split"] for row in few.select("id", split_of(few.schema, config).alias("split")).collect()}
    assert again == {row["id"]: row["split"] for row in rows if row["id"] % 1000 == 1}


def test_rows_of_a_rule_are_taken_first(spark: SparkSession) -> None:
    config = HashSplit.model_validate({"key": ["id"], "fractions": {"train": 1.0}, "test": {"where": "id >= 3"}})
    frame = spark.createDataFrame([(1,), (4,), (None,)], "id int")
    splits = frame.select(split_of(frame.schema, config).alias("split")).collect()
    assert [row["split"] for row in splits] == ["train", "test", "train"]  # a rule that gives NULL takes no row


def test_another_seed_gives_other_splits(spark: SparkSession) -> None:
    values = {"key": ["id"], "fractions": {"train": 0.5, "test": 0.5}}
    configs = [HashSplit.model_validate({**values, "seed": seed}) for seed in (1, 2)]
    frame = spark.range(1_000)
    first, second = (split_of(frame.schema, config) for config in configs)
    num_equal = frame.filter(first == second).agg(F.count("*")).first()[0]
    assert abs(num_equal - 500) < 4 * 250**0.5


def test_equal_rows_without_a_key_have_ids_of_their_own_that_come_again(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [("a", "2026-11-22", "x.csv"), ("a", "2026-11-22", "x.csv"), ("a", "2026-11-23", "y.csv"), ("b", "2026-11-22", "x.csv")],
        "_raw string, _night string, _source_file string",
    )

    def ids() -> list[str]:
        return sorted(row["row_id"] for row in with_row_id(rows, key=None, content="_raw").collect())

    assert len(set(ids())) == 4
    assert ids() == ids()
