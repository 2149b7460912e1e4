"""Each export, read back from its file, over the test split: metrics, confusion, predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace import observe
from millrace.errors import QualityError
from millrace.evaluation.metrics import Metric, classification_metrics, confusion_counts, log_loss
from millrace.evaluation.tables import confusion_table, evaluation_table, predicted_indices, predictions_table
from millrace.flows import train
from millrace.flows.context import Context
from millrace.lake import artifacts, small
from millrace.lake.layout import CONFUSION, EVALUATION, predictions
from millrace.lake.ledger import Attempt, TableVersion
from millrace.loading.columns import ColumnSpec
from millrace.loading.reader import read_in_order
from millrace.transforms.encode import LABEL

SPLIT = "test"
_BATCH_ROWS = 1024


@dataclass(frozen=True)
class Evaluated:
    """The test split as one export sees it: N rows, K classes."""

    row_ids: npt.NDArray[np.object_]  # (N,)
    labels: npt.NDArray[np.int64]  # (N,)
    scores: npt.NDArray[np.float32]  # (N, K)
    counts: npt.NDArray[np.int64]  # (K, K)
    metrics: tuple[Metric, ...]

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.labels)

    def headline(self) -> dict[str, float]:
        """The few figures that the registry shows."""
        return {
            metric.name if metric.average is None else f"{metric.name}_{metric.average}": metric.value
            for metric in self.metrics
            if metric.class_index is None and metric.average in (None, "macro")
        }


def evaluate(
    context: Context, gold_version: int, exports: Mapping[str, Path], *, classes: tuple[str, ...]
) -> dict[str, Evaluated]:
    """Runs every export over the test split. Raises QualityError where that has no rows."""
    from millrace.exporting.formats import load_predictor

    index = train.index_of(context, gold_version, SPLIT)
    if not index.num_rows:
        remedy = "Look at split.fractions and split.test."
        raise QualityError("publish", expected="rows of the test split", found="none", remedy=remedy)
    feature = train.feature_spec(context)
    columns = (feature, ColumnSpec(name=LABEL, dtype="int32"), ColumnSpec(name="row_id", dtype="string"))
    predictors = {name: load_predictor(path, name) for name, path in exports.items()}
    row_ids, labels = [], []
    scores: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in predictors}
    for batch in read_in_order(index, columns, _BATCH_ROWS):
        row_ids.append(batch.columns["row_id"])
        labels.append(batch.columns[LABEL])
        for name, predict in predictors.items():
            scores[name].append(predict(batch.columns[feature.name]))
    every_row, every_label = np.concatenate(row_ids), np.concatenate(labels).astype(np.int64)
    return {name: _evaluated(every_row, every_label, np.concatenate(parts), len(classes)) for name, parts in scores.items()}


def _evaluated(
    row_ids: npt.NDArray[Any], labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float32], num_classes: int
) -> Evaluated:
    counts = confusion_counts(labels, predicted_indices(scores), num_classes=num_classes)
    loss = Metric(name="log_loss", value=log_loss(labels, scores), num_rows=len(labels))
    return Evaluated(row_ids, labels, scores, counts, (*classification_metrics(counts), loss))


def write_evaluation(
    attempt: Attempt, evaluated: Mapping[str, Evaluated], *, classes: tuple[str, ...], model_version: int, dataset_version: int
) -> list[TableVersion]:
    """metrics/evaluation and metrics/confusion of every export, predictions of the first."""
    metrics, confusions = [], []
    for artifact, found in evaluated.items():
        metrics.append(
            evaluation_table(
                found.metrics,
                classes=classes,
                model_version=model_version,
                dataset_version=dataset_version,
                artifact=artifact,
                split=SPLIT,
            )
        )
        confusions.append(
            confusion_table(found.counts, classes=classes, model_version=model_version, artifact=artifact, split=SPLIT)
        )
    first = next(iter(evaluated.values()))
    predicted = predictions_table(
        first.row_ids,
        first.labels,
        first.scores,
        classes=classes,
        run_id=attempt.run.run_id,
        model_version=model_version,
        split=SPLIT,
    )
    return [
        _replace(attempt, EVALUATION, pa.concat_tables(metrics)),
        _replace(attempt, CONFUSION, pa.concat_tables(confusions)),
        _replace(attempt, predictions(attempt.run.pipeline), predicted),
    ]


def draw_confusion(attempt: Attempt, evaluated: Evaluated, classes: tuple[str, ...]) -> None:
    """The confusion matrix as a picture among the run's artifacts."""
    from millrace.evaluation.plots import confusion_figure, png_bytes

    with observe.timed("publish/plots"):
        picture = png_bytes(confusion_figure(evaluated.counts, classes=classes, title=attempt.run.run_id))
        address = attempt.lake.artifacts(attempt.run.pipeline, attempt.run.run_id, "plots", "confusion.png")
        artifacts.write_bytes(address, picture)


def _replace(attempt: Attempt, table: str, rows: pa.Table) -> TableVersion:
    constants = {"pipeline": attempt.run.pipeline, "run_id": attempt.run.run_id, "_night": attempt.run.night}
    for name, value in constants.items():
        if name not in rows.column_names:
            rows = rows.append_column(name, pa.array([value] * rows.num_rows, pa.string()))
    version = small.replace(attempt.lake, table, rows, where={"run_id": attempt.run.run_id}, metadata=attempt.mark)
    return TableVersion(table, version)
