"""Metrics of numbers against scikit-learn's, and what their intervals mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from millrace.errors import ContractError
from millrace.evaluation.intervals import mean_interval, median_interval
from millrace.evaluation.regression import regression_metrics
from millrace.evaluation.tables import evaluation_table, number_predictions_table

NUMBERS = st.lists(st.tuples(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32)), min_size=2, max_size=50)


def close(value: float):
    return pytest.approx(value, rel=1e-9, abs=1e-9)


@given(NUMBERS)
def test_equal_to_scikit_learn(pairs):
    labels, predicted = np.array(pairs, np.float64).T
    found = {metric.name: metric.value for metric in regression_metrics(labels, predicted)}
    assert found == {
        "rmse": close(sk.root_mean_squared_error(labels, predicted)),
        "mae": close(sk.mean_absolute_error(labels, predicted)),
        "mse": close(sk.mean_squared_error(labels, predicted)),
        "r2": close(sk.r2_score(labels, predicted)),
        "median_absolute_error": close(sk.median_absolute_error(labels, predicted)),
    }


def test_equal_labels():
    right, wrong = (regression_metrics(np.full(3, 5.0), np.array(values)) for values in ([5.0] * 3, [5.0, 5.0, 6.0]))
    assert [next(metric.value for metric in found if metric.name == "r2") for found in (right, wrong)] == [1.0, 0.0]


def test_one_row_has_neither_r2_nor_intervals():
    found = regression_metrics(np.array([1.0]), np.array([3.0]))
    assert [(metric.name, metric.value, metric.interval) for metric in found] == [
        ("rmse", 2.0, None),
        ("mae", 2.0, None),
        ("mse", 4.0, None),
        ("median_absolute_error", 2.0, None),
    ]


def test_intervals_cover_what_they_are_of():
    """Of 400 samples of 200 rows about 95 % hold the true value; the errors' size is half normal."""
    random = np.random.default_rng(3)
    hits = dict.fromkeys(("rmse", "mae", "mse", "median_absolute_error"), 0)
    true = {"rmse": 2.0, "mae": 2.0 * (2 / np.pi) ** 0.5, "mse": 4.0, "median_absolute_error": 2.0 * 0.6744897501960817}
    for _ in range(400):
        for metric in regression_metrics(np.zeros(200), random.normal(0.0, 2.0, 200)):
            if metric.interval is not None:
                low, high = metric.interval
                assert low <= metric.value <= high
                hits[metric.name] += low <= true[metric.name] <= high
    assert all(0.92 <= count / 400 <= 0.98 for count in hits.values()), hits


def test_small_intervals():
    assert mean_interval(np.array([1.0])) is None
    assert mean_interval(np.array([0.0, 1.0]), lowest=0.0) == (0.0, pytest.approx(0.5 + 1.959963984540054 * 0.5))
    assert median_interval(np.arange(5.0)) is None
    assert median_interval(np.array([3.0, 1.0, 2.0, 6.0, 5.0, 4.0])) == (1.0, 6.0)


@pytest.mark.parametrize(
    ("labels", "predicted", "expected", "found"),
    [
        ([1.0], [1.0, 2.0], "one label and one prediction for each row", "labels of shape (1,) and predictions of shape (2,)"),
        ([], [], "at least one row to evaluate", "none"),
        ([1.0, np.nan], [1.0, 2.0], "each label to be a finite number", "nan at row 1"),
        ([1.0, 2.0], [np.inf, 2.0], "each prediction to be a finite number", "inf at row 0"),
    ],
)
def test_what_cannot_be_measured(labels, predicted, expected, found):
    with pytest.raises(ContractError) as caught:
        regression_metrics(np.array(labels), np.array(predicted))
    assert (caught.value.expected, caught.value.found) == (expected, found)


def test_rows_of_the_tables():
    labels, scores = np.array([1.5, 0.1]), np.array([[1.25], [0.1]], np.float32)
    rows = evaluation_table(
        regression_metrics(labels, scores[:, 0]), classes=(), model_version=1, dataset_version=2, artifact="h5", split="test"
    ).to_pylist()
    assert [(row["metric"], row["label"], row["average"], row["num_rows"]) for row in rows] == [
        (name, None, None, 2) for name in ("rmse", "mae", "mse", "r2", "median_absolute_error")
    ]
    assert [row["metric"] for row in rows if row["ci_low"] is not None] == ["rmse", "mae", "mse"]
    predicted = number_predictions_table(["a", "b"], labels, scores, run_id="r", model_version=1, split="test").to_pylist()
    assert [(row["label"], row["predicted"], row["scores"]) for row in predicted] == [
        ("1.5", "1.25", [1.25]),
        ("0.1", "0.10000000149011612", [float(np.float32(0.1))]),  # the float32 that it is
    ]
    with pytest.raises(ContractError, match=r"expected scores of shape \(2, 1\); found shape \(2, 2\)"):
        number_predictions_table(["a", "b"], labels, np.ones((2, 2)), run_id="r", model_version=1, split="test")
