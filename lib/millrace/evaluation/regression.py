"""Metrics of predicted numbers. NumPy only. All figures follow scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.errors import ContractError
from millrace.evaluation.intervals import mean_interval, median_interval
from millrace.evaluation.metrics import Metric, refuse_unpaired

Numbers = npt.NDArray[np.floating[Any]]
Interval = tuple[float, float] | None

_STAGE = "evaluate"


def regression_metrics(labels: Numbers, predicted: Numbers) -> list[Metric]:
    """rmse, mae, mse, r2 and median_absolute_error, with intervals of 95 % where there is more than one row.

    labels, predicted: (N,) in the label's unit, taken as float64. Intervals: of mae and mse the normal theory's for a mean; of
    rmse the roots of mse's; of the median the order statistics'. R squared has none (its distribution depends on that of the
    labels), and is left out for a single row, where it means nothing; of labels that are all equal it is 1 where every prediction
    is right, else 0. Raises ContractError where there is no row, the two differ in length, or a number is not finite.
    """
    labels, predicted = np.asarray(labels, np.float64), np.asarray(predicted, np.float64)
    _check(labels, predicted)
    errors = predicted - labels  # (N,)
    absolute, squared = np.abs(errors), errors**2
    mse, squares_interval = float(squared.mean()), mean_interval(squared, lowest=0.0)
    found = [
        ("rmse", math.sqrt(mse), _roots(squares_interval)),
        ("mae", float(absolute.mean()), mean_interval(absolute, lowest=0.0)),
        ("mse", mse, squares_interval),
    ]
    if len(labels) > 1:
        found.append(("r2", _r_squared(labels, squared), None))
    found.append(("median_absolute_error", float(np.median(absolute)), median_interval(absolute)))
    return [Metric(name=name, value=value, num_rows=len(labels), interval=interval) for name, value, interval in found]


def _r_squared(labels: Numbers, squared: Numbers) -> float:
    left, whole = float(squared.sum()), float(((labels - labels.mean()) ** 2).sum())
    if whole == 0.0:
        return 1.0 if left == 0.0 else 0.0
    return 1.0 - left / whole


def _roots(interval: Interval) -> Interval:
    return None if interval is None else (math.sqrt(interval[0]), math.sqrt(interval[1]))


def _check(labels: Numbers, predicted: Numbers) -> None:
    refuse_unpaired(labels, predicted)
    for name, values in (("label", labels), ("prediction", predicted)):
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values)))
            raise ContractError(
                _STAGE,
                expected=f"each {name} to be a finite number",
                found=f"{values[row]} at row {row}",
                remedy="Lower training.optimizer.learning_rate, or look for extreme values in the features and the label.",
            )
