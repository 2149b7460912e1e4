"""Each export, read back from its file, over the test split: metrics, confusion, predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyspark.sql import functions as F

from millrace import observe
from millrace.contracts.cutting import texts_of
from millrace.errors import QualityError
from millrace.evaluation.metrics import Metric, classification_metrics, confusion_counts, log_loss
from millrace.evaluation.regression import regression_metrics
from millrace.evaluation.tables import (
    confusion_table,
    evaluation_table,
    number_predictions_table,
    predicted_indices,
    predictions_table,
)
from millrace.exporting.predictor import Inputs
from millrace.fit.state import FittedState
from millrace.flows import train
from millrace.flows.context import Context
from millrace.flows.raw_again import raw_rows_of_gold
from millrace.flows.scope import entry_of_gold
from millrace.lake import artifacts, log, small
from millrace.lake.layout import CONFUSION, EVALUATION, predictions, silver
from millrace.lake.ledger import Attempt, Ledger, TableVersion
from millrace.lake.read import read_version
from millrace.loading.columns import ColumnSpec
from millrace.loading.reader import read_in_order
from millrace.transforms.encode import LABEL
from millrace.transforms.encoding import graph_inputs

SPLIT = "test"
_BATCH_ROWS = 1024


@dataclass(frozen=True)
class TestRows:
    """Some rows of the test split, B of them, as exports take them."""

    __test__ = False  # to pytest it looks like a class of tests

    row_ids: npt.NDArray[np.object_]  # (B,)
    labels: npt.NDArray[Any]  # (B,) indices of classes, or numbers
    inputs: Inputs
    """One raw column (B, *shape), or several by their names."""


@dataclass(frozen=True)
class Evaluated:
    """The test split as one export sees it: N rows, K classes, or 1 number."""

    row_ids: npt.NDArray[np.object_]  # (N,)
    labels: npt.NDArray[Any]  # (N,) int64 indices, or float64 numbers
    scores: npt.NDArray[np.float32]  # (N, K)
    counts: npt.NDArray[np.int64] | None  # (K, K); None where a number is predicted
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


@dataclass(frozen=True)
class TestSplit:
    """The test split of a version of gold, as the exports take it: gold's images, or raw columns of silver or the raw files."""

    __test__ = False

    context: Context
    gold_version: int
    fitted: FittedState

    def __iter__(self) -> Iterator[TestRows]:
        """In the order of gold. Raises QualityError where the split has no rows."""
        if self.fitted.features is None and not self.context.config.token_features:
            spec = train.feature_spec(self.context, self.fitted)
            return (TestRows(row_ids, labels, columns[spec.name]) for row_ids, labels, columns in self._gold([spec]))
        return self._raw()

    def probe(self, num_rows: int = 8) -> Inputs:
        """The inputs of the first rows, to compare an export with the model on."""
        first = next(iter(self)).inputs
        if isinstance(first, Mapping):
            return {name: values[:num_rows] for name, values in first.items()}
        return first[:num_rows]

    def _gold(self, specs: Sequence[ColumnSpec]) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any], Mapping[str, Any]]]:
        index = train.index_of(self.context, self.gold_version, SPLIT)
        if not index.num_rows:
            remedy = "Look at split.fractions and split.test."
            raise QualityError("publish", expected="rows of the test split", found="none", remedy=remedy)
        label = ColumnSpec(name=LABEL, dtype="float32" if train.predicts_number(self.context) else "int32")
        columns = (*specs, label, ColumnSpec(name="row_id", dtype="string"))
        for batch in read_in_order(index, columns, _BATCH_ROWS):
            yield batch.columns["row_id"], batch.columns[LABEL], batch.columns

    def _raw(self) -> Iterator[TestRows]:
        row_ids = self._silver.column("row_id").combine_chunks()
        for found, labels, _ in self._gold([]):
            places = pc.index_in(pa.array(found, pa.string()), value_set=row_ids)
            assert places.null_count == 0, "gold has a row that it was not made of"
            (rows,) = self._silver.take(places).combine_chunks().to_batches()
            yield TestRows(found, labels, self._inputs(rows))

    def _inputs(self, rows: pa.RecordBatch) -> Inputs:
        """What the features and the tokenizers take of some rows of silver."""
        texts = [feature.column for feature in self.context.config.token_features]
        inputs = {name: np.array(texts_of(rows.column(name)), dtype=object) for name in texts}
        return inputs if self.fitted.features is None else {**inputs, **graph_inputs(rows, self.fitted.features)}

    @cached_property
    def _silver(self) -> pa.Table:
        """The test rows that gold was made of, in silver or the raw files: row_id and what the model takes. Read once."""
        name = silver(self.context.config.name)
        taken = [] if self.fitted.features is None else [column.name for column in self.fitted.features.inputs]
        wanted = list(dict.fromkeys(["row_id", *taken, *[feature.column for feature in self.context.config.token_features]]))
        entry = entry_of_gold(self.context, Ledger.read(self.context.lake), self.gold_version)
        if self.context.config.only_gold:
            return raw_rows_of_gold(self.context, entry, self.gold_version, self.fitted, split=SPLIT, columns=wanted)
        version = entry.output(name)
        assert version is not None
        if self.context.contract.upsert:  # deletion vectors are for Spark alone
            rows = read_version(self.context.spark(), self.context.lake, name, version)
            return rows.filter(F.col("split") == SPLIT).select(*wanted).toArrow()
        dataset = log.open_table(self.context.lake.path(name), version).to_pyarrow_dataset()
        return dataset.to_table(columns=wanted, filter=ds.field("split") == SPLIT)


def evaluate(rows: Iterable[TestRows], exports: Mapping[str, Path], *, classes: Sequence[str] | None) -> dict[str, Evaluated]:
    """Runs every export over the rows. Without `classes` the model predicts a number."""
    from millrace.exporting.formats import load_predictor

    predictors = {name: load_predictor(path, name) for name, path in exports.items()}
    row_ids, labels = [], []
    scores: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in predictors}
    for batch in rows:
        row_ids.append(batch.row_ids)
        labels.append(batch.labels)
        for name, predict in predictors.items():
            scores[name].append(predict(batch.inputs))
    every_row, every_label = np.concatenate(row_ids), np.concatenate(labels)
    return {name: _evaluated(every_row, every_label, np.concatenate(parts), classes) for name, parts in scores.items()}


def _evaluated(
    row_ids: npt.NDArray[Any], labels: npt.NDArray[Any], scores: npt.NDArray[np.float32], classes: Sequence[str] | None
) -> Evaluated:
    if classes is None:
        numbers = labels.astype(np.float64)
        return Evaluated(row_ids, numbers, scores, None, tuple(regression_metrics(numbers, scores[:, 0])))
    indices = labels.astype(np.int64)
    counts = confusion_counts(indices, predicted_indices(scores), num_classes=len(classes))
    loss = Metric(name="log_loss", value=log_loss(indices, scores), num_rows=len(indices))
    return Evaluated(row_ids, indices, scores, counts, (*classification_metrics(counts), loss))


def write_evaluation(
    attempt: Attempt,
    evaluated: Mapping[str, Evaluated],
    *,
    classes: Sequence[str] | None,
    model_version: int,
    dataset_version: int,
) -> list[TableVersion]:
    """metrics/evaluation and, of classes, metrics/confusion of every export; predictions of the first."""
    metrics, confusions = [], []
    for artifact, found in evaluated.items():
        metrics.append(
            evaluation_table(
                found.metrics,
                classes=classes or (),
                model_version=model_version,
                dataset_version=dataset_version,
                artifact=artifact,
                split=SPLIT,
            )
        )
        if classes is not None and found.counts is not None:
            confusions.append(
                confusion_table(found.counts, classes=classes, model_version=model_version, artifact=artifact, split=SPLIT)
            )
    first = next(iter(evaluated.values()))
    written = [_replace(attempt, EVALUATION, pa.concat_tables(metrics))]
    if confusions:
        written.append(_replace(attempt, CONFUSION, pa.concat_tables(confusions)))
    predicted = _predictions(first, classes, run_id=attempt.run.run_id, model_version=model_version)
    return [*written, _replace(attempt, predictions(attempt.run.pipeline), predicted)]


def _predictions(found: Evaluated, classes: Sequence[str] | None, *, run_id: str, model_version: int) -> pa.Table:
    if classes is None:
        return number_predictions_table(
            found.row_ids, found.labels, found.scores, run_id=run_id, model_version=model_version, split=SPLIT
        )
    return predictions_table(
        found.row_ids, found.labels, found.scores, classes=classes, run_id=run_id, model_version=model_version, split=SPLIT
    )


def draw_confusion(attempt: Attempt, evaluated: Evaluated, classes: Sequence[str]) -> None:
    """The confusion matrix as a picture among the run's artifacts."""
    from millrace.evaluation.plots import confusion_figure, png_bytes

    assert evaluated.counts is not None, "numbers have no confusion"
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
