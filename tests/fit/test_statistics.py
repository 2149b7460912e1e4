"""Statistics: exact, mergeable, the same whatever the order and the partitioning, and saved as they are."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from millrace.contracts.inputs import kind_of
from millrace.contracts.spark import struct_type
from millrace.errors import ConfigError, ContractError
from millrace.fit import collect, quantiles, statistics
from millrace.fit.collect import collect_statistics
from millrace.fit.exact import Moments
from millrace.fit.quantiles import Sketch, SketchBuilder
from millrace.fit.statistics import Need, Statistics, ValueCounts, merge_needs
from tests import feature_tables as tables

finite = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=60)
KINDS = {name: kind_of(kind) for name, kind in tables.TYPES.items()}
NEEDS = [
    Need(
        column=name,
        moments=KINDS[name] != "text",
        log_moments=KINDS[name] != "text",
        quantiles=KINDS[name] != "text",
        values=True,
    )
    for name in tables.TYPES
]


def statistics_of(*batches: pa.RecordBatch) -> Statistics:
    return tables.statistics_of(batches, NEEDS, KINDS)


@given(finite)
def test_sums_are_exact(values: list[float]) -> None:
    found = Moments.of(np.array(values))
    assert Fraction(found.total, 2**1074) == sum(map(Fraction, values))
    assert Fraction(found.squares, 2**2148) == sum(Fraction(value) ** 2 for value in values)
    assert Moments.from_json(found.to_json()) == found


@given(st.lists(st.floats(-1e150, 1e150), min_size=1, max_size=60))
def test_mean_and_deviation_are_the_nearest_floats(values: list[float]) -> None:
    found = Moments.of(np.array(values))
    mean = sum(map(Fraction, values)) / len(values)
    variance = sum((Fraction(value) - mean) ** 2 for value in values) / len(values)
    assert found.mean == float(mean)
    error = Fraction(1, 2**50)  # a float would make floats of them, and a square of a small one is 0
    assert Fraction(found.deviation) ** 2 * (1 - error) <= variance <= Fraction(found.deviation) ** 2 * (1 + error)


def test_a_tiny_deviation_around_a_great_mean() -> None:
    found = Moments.of(1e9 + np.array([0.0, 2**-20, 2**-19] * 10_000))
    assert (found.mean, found.deviation) == (1e9 + 2**-20, float(np.std([0.0, 2**-20, 2**-19])))
    constant = Moments.of(np.full(30_001, 0.1))
    assert (constant.mean, constant.deviation) == (0.1, 0.0)
    assert (Moments().mean, Moments().deviation) == (0.0, 0.0)


@pytest.mark.parametrize("max_buckets", [3, 20, quantiles.MAX_BUCKETS])
@settings(deadline=None)
@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=80), st.floats(0, 1))
def test_quantiles_are_near(max_buckets: int, values: list[float], share: float) -> None:
    """In parts and as a whole, however many buckets there may be; exact where there are enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantiles, "MAX_BUCKETS", max_buckets)
        numbers = np.array(values)
        parts = [sketch_of(numbers[first::3]) for first in range(3)]
        sketch = sketch_of(numbers)
        assert parts[2] + (parts[0] + parts[1]) == sketch == Sketch.from_json(json.loads(json.dumps(sketch.to_json())))
    low, high = (float(np.quantile(numbers, share, method=method)) for method in ("lower", "higher"))
    off = 1e-3 if max_buckets < len(set(values)) else 1e-15
    assert (
        min(low * (1 - off), low * (1 + off)) - 1e-300
        <= sketch.quantile(share)
        <= max(high * (1 - off), high * (1 + off)) + 1e-300
    )


def sketch_of(numbers: Any) -> Sketch:
    builder = SketchBuilder()
    for part in np.array_split(numbers, 2):
        builder.add(part)
    return builder.sketch()


@given(st.lists(st.integers(-2047, 2047), min_size=1), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
def test_quantiles_of_small_whole_numbers_are_exact(values: list[int], share: float) -> None:
    assert sketch_of(np.array(values, float)).quantile(share) == pytest.approx(np.quantile(values, share), abs=1e-9)


@pytest.mark.parametrize("offset", [0.0, 116.34, -1e9])
def test_many_numbers_near_each_other_and_far_from_zero(offset: float) -> None:
    numbers = offset + np.random.default_rng(3).normal(size=50_000)
    sketch = sketch_of(numbers)
    assert sketch.bits == 10 if offset == 0.0 else len(sketch.buckets) <= quantiles.MAX_BUCKETS
    for share in (0.01, 0.25, 0.5, 0.75, 0.99):
        assert sketch.quantile(share) == pytest.approx(np.quantile(numbers, share), abs=0.004)


def test_older_states_have_buckets_of_ten_bits() -> None:
    old = Sketch.from_json([[-1049088, 1], [1048576, 1], [1067937, 2]])
    assert [old.quantile(share) for share in (0.0, 1 / 3, 1.0)] == [-3.0, 2.0, 999936.0]
    assert (sketch_of(np.array([5.0, 1e7])) + old).quantile(1.0) == 9994240.0


@settings(max_examples=30, deadline=None)
@given(st.lists(tables.tables, min_size=3, max_size=3), st.randoms(use_true_random=False))
def test_merging_is_one_pass_over_all_rows(parts: list[list[dict[str, Any]]], random: Any) -> None:
    a, b, c = (statistics_of(tables.batch_of(part)) for part in parts)
    rows = [row for part in parts for row in part]
    random.shuffle(rows)
    whole = statistics_of(tables.batch_of(rows))
    assert (a + b) + c == a + (b + c) == c + a + b == whole
    assert Statistics.from_json(whole.to_json()) == whole
    assert Statistics.from_json(whole.to_json()).to_json() == (c + b + a).to_json()


def test_what_is_missing_and_what_counts() -> None:
    found = statistics_of(
        tables.batch_of(
            [
                {"x": value, "text": text}
                for value, text in zip(
                    [1.0, None, float("nan"), float("inf"), -0.0, 0.0], ["b", None, "", "\\N", "a\x00", "b"], strict=True
                )
            ]
        )
    )
    x, text = found["x"], found["text"]
    assert (x.num_rows, x.num_missing, x.minimum, x.maximum, x.mode) == (6, 3, 0.0, 1.0, 0.0)
    assert x.values == ValueCounts(((0.0, 2), (1.0, 1)))
    assert (text.num_missing, text.values, text.mode) == (2, ValueCounts((("b", 2), ("", 1))), "b")


def test_an_unknown_column_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        Statistics({"a": statistics.ColumnStatistics(kind="text")})["b"]
    assert str(error.value) == (
        "fit: expected statistics of column b; found those of a. Fit again (fit.refit): the column is new in features or clean."
    )


def test_needs_of_a_column_are_joined() -> None:
    needs = [Need(column="b", values=True), Need(column="a"), Need(column="b", moments=True)]
    assert merge_needs(needs) == (Need(column="b", values=True, moments=True), Need(column="a"))


def test_values_beyond_the_bound_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MAX_VALUES", 2)
    found = ValueCounts.of({"a": 1, "c": 3, "b": 1})
    assert found == ValueCounts((("c", 3), ("a", 1)), complete=False)
    assert not (found + ValueCounts()).complete


def test_spark_gives_the_same_whatever_the_partitioning(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    rows = [
        {
            "x": float(random.normal() * 10.0 ** random.integers(-5, 9)),
            "text": f"t{random.integers(40)}",
            "n": int(random.integers(9)),
        }
        for _ in range(500)
    ]
    rows += [{"x": None, "text": "😀", "n": None, "flag": True}, {"x": float("nan"), "text": "\\N"}]
    contract = tables.contract_of()
    expected = statistics_of(tables.batch_of(rows))
    frame = spark.createDataFrame([tuple(row.get(name) for name in tables.TYPES) for row in rows], struct_type(contract))
    for partitions in (1, 5):
        assert collect_statistics(frame.repartition(partitions), needs=NEEDS).to_json() == expected.to_json()
    monkeypatch.setattr(collect, "MAX_VALUES", 3)
    few = collect_statistics(frame.select("text"), needs=[Need(column="text", values=True)])["text"].values
    assert few == ValueCounts(expected["text"].values.counts[:3], complete=False)  # type: ignore[union-attr]
    nothing = collect_statistics(frame.limit(0), needs=NEEDS)
    assert nothing["x"] == statistics_of()["x"]


def test_spark_refuses_types_that_no_encoder_takes(spark: SparkSession) -> None:
    with pytest.raises(ContractError) as error:
        collect_statistics(spark.createDataFrame([(b"a",)], "data binary"), needs=[Need(column="data")])
    assert str(error.value) == (
        "features: expected a text, number, boolean, date or timestamp in column data; found a binary. "
        "Take the column out of features, or cast it."
    )
