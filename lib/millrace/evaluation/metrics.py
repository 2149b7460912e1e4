"""Classification metrics from counts. NumPy only.

K is the number of classes, N the number of rows. A confusion matrix has shape (K, K): rows are labels, columns are predictions.
All figures follow scikit-learn with `zero_division=0`: a ratio without rows to divide by is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.errors import ContractError

Indices = npt.NDArray[np.integer[Any]]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Scores = npt.NDArray[np.floating[Any]]

_STAGE = "evaluate"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure over some rows.

    `class_index` is None where it speaks of all classes; `average` is then how they were put together (None for accuracy and
    log_loss, which need no averaging). `num_hits` of `num_trials` is the proportion that the value is, where it is one;
    `interval` its bounds of 95 % where it is none and has some.
    """

    name: str
    value: float
    num_rows: int
    class_index: int | None = None
    average: str | None = None
    num_hits: int | None = None
    num_trials: int | None = None
    interval: tuple[float, float] | None = None


def confusion_counts(labels: Indices, predicted: Indices, *, num_classes: int) -> Counts:
    """How many rows have label i and prediction j: (K, K) int64.

    labels, predicted: (N,) class indices in [0, num_classes). Raises ContractError where there is no row, where the two differ
    in length, or where an index is not a class.
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    refuse_unpaired(labels, predicted)
    for name, values in (("label", labels), ("prediction", predicted)):
        _refuse_unknown_class(name, values, num_classes)
    cells = labels.astype(np.int64) * num_classes + predicted.astype(np.int64)
    return np.bincount(cells, minlength=num_classes * num_classes).reshape(num_classes, num_classes).astype(np.int64)


def classification_metrics(counts: Counts) -> list[Metric]:
    """Accuracy; precision, recall and F1 per class (in class order) and as macro, micro and weighted averages.

    counts: (K, K) from `confusion_counts`. The macro and weighted averages run over the classes that occur as a label or as a
    prediction, as scikit-learn's do when it is given no list of labels: a class that a slice lacks does not pull its mean down.
    Per class, `num_rows` is the number of rows with that label. Raises ContractError where there is no row.
    """
    num_rows = int(counts.sum())
    _refuse_empty(num_rows)
    hits = np.diag(counts)  # (K,)
    num_labelled = counts.sum(axis=1)  # (K,)
    num_predicted = counts.sum(axis=0)  # (K,)
    per_class = {
        "precision": _ratio(hits, num_predicted),
        "recall": _ratio(hits, num_labelled),
        "f1": _ratio(2 * hits, num_labelled + num_predicted),
    }
    num_hits = int(hits.sum())
    found = [Metric(name="accuracy", value=num_hits / num_rows, num_rows=num_rows, num_hits=num_hits, num_trials=num_rows)]
    for name, values in per_class.items():
        found.extend(_averages(name, values, num_labelled, num_predicted, num_hits))
    trials = {"precision": num_predicted, "recall": num_labelled}
    for index in range(len(hits)):
        for name, values in per_class.items():
            found.append(
                Metric(
                    name=name,
                    value=float(values[index]),
                    num_rows=int(num_labelled[index]),
                    class_index=index,
                    num_hits=int(hits[index]) if name in trials else None,
                    num_trials=int(trials[name][index]) if name in trials else None,
                )
            )
    return found


def log_loss(labels: Indices, scores: Scores) -> float:
    """Mean of -ln(score of the true class), in nats.

    labels: (N,) class indices; scores: (N, K) probabilities. They are taken as float64 and clipped to [eps, 1 - eps] of float64,
    as scikit-learn does with float64, so that a score of 0 costs 36 nats and not infinity. Raises ContractError where there is no
    row, a label is not a class, or a score is not a probability.
    """
    labels, probabilities = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 1 or probabilities.ndim != 2 or len(labels) != len(probabilities):
        raise ContractError(
            _STAGE,
            expected="scores of shape (rows, classes) and a label for each row",
            found=f"labels of shape {labels.shape} and scores of shape {probabilities.shape}",
            remedy="Give the whole output of the model for exactly the rows that carry the labels.",
        )
    _refuse_empty(labels.size)
    _refuse_unknown_class("label", labels, probabilities.shape[1])
    chosen = probabilities[np.arange(len(labels)), labels]
    # Written so that NaN is refused as well.
    if not bool(np.all((probabilities >= 0.0) & (probabilities <= 1.0))):
        raise ContractError(
            _STAGE,
            expected="scores between 0 and 1",
            found=f"a score of {_first_outside(probabilities):g}",
            remedy="Give the softmax of the logits; if it is NaN, lower training.optimizer.learning_rate.",
        )
    eps = float(np.finfo(np.float64).eps)
    return float(-np.log(np.clip(chosen, eps, 1.0 - eps)).mean())


def _averages(name: str, values: Floats, num_labelled: Counts, num_predicted: Counts, num_hits: int) -> list[Metric]:
    """Macro, micro and weighted average of a (K,) metric."""
    num_rows = int(num_labelled.sum())
    occurs = (num_labelled + num_predicted) > 0
    macro = float(values[occurs].mean())
    weighted = float((values * num_labelled).sum() / num_rows)
    # Each row has one label and one prediction, so micro precision, recall and F1 are all the accuracy.
    micro = num_hits / num_rows
    return [
        Metric(name=name, value=macro, num_rows=num_rows, average="macro"),
        Metric(name=name, value=micro, num_rows=num_rows, average="micro", num_hits=num_hits, num_trials=num_rows),
        Metric(name=name, value=weighted, num_rows=num_rows, average="weighted"),
    ]


def _ratio(numerator: Counts, denominator: Counts) -> Floats:
    """numerator / denominator, 0 where there is nothing to divide by."""
    empty = denominator == 0
    return np.where(empty, 0.0, numerator / np.where(empty, 1, denominator))


def refuse_unpaired(labels: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> None:
    """Raises ContractError unless there are rows, (N,) labels and (N,) predictions."""
    if labels.ndim != 1 or labels.shape != predicted.shape:
        raise ContractError(
            _STAGE,
            expected="one label and one prediction for each row",
            found=f"labels of shape {labels.shape} and predictions of shape {predicted.shape}",
            remedy="Predict for exactly the rows that carry the labels.",
        )
    _refuse_empty(labels.size)


def _refuse_empty(num_rows: int) -> None:
    if num_rows == 0:
        raise ContractError(
            _STAGE,
            expected="at least one row to evaluate",
            found="none",
            remedy="Give the split some rows: see split.fractions and split.test in the pipeline.",
        )


def _refuse_unknown_class(name: str, values: Indices, num_classes: int) -> None:
    outside = (values < 0) | (values >= num_classes)
    if bool(outside.any()):
        raise ContractError(
            _STAGE,
            expected=f"each {name} to be a class index from 0 to {num_classes - 1}",
            found=f"{int(values[outside][0])} at row {int(np.argmax(outside))}",
            remedy="Evaluate with the class list that the model was trained with.",
        )


def _first_outside(probabilities: Floats) -> float:
    inside = (probabilities >= 0.0) & (probabilities <= 1.0)
    return float(probabilities[~inside][0])
