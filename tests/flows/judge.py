"""What a published run has to satisfy: its metrics against scikit-learn's, its exports against its predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from millrace.exporting.formats import FORMATS, load_predictor
from millrace.lake import log


def rows_of_run(lake: Path, table: str, run_id: str) -> pa.Table:
    """A run's rows of a small table at its newest version."""
    return log.read_rows(str(lake / table)).filter(pc.field("run_id") == run_id)


def metrics_equal_scikit_learn(lake: Path, pipeline: str, run_id: str) -> None:
    """Accuracy, and precision, recall and F1 (macro, per class) of every export, to 1e-9."""
    predictions = rows_of_run(lake, f"predictions/{pipeline}", run_id)
    labels, predicted = predictions.column("label").to_pylist(), predictions.column("predicted").to_pylist()
    classes = sorted(set(labels))
    macro = precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)
    each = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    for artifact in FORMATS:
        rows = rows_of_run(lake, "metrics/evaluation", run_id).filter(pc.field("artifact") == artifact).to_pylist()
        found = {(row["metric"], row["average"], row["label"]): row["value"] for row in rows}
        assert found["accuracy", None, None] == pytest.approx(accuracy_score(labels, predicted), abs=1e-9)
        for number, metric in enumerate(("precision", "recall", "f1")):
            assert found[metric, "macro", None] == pytest.approx(macro[number], abs=1e-9)
            assert [found[metric, None, name] for name in classes] == pytest.approx(list(each[number]), abs=1e-9)


def exports_agree_with_the_predictions(lake: Path, pipeline: str, run_id: str, *, shape: tuple[int, ...]) -> None:
    """Every export, read back from the registry's address, gives each test row the scores that the table has, to 1e-5."""
    gold = log.read_rows(str(lake / "gold" / pipeline), columns=["row_id", "split", "image"]).filter(pc.field("split") == "test")
    images = dict(zip(gold.column("row_id").to_pylist(), gold.column("image").to_pylist(), strict=True))
    predictions: list[dict[str, Any]] = rows_of_run(lake, f"predictions/{pipeline}", run_id).to_pylist()
    assert {row["row_id"] for row in predictions} == images.keys()
    batch = np.stack([np.frombuffer(images[row["row_id"]], np.uint8).reshape(shape) for row in predictions])
    scores = np.array([row["scores"] for row in predictions], np.float32)
    (model,) = rows_of_run(lake, "registry/models", run_id).to_pylist()
    for name, chosen in FORMATS.items():
        predict = load_predictor(Path(model["artifact"], chosen.file_name), name)
        np.testing.assert_allclose(predict(batch), scores, atol=1e-5, rtol=0)
