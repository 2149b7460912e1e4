"""The rows of metrics/evaluation, metrics/confusion and predictions, as Arrow tables.

The schemas are those of the contracts without the columns that the flow adds: `pipeline`, `_night` and, in metrics/, `run_id`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace.errors import ContractError
from millrace.evaluation.intervals import wilson_interval
from millrace.evaluation.metrics import Counts, Indices, Metric, Scores

_STAGE = "evaluate"

EVALUATION_SCHEMA = pa.schema(
    [
        pa.field("model_version", pa.int32(), nullable=False),
        pa.field("dataset_version", pa.int64(), nullable=False),
        pa.field("artifact", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("slice", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("average", pa.string()),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("ci_low", pa.float64()),
        pa.field("ci_high", pa.float64()),
        pa.field("num_rows", pa.int64(), nullable=False),
    ]
)

CONFUSION_SCHEMA = pa.schema(
    [
        pa.field("model_version", pa.int32(), nullable=False),
        pa.field("artifact", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("predicted", pa.string(), nullable=False),
        pa.field("num_rows", pa.int64(), nullable=False),
    ]
)

PREDICTIONS_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("model_version", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("predicted", pa.string(), nullable=False),
        pa.field("scores", pa.list_(pa.float32()), nullable=False),
    ]
)


def evaluation_table(
    metrics: Sequence[Metric],
    *,
    classes: Sequence[str],
    model_version: int,
    dataset_version: int,
    artifact: str,
    split: str,
    slice_name: str = "all",
) -> pa.Table:
    """One row per metric of an artifact on a split and slice (EVALUATION_SCHEMA).

    classes: the K class names in the model's order. `label` is NULL where the metric speaks of all classes. ci_low and ci_high
    are Wilson's 95 % bounds where the value is a proportion of rows (accuracy; precision and recall per class; micro averages),
    else the metric's own bounds, NULL where it has none. Of a number's model, `classes` are none.
    """
    intervals = [_interval(metric) for metric in metrics]
    num_metrics = len(metrics)
    columns = {
        "model_version": [model_version] * num_metrics,
        "dataset_version": [dataset_version] * num_metrics,
        "artifact": [artifact] * num_metrics,
        "split": [split] * num_metrics,
        "slice": [slice_name] * num_metrics,
        "label": [None if metric.class_index is None else classes[metric.class_index] for metric in metrics],
        "average": [metric.average for metric in metrics],
        "metric": [metric.name for metric in metrics],
        "value": [metric.value for metric in metrics],
        "ci_low": [low for low, _ in intervals],
        "ci_high": [high for _, high in intervals],
        "num_rows": [metric.num_rows for metric in metrics],
    }
    return pa.table(columns, schema=EVALUATION_SCHEMA)


def confusion_table(counts: Counts, *, classes: Sequence[str], model_version: int, artifact: str, split: str) -> pa.Table:
    """One row per pair of label and prediction, all K * K of them, zeros included (CONFUSION_SCHEMA).

    counts: (K, K) from `confusion_counts`; classes: the K class names in the model's order. num_rows adds up to the split's rows.
    """
    num_classes = len(classes)
    _refuse_other_width("a confusion matrix", counts.shape, (num_classes, num_classes))
    names = np.asarray(classes, dtype=object)
    num_cells = num_classes * num_classes
    columns = {
        "model_version": [model_version] * num_cells,
        "artifact": [artifact] * num_cells,
        "split": [split] * num_cells,
        "label": np.repeat(names, num_classes),
        "predicted": np.tile(names, num_classes),
        "num_rows": counts.reshape(-1),
    }
    return pa.table(columns, schema=CONFUSION_SCHEMA)


def predictions_table(
    row_ids: Sequence[str] | npt.NDArray[np.object_] | pa.Array,
    labels: Indices,
    scores: Scores,
    *,
    classes: Sequence[str],
    run_id: str,
    model_version: int,
    split: str,
) -> pa.Table:
    """One row per row of the split (PREDICTIONS_SCHEMA).

    row_ids: N identifiers; labels: (N,) class indices; scores: (N, K) probabilities, stored as float32. `predicted` is the class
    with the highest score, of equals the first, and the same as `predicted_indices` gives. Raises ContractError where shapes do
    not fit together. The text columns take memory: give a long split in parts.
    """
    num_rows, num_classes = len(row_ids), len(classes)
    _refuse_other_width("scores", scores.shape, (num_rows, num_classes))
    _refuse_other_width("labels", labels.shape, (num_rows,))
    names = pa.array(list(classes), pa.string())
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(scores, dtype=np.float32).reshape(-1)), num_classes)
    columns = {
        "row_id": pa.array(row_ids, pa.string()) if not isinstance(row_ids, pa.Array) else row_ids.cast(pa.string()),
        "run_id": pa.repeat(run_id, num_rows),
        "model_version": pa.repeat(pa.scalar(model_version, pa.int32()), num_rows),
        "split": pa.repeat(split, num_rows),
        "label": names.take(pa.array(labels)),
        "predicted": names.take(pa.array(predicted_indices(scores))),
        "scores": fixed.cast(PREDICTIONS_SCHEMA.field("scores").type),
    }
    return pa.table(columns, schema=PREDICTIONS_SCHEMA)


def number_predictions_table(
    row_ids: Sequence[str] | npt.NDArray[np.object_] | pa.Array,
    labels: npt.NDArray[Any],
    scores: Scores,
    *,
    run_id: str,
    model_version: int,
    split: str,
) -> pa.Table:
    """One row per row of the split (PREDICTIONS_SCHEMA), of a model that predicts numbers.

    row_ids: N identifiers; labels: (N,) numbers; scores: (N, 1) predicted numbers, stored as float32. `label` and `predicted` are
    the shortest texts that give the same double again. Raises ContractError where shapes do not fit together.
    """
    num_rows = len(row_ids)
    _refuse_other_width("scores", scores.shape, (num_rows, 1))
    _refuse_other_width("labels", labels.shape, (num_rows,))
    values = np.ascontiguousarray(scores, dtype=np.float32).reshape(-1)
    columns = {
        "row_id": pa.array(row_ids, pa.string()) if not isinstance(row_ids, pa.Array) else row_ids.cast(pa.string()),
        "run_id": pa.repeat(run_id, num_rows),
        "model_version": pa.repeat(pa.scalar(model_version, pa.int32()), num_rows),
        "split": pa.repeat(split, num_rows),
        "label": pa.array([repr(value) for value in labels.astype(np.float64).tolist()], pa.string()),
        "predicted": pa.array([repr(value) for value in values.astype(np.float64).tolist()], pa.string()),
        "scores": pa.FixedSizeListArray.from_arrays(pa.array(values), 1).cast(PREDICTIONS_SCHEMA.field("scores").type),
    }
    return pa.table(columns, schema=PREDICTIONS_SCHEMA)


def predicted_indices(scores: Scores) -> npt.NDArray[np.int64]:
    """The class with the highest float32 score, of equals the first: (N, K) -> (N,) int64."""
    best: npt.NDArray[np.int64] = np.argmax(np.asarray(scores, dtype=np.float32), axis=1).astype(np.int64)
    return best


def _interval(metric: Metric) -> tuple[float | None, float | None]:
    if metric.num_hits is None or metric.num_trials is None:
        return metric.interval or (None, None)
    return wilson_interval(metric.num_hits, metric.num_trials) or (None, None)


def _refuse_other_width(what: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise ContractError(
            _STAGE,
            expected=f"{what} of shape {expected}",
            found=f"shape {found}",
            remedy="Use the rows and the class list that the model was evaluated with.",
        )
