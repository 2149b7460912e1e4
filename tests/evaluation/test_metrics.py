"""Metrics against scikit-learn, over generated cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from millrace.errors import ContractError
from millrace.evaluation.metrics import classification_metrics, confusion_counts, log_loss


@st.composite
def outcomes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """labels (N,), predicted (N,), K: with classes that occur in neither, one class only, one row only."""
    num_classes = draw(st.integers(1, 7))
    num_rows = draw(st.integers(1, 60))
    used = st.sampled_from(draw(st.lists(st.integers(0, num_classes - 1), min_size=1, max_size=num_classes)))
    rows = draw(st.lists(st.tuples(used, used), min_size=num_rows, max_size=num_rows))
    pairs = np.array(rows)
    return pairs[:, 0], pairs[:, 1], num_classes


def _figures(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> dict[tuple[str, str | None, int | None], float]:
    found = classification_metrics(confusion_counts(labels, predicted, num_classes=num_classes))
    return {(metric.name, metric.average, metric.class_index): metric.value for metric in found}


@given(outcomes())
def test_every_figure_equals_scikit_learn(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    labels, predicted, num_classes = case
    expected = {("accuracy", None, None): sk.accuracy_score(labels, predicted)}
    for average in ("macro", "micro", "weighted"):
        values = sk.precision_recall_fscore_support(labels, predicted, average=average, zero_division=0)
        expected |= {(name, average, None): value for name, value in zip(("precision", "recall", "f1"), values[:3], strict=True)}
    classes = range(num_classes)
    values = sk.precision_recall_fscore_support(labels, predicted, labels=classes, average=None, zero_division=0)
    for name, per_class in zip(("precision", "recall", "f1"), values[:3], strict=True):
        expected |= {(name, None, index): per_class[index] for index in classes}

    found = _figures(labels, predicted, num_classes)

    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.filterwarnings("ignore:A single label was found in 'y_true' and 'y_pred':UserWarning")
@given(outcomes())
def test_counts_equal_scikit_learn_and_hold_every_row(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    labels, predicted, num_classes = case
    counts = confusion_counts(labels, predicted, num_classes=num_classes)
    np.testing.assert_array_equal(counts, sk.confusion_matrix(labels, predicted, labels=range(num_classes)))
    assert counts.sum() == len(labels)
    assert counts.dtype == np.int64


@given(outcomes())
def test_proportions_are_their_hits_over_their_trials(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    for metric in classification_metrics(confusion_counts(case[0], case[1], num_classes=case[2])):
        if metric.num_trials:
            assert metric.value == pytest.approx(metric.num_hits / metric.num_trials, abs=1e-12)


@given(
    st.integers(2, 6).flatmap(
        lambda k: st.lists(
            st.tuples(st.integers(0, k - 1), st.lists(st.floats(0.0, 1.0), min_size=k, max_size=k).filter(any)),
            min_size=1,
            max_size=30,
        )
    )
)
def test_log_loss_equals_scikit_learn(rows: list[tuple[int, list[float]]]) -> None:
    labels = np.array([label for label, _ in rows])
    weights = np.array([row for _, row in rows])
    scores = weights / weights.max(axis=1, keepdims=True)  # so that tiny weights do not divide to NaN
    scores /= scores.sum(axis=1, keepdims=True)
    expected = sk.log_loss(labels, y_proba=scores, labels=range(scores.shape[1]))
    assert log_loss(labels, scores) == pytest.approx(expected, rel=0, abs=1e-9)


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    assert log_loss(np.array([1]), np.array([[1.0, 0.0]], np.float32)) == pytest.approx(36.04, abs=0.01)


def test_narrow_label_types_do_not_overflow() -> None:
    labels = np.array([199, 199, 0], np.uint8)
    counts = confusion_counts(labels, labels, num_classes=200)
    assert (counts[199, 199], counts[0, 0], counts.sum()) == (2, 1, 3)


EMPTY = np.array([], np.int64)
NO_ROWS = (
    "evaluate: expected at least one row to evaluate; found none. "
    "Give the split some rows: see split.fractions and split.test in the pipeline."
)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ContractError) as of_counts:
        confusion_counts(EMPTY, EMPTY, num_classes=3)
    with pytest.raises(ContractError) as of_metrics:
        classification_metrics(np.zeros((3, 3), np.int64))
    with pytest.raises(ContractError) as of_loss:
        log_loss(EMPTY, np.zeros((0, 3)))
    assert {str(of_counts.value), str(of_metrics.value), str(of_loss.value)} == {NO_ROWS}


@pytest.mark.parametrize(
    ("labels", "predicted", "message"),
    [
        (
            [0, 3, 1],
            [0, 0, 0],
            "evaluate: expected each label to be a class index from 0 to 2; found 3 at row 1. "
            "Evaluate with the class list that the model was trained with.",
        ),
        (
            [0, 1],
            [0, -1],
            "evaluate: expected each prediction to be a class index from 0 to 2; found -1 at row 1. "
            "Evaluate with the class list that the model was trained with.",
        ),
        (
            [0, 1],
            [0],
            "evaluate: expected one label and one prediction for each row; "
            "found labels of shape (2,) and predictions of shape (1,). "
            "Predict for exactly the rows that carry the labels.",
        ),
    ],
)
def test_indices_that_are_no_classes_are_refused(labels: list[int], predicted: list[int], message: str) -> None:
    with pytest.raises(ContractError) as error:
        confusion_counts(np.array(labels), np.array(predicted), num_classes=3)
    assert str(error.value) == message


@pytest.mark.parametrize(("score", "shown"), [(np.nan, "nan"), (1.5, "1.5"), (-0.25, "-0.25")])
def test_scores_that_are_no_probabilities_are_refused(score: float, shown: str) -> None:
    with pytest.raises(ContractError) as error:
        log_loss(np.array([0]), np.array([[0.5, score]]))
    assert str(error.value) == (
        f"evaluate: expected scores between 0 and 1; found a score of {shown}. "
        "Give the softmax of the logits; if it is NaN, lower training.optimizer.learning_rate."
    )


def test_scores_of_other_rows_are_refused() -> None:
    with pytest.raises(ContractError) as error:
        log_loss(np.array([0, 1]), np.array([[0.5, 0.5]]))
    assert str(error.value) == (
        "evaluate: expected scores of shape (rows, classes) and a label for each row; "
        "found labels of shape (2,) and scores of shape (1, 2). "
        "Give the whole output of the model for exactly the rows that carry the labels."
    )
