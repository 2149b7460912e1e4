"""Windows: against a plain loop, every one kept or dropped by a rule, none across a split's border."""

from __future__ import annotations

import datetime
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from millrace.config.tokens import WindowsConfig
from millrace.errors import ContractError
from millrace.transforms.identity import python_row_id
from millrace.transforms.windows import GAP, MISSING, REPEATED, SHORT, STRADDLES, Series, first_broken, make_windows

CONFIG = WindowsConfig(time="t", inputs=("a", "b"), target="b", input_length=3, horizon=2, stride=2, every_seconds=60)
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

rows = st.tuples(st.sampled_from([0.0, 1.0, math.nan, math.inf]), st.sampled_from([0.0, math.nan]), st.booleans(), st.booleans())


@given(st.lists(rows, min_size=1, max_size=14), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
@settings(deadline=None)
def test_rules_against_a_plain_loop(found: list[tuple[float, float, bool, bool]], length: int, horizon: int, stride: int) -> None:
    config = CONFIG.model_copy(update={"input_length": length, "horizon": horizon, "stride": stride})
    a, b, regular, train = (np.array(column) for column in zip(*found, strict=True))
    series = Series([""] * len(a), np.stack([a, b], 1).astype(np.float32), b.astype(np.float32), regular, list(train))
    expected: list[str | None] = []
    for start in range(0, len(a) - length - horizon + 1, stride):
        end = start + length + horizon
        missing = not np.isfinite([*a[start : start + length], *b[start:end]]).all()
        rule = MISSING if missing else None
        rule = rule if regular[start + 1 : end].all() else GAP
        expected.append(rule if len({*train[start:end].tolist()}) == 1 else STRADDLES)
    assert first_broken(series, config) == expected


def minutes(spark: SparkSession, *, partitions: int = 1) -> list[dict[str, object]]:
    """Two series: x has a gap after its row 7, a missing value in row 12 and a border after row 17; y is too short."""
    found = [
        (
            f"x{n:02d}",
            "x",
            START + datetime.timedelta(minutes=n + (n > 7)),
            float(n),
            None if n == 12 else 10.0 * n,
            "train" if n <= 17 else "test",
            f"n{n // 10}",
        )
        for n in range(30)
    ]
    found += [(f"y{n}", "y", START, 0.0, 0.0, "train", "n0") for n in range(4)]
    schema = "row_id string, s string, t timestamp, a double, b double, split string, _night string"
    frame = spark.createDataFrame(found, schema).repartition(partitions)
    made = make_windows(frame, config=CONFIG.model_copy(update={"by": ("s",)}))
    assert made.schema.simpleString() == (
        "struct<row_id:string,inputs:binary,target:binary,s:string,t:timestamp,split:string,_night:string,"
        "_rule:string,_reason:string,_action:string>"
    )
    return sorted((row.asDict() for row in made.collect()), key=lambda row: (str(row["s"]), row["t"]))


def test_windows_of_a_series(spark: SparkSession) -> None:
    found = minutes(spark)
    assert found == minutes(spark, partitions=5)
    starts = range(0, 26, 2)
    windows = [row for row in found if row["s"] == "x"]
    rules = {4: GAP, 6: GAP, 8: MISSING, 10: MISSING, 12: MISSING, 14: STRADDLES, 16: STRADDLES}
    assert [row["_rule"] for row in windows] == [rules.get(start) for start in starts]
    for start, row in zip(starts, windows, strict=True):
        assert row["row_id"] == python_row_id([f"x{start:02d}", 3, 2])
        assert row["_night"] == f"n{(start + 4) // 10}"
        if row["_rule"]:
            assert (row["inputs"], row["target"], row["_action"]) == (None, None, "dropped")
            continue
        expected = [[n, 10 * n] for n in range(start, start + 3)]
        assert np.frombuffer(row["inputs"], "<f4").reshape(3, 2).tolist() == expected  # type: ignore[call-overload]
        assert np.frombuffer(row["target"], "<f4").tolist() == [10 * (start + 3), 10 * (start + 4)]  # type: ignore[call-overload]
        assert row["split"] == ("train" if start + 4 <= 17 else "test")
    (short,) = [row for row in found if row["s"] == "y"]
    assert (short["_rule"], short["_reason"]) == (SHORT, "the series has fewer rows than a window")


def test_repeated_and_unknown_times(spark: SparkSession) -> None:
    config = WindowsConfig(time="t", inputs=("a",), target="a", input_length=1, every_seconds=None)
    frame = spark.createDataFrame(
        [("1", None, 1.0), ("2", 5, 2.0), ("3", 5, 3.0), ("4", 9, 4.0)], "row_id string, t int, a double"
    )
    found = sorted(make_windows(frame, config=config).collect(), key=lambda row: str(row["t"]) + row["row_id"])
    assert Counter(row["_rule"] for row in found) == {REPEATED: 2, None: 1}
    kept = next(row for row in found if row["_rule"] is None)
    assert (kept["row_id"], kept["t"]) == (python_row_id(["3", 1, 1]), 9)


def test_a_time_that_is_none_is_refused(spark: SparkSession) -> None:
    frame = spark.createDataFrame([("1", "x", 1.0)], "row_id string, t string, a double")
    with pytest.raises(ContractError) as caught:
        make_windows(frame, config=WindowsConfig(time="t", inputs=("a",), target="a", input_length=1))
    assert str(caught.value) == (
        "windows: expected a time column of integers, dates or timestamps; found t of type string. Cast it in the contract."
    )


@pytest.mark.full
def test_beijing_is_counted(spark: SparkSession) -> None:
    """43,824 hours, 2,067 without the target: all windows, kept and dropped."""
    paths = sorted(Path(os.environ.get("MILLRACE_DATA", "../shared/data"), "beijing_pm25").glob("*.csv"))
    if not paths:
        pytest.skip("no beijing_pm25: set MILLRACE_DATA")
    frame = spark.read.csv(str(paths[0]), header=True, nullValue="NA").select(
        F.format_string("%08d", F.col("No").cast("int")).alias("row_id"),
        F.make_timestamp("year", "month", "day", "hour", F.lit(0), F.lit(0)).alias("t"),
        F.col("TEMP").cast("double").alias("a"),
        F.col("`pm2.5`").cast("double").alias("b"),
    )
    config = CONFIG.model_copy(update={"input_length": 24, "horizon": 1, "stride": 1, "every_seconds": 3600.0})
    counts = {row["_rule"]: row["count"] for row in make_windows(frame, config=config).groupBy("_rule").count().collect()}
    assert set(counts) == {None, MISSING}
    assert sum(counts.values()) == 43_824 - 24
    values = [row["b"] for row in frame.orderBy("t").collect()]
    assert counts[None] == sum(None not in values[start : start + 25] for start in range(43_824 - 24))
