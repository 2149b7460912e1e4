"""Profiles: against plain Python and NumPy, the same whatever the partitions, and as rows."""

from __future__ import annotations

import math
import statistics
from datetime import UTC, date, datetime
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from millrace.quality.profile import MAX_VALUES, ColumnProfile, Profile, as_rows, merge
from millrace.quality.profiling import empty, profile, profile_array, profile_batch

KINDS = {"i": "int", "f": "double", "s": "string", "b": "binary", "d": "date", "t": "timestamp", "o": "boolean"}
KINDS |= {"a": "array<int>"}
SCHEMA = pa.schema(
    [
        ("i", pa.int32()),
        ("f", pa.float64()),
        ("s", pa.string()),
        ("b", pa.binary()),
        ("d", pa.date32()),
        ("t", pa.timestamp("us", "UTC")),
        ("o", pa.bool_()),
        ("a", pa.list_(pa.int32())),
    ]
)


def batch_of(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    return pa.record_batch([pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


ROW = st.tuples(
    st.none() | st.integers(-(2**31), 2**31 - 1),
    st.none() | st.floats(),
    st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.none() | st.binary(max_size=5),
    st.none() | st.dates(),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.none() | st.booleans(),
    st.none() | st.lists(st.integers(0, 3), max_size=2),
)


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(ROW, max_size=12), order=st.randoms(use_true_random=False), cut=st.integers(0, 12))
def test_parts_in_any_order_add_up_to_the_whole(rows: list[tuple[Any, ...]], order: Any, cut: int) -> None:
    whole = profile_batch(batch_of(rows), KINDS)
    shuffled = order.sample(rows, len(rows))
    parts = [profile_batch(batch_of(part), KINDS) for part in (shuffled[:cut], shuffled[cut:])]
    assert reduce(merge, parts, empty(KINDS)) == whole
    assert Profile.from_json(whole.to_json()) == whole
    assert merge(*parts).to_json() == merge(*parts[::-1]).to_json() == whole.to_json()


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(ROW, max_size=30))
def test_against_python(rows: list[tuple[Any, ...]]) -> None:
    found = profile_batch(batch_of(rows), KINDS).columns
    columns = {name: [row[place] for row in rows] for place, name in enumerate(KINDS)}
    for name, values in columns.items():
        assert (found[name].num_rows, found[name].num_nulls) == (len(rows), values.count(None))
    for name in ("i", "s", "b", "d", "t", "o"):
        assert found[name].num_distinct == len({value for value in columns[name] if value is not None})
    integers = [value for value in columns["i"] if value is not None]
    assert (found["i"].low, found["i"].high) == (min(integers, default=None), max(integers, default=None))
    assert found["i"].mean == (statistics.fmean(integers) if integers else None) or found["i"].mean == pytest.approx(
        statistics.fmean(integers)
    )
    floats = [value for value in columns["f"] if value is not None]
    assert found["f"].num_nans == sum(map(math.isnan, floats))
    assert found["f"].num_infinite == sum(map(math.isinf, floats))
    texts = [value for value in columns["s"] if value is not None]
    assert found["s"].values == {value: texts.count(value) for value in set(texts)}
    assert found["s"].mean == pytest.approx(statistics.fmean(map(len, texts))) if texts else found["s"].mean is None
    assert found["o"].values == {str(value).lower(): columns["o"].count(value) for value in {True, False} & set(columns["o"])}
    assert (found["a"].num_distinct, found["a"].mean, found["a"].quantile(0.5)) == (None, None, None)


def test_moments_and_quantiles_against_numpy() -> None:
    numbers = np.random.default_rng(1).lognormal(3, 1, 20_000)
    found = profile_array(pa.array(numbers), "double")
    assert found.mean == pytest.approx(numbers.mean(), rel=1e-12)
    assert found.stddev == pytest.approx(numbers.std(ddof=1), rel=1e-12)
    for share in (0.0, 0.01, 0.5, 0.9, 1.0):
        assert found.quantile(share) == pytest.approx(np.quantile(numbers, share, method="inverted_cdf"), rel=1 / 127)
    assert found.num_distinct == pytest.approx(20_000, rel=0.1)
    days = profile_array(pa.array([date(2020, 1, 1), date(2021, 1, 1), date(2024, 7, 1)]), "date")
    assert days.quantile(0.5) == pytest.approx((date(2021, 1, 1) - date(1970, 1, 1)).days, abs=4)


def test_columns_of_many_or_long_values_have_none_listed() -> None:
    many = [f"v{number}" for number in range(MAX_VALUES + 1)]
    halves = [Profile({"s": profile_array(pa.array(part), "string")}) for part in (many[:500], many[500:])]
    assert all(half.columns["s"].values is not None for half in halves)
    whole = profile_array(pa.array(many), "string")
    assert whole.values is None
    assert whole.top() == []
    assert whole.num_distinct == MAX_VALUES + 1
    assert merge(*halves).columns["s"] == whole
    assert profile_array(pa.array(["x" * 201]), "string").values is None
    assert profile_array(pa.array(["x" * 201]), "string").high == "x" * 200


def test_a_column_that_comes_later_was_null() -> None:
    old = Profile({"a": profile_array(pa.array([1, 2], pa.int32()), "int")})
    new = Profile({"a": profile_array(pa.array([3], pa.int32()), "int"), "b": profile_array(pa.array(["x"]), "string")})
    both = merge(old, new)
    assert list(both.columns) == ["a", "b"]
    assert (both.columns["b"].num_rows, both.columns["b"].num_nulls, both.columns["b"].values) == (3, 2, {"x": 1})


def test_rows() -> None:
    columns = {
        "n": profile_array(pa.array([1, 2, 2, None], pa.int32()), "int"),
        "s": profile_array(pa.array(["b", "a", "b"]), "string"),
        "t": profile_array(pa.array([datetime(2020, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC")), "timestamp"),
        "none": ColumnProfile("array<int>"),
    }
    rows = [(row["column"], row["statistic"], row["value"], row["text"]) for row in as_rows(Profile(columns))]
    shares = ("0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99")
    assert [row[1:] for row in rows if row[0] == "n"] == [
        ("num_rows", 4.0, None),
        ("num_nulls", 1.0, None),
        ("num_nans", 0.0, None),
        ("num_infinite", 0.0, None),
        ("num_distinct", 2.0, None),
        ("min", 1.0, None),
        ("max", 2.0, None),
        ("mean", 5 / 3, None),
        ("stddev", pytest.approx(0.57735, abs=1e-5), None),
        *[(f"quantile_{share}", value, None) for share, value in zip(shares, (1, 1, 1, 2, 2, 2, 2), strict=True)],
        ("top_1", 2.0, "2"),
        ("top_2", 1.0, "1"),
    ]
    text = {statistic: (value, text) for column, statistic, value, text in rows if column == "s"}
    assert (text["min"], text["max"], text["top_1"]) == ((None, "a"), (None, "b"), (2.0, "b"))
    assert text["length_mean"] == (1.0, None)
    assert ("t", "min", 1577836800000000.0, "2020-01-01T00:00:00+00:00") in rows
    assert len([row for row in rows if row[0] == "none"]) == 4


def test_spark_gives_the_same_profile_whatever_the_partitions(spark: SparkSession) -> None:
    rows = spark.range(3000).select(
        (F.col("id") % 7).cast("int").alias("i"),
        (F.when(F.col("id") % 5 != 0, F.sin("id") * 1e6)).alias("f"),
        F.concat(F.lit("é"), F.col("id") % 11).alias("s"),
        F.encode(F.col("id").cast("string"), "utf-8").alias("b"),
        F.date_add(F.lit(date(2020, 1, 1)), F.col("id").cast("int") % 400).alias("d"),
        F.timestamp_seconds("id").alias("t"),
        (F.col("id") % 2 == 0).alias("o"),
        F.array(F.col("id").cast("int")).alias("a"),
    )
    found = profile(rows, kinds=KINDS)
    assert found == profile(rows.repartition(7, "b").sortWithinPartitions("f"), kinds=KINDS)
    collected = [tuple(row[name] for name in KINDS) for row in rows.collect()]
    utc = [(*row[:3], bytes(row[3]), row[4], row[5].astimezone(UTC), *row[6:]) for row in collected]
    assert found == profile_batch(batch_of(utc), KINDS)
    assert profile(rows.limit(0), kinds=KINDS) == empty(KINDS)
