"""Steps of `clean` that take figures from the train split, against NumPy on the same rows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from millrace.config.cleaning import CleanStep
from millrace.flows.cleaning import fit_cleaning
from millrace.transforms.fitted import apply_fitted

RNG = np.random.default_rng(11)
NUM_ROWS = 400
SPLITS = np.array(["train", "validation", "test"])[RNG.choice(3, NUM_ROWS, p=[0.6, 0.2, 0.2])]
SIZES = np.where(SPLITS == "train", RNG.normal(50, 4, NUM_ROWS), RNG.normal(80, 30, NUM_ROWS))
SIZES[::37] = np.nan
SIZES[5] = 1e6  # one far out
KINDS = np.array([None, "a", "b", "c"], dtype=object)[
    np.where(SPLITS == "train", RNG.choice(4, NUM_ROWS, p=[0.1, 0.2, 0.4, 0.3]), 3)
]
IS_REJECTED = RNG.random(NUM_ROWS) < 0.1
COUNTS = (SPLITS == "train") & ~IS_REJECTED
TRAIN = SIZES[COUNTS & ~np.isnan(SIZES)]


def done(spark: SparkSession, step: dict[str, Any]) -> tuple[list[Any], list[str | None]]:
    """size (or kind) and the rule of each row, in their order, after one step."""
    rows = [
        (
            number,
            None if np.isnan(SIZES[number]) else float(SIZES[number]),
            KINDS[number],
            str(SPLITS[number]),
            "broken" if IS_REJECTED[number] else None,
        )
        for number in range(NUM_ROWS)
    ]
    schema = "number int, size double, kind string, split string, _rule string"
    frame = (
        spark.createDataFrame(rows, schema).selectExpr("*", "CAST(NULL AS string) AS _reason", "_rule AS _action").repartition(3)
    )
    steps = [CleanStep.model_validate(step)]
    _, figures = fit_cleaning(frame, steps, None)
    found = sorted(apply_fitted(frame, steps[0], figures).collect(), key=lambda row: row["number"])
    column = "kind" if "kind" in str(step) else "size"
    return [row[column] for row in found], [row["_rule"] for row in found]


@pytest.mark.parametrize(("statistic", "expected"), [("mean", float(np.mean(TRAIN))), ("median", float(np.median(TRAIN)))])
def test_gaps_take_the_figure_of_the_train_rows(spark: SparkSession, statistic: str, expected: float) -> None:
    values, _ = done(spark, {"fillna": {"columns": ["size"], "statistic": statistic}})
    np.testing.assert_allclose(
        np.array(values, float)[~IS_REJECTED], np.where(np.isnan(SIZES), expected, SIZES)[~IS_REJECTED], rtol=1e-12
    )


def test_gaps_take_the_commonest_value_of_the_train_rows(spark: SparkSession) -> None:
    (mode, _), *_ = Counter(kind for kind in KINDS[COUNTS] if kind is not None).most_common(1)
    assert mode != Counter(kind for kind in KINDS if kind is not None).most_common(1)[0][0]
    values, _ = done(spark, {"fillna": {"columns": ["kind"], "statistic": "mode"}})
    assert np.array(values)[~IS_REJECTED].tolist() == [kind or mode for kind in KINDS[~IS_REJECTED]]


def test_winsorize(spark: SparkSession) -> None:
    low, high = np.quantile(TRAIN, [0.05, 0.9])
    values, _ = done(spark, {"winsorize": {"columns": ["size"], "low": 0.05, "high": 0.9}})
    np.testing.assert_allclose(np.array(values, float)[~IS_REJECTED], np.clip(SIZES, low, high)[~IS_REJECTED], rtol=1e-12)
    assert len(set(np.array(values, float)[~np.isnan(SIZES)])) > 100


QUARTILES = np.quantile(TRAIN, [0.25, 0.75])
SPREADS = {
    "iqr": (QUARTILES[0] - 2.5 * np.ptp(QUARTILES), QUARTILES[1] + 2.5 * np.ptp(QUARTILES)),
    "z": (np.mean(TRAIN) - 2.5 * np.std(TRAIN), np.mean(TRAIN) + 2.5 * np.std(TRAIN)),
}


@pytest.mark.parametrize("action", ["clip", "drop"])
@pytest.mark.parametrize("method", SPREADS)
def test_outliers(spark: SparkSession, method: str, action: str) -> None:
    low, high = SPREADS[method]
    sizes = SIZES.copy()
    outside = (sizes < low) | (sizes > high)
    assert 0 < outside[~IS_REJECTED].sum() < NUM_ROWS / 2
    options = {"columns": ["size"], "method": method, "limit": 2.5, "action": action}
    values, rules = done(spark, {"outliers": options})
    if action == "clip":
        expected = np.clip(SIZES, low, high)
        np.testing.assert_allclose(np.array(values, float)[~IS_REJECTED], expected[~IS_REJECTED], rtol=1e-12)
        assert Counter(rules) == {None: int((~IS_REJECTED).sum()), "broken": int(IS_REJECTED.sum())}
    else:
        assert [rule for rule, broken in zip(rules, IS_REJECTED, strict=True) if not broken] == [
            "outliers(size)" if out else None for out in outside[~IS_REJECTED]
        ]
