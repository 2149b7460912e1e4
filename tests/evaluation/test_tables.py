"""The metric tables: exact rows and schemas, and agreement between the three."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as sk

from millrace.config.places import Places
from millrace.contracts.table import load_contract
from millrace.errors import ContractError
from millrace.evaluation.metrics import Metric, classification_metrics, confusion_counts, log_loss
from millrace.evaluation.tables import (
    CONFUSION_SCHEMA,
    EVALUATION_SCHEMA,
    PREDICTIONS_SCHEMA,
    confusion_table,
    evaluation_table,
    predicted_indices,
    predictions_table,
)

CLASSES = ["cat", "dog", "emu"]
LABELS = np.array([0, 0, 1, 1])
SCORES = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.6, 0.3], [0.4, 0.4, 0.2]], np.float32)


def _counts() -> np.ndarray:
    return confusion_counts(LABELS, predicted_indices(SCORES), num_classes=3)


def test_evaluation_rows() -> None:
    metrics = [
        *classification_metrics(_counts()),
        Metric(name="log_loss", value=log_loss(LABELS, SCORES), num_rows=4),
    ]
    table = evaluation_table(metrics, classes=CLASSES, model_version=3, dataset_version=7, artifact="h5", split="test")
    assert table.schema == EVALUATION_SCHEMA
    rows = table.to_pylist()
    # accuracy, 3 averages of 3 metrics, 3 metrics of 3 classes, log_loss
    assert len(rows) == 1 + 9 + 9 + 1
    assert len({(row["label"], row["average"], row["metric"]) for row in rows}) == len(rows)
    same = {"model_version": 3, "dataset_version": 7, "artifact": "h5", "split": "test", "slice": "all"}
    interval = {"ci_low": pytest.approx(0.15003899, abs=1e-8), "ci_high": pytest.approx(0.84996101, abs=1e-8)}
    assert rows[0] == same | {"label": None, "average": None, "metric": "accuracy", "value": 0.5, "num_rows": 4} | interval
    of_emu = [row for row in rows if row["label"] == "emu"]
    absent = same | {"label": "emu", "average": None, "value": 0.0, "ci_low": None, "ci_high": None, "num_rows": 0}
    assert of_emu == [absent | {"metric": name} for name in ("precision", "recall", "f1")]
    macro = {row["metric"]: row for row in rows if row["average"] == "macro"}
    assert macro["f1"]["value"] == 0.5
    assert (macro["recall"]["ci_low"], macro["recall"]["ci_high"]) == (None, None)
    assert rows[-1]["metric"] == "log_loss"


def test_intervals_stand_where_the_value_is_a_share_of_rows() -> None:
    table = evaluation_table(
        classification_metrics(_counts()), classes=CLASSES, model_version=1, dataset_version=1, artifact="keras", split="test"
    )
    with_interval = {(r["metric"], r["average"], r["label"]) for r in table.to_pylist() if r["ci_low"] is not None}
    assert with_interval == {
        ("accuracy", None, None),
        ("precision", "micro", None),
        ("recall", "micro", None),
        ("f1", "micro", None),
        ("precision", None, "cat"),
        ("recall", None, "cat"),
        ("precision", None, "dog"),
        ("recall", None, "dog"),
    }


def test_confusion_has_every_cell() -> None:
    table = confusion_table(_counts(), classes=CLASSES, model_version=3, artifact="keras", split="test")
    assert table.schema == CONFUSION_SCHEMA
    cells = {(row["label"], row["predicted"]): row["num_rows"] for row in table.to_pylist()}
    assert cells == {
        ("cat", "cat"): 1,
        ("cat", "dog"): 1,
        ("cat", "emu"): 0,
        ("dog", "cat"): 1,
        ("dog", "dog"): 1,
        ("dog", "emu"): 0,
        ("emu", "cat"): 0,
        ("emu", "dog"): 0,
        ("emu", "emu"): 0,
    }
    assert {row["artifact"] for row in table.to_pylist()} == {"keras"}


@pytest.mark.parametrize("as_type", [list, pa.array, lambda ids: np.array(ids, dtype=object)])
def test_prediction_rows(as_type: object) -> None:
    row_ids = as_type(["a1", "b2", "c3", "d4"])
    table = predictions_table(row_ids, LABELS, SCORES, classes=CLASSES, run_id="zoo-2026-11-22-0", model_version=3, split="test")
    assert table.schema == PREDICTIONS_SCHEMA
    table.validate(full=True)
    rows = table.to_pylist()
    assert [(row["row_id"], row["label"], row["predicted"]) for row in rows] == [
        ("a1", "cat", "cat"),
        ("b2", "cat", "dog"),
        ("c3", "dog", "dog"),
        ("d4", "dog", "cat"),  # two scores are equal: the first class
    ]
    assert {(row["run_id"], row["model_version"], row["split"]) for row in rows} == {("zoo-2026-11-22-0", 3, "test")}
    np.testing.assert_array_equal(np.array([row["scores"] for row in rows], np.float32), SCORES)


def test_evaluation_equals_scikit_learn_on_the_stored_predictions() -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 3, 500)
    scores = random.dirichlet(np.ones(3), 500).astype(np.float32)
    ids = [f"{row:032x}" for row in range(500)]
    stored = predictions_table(ids, labels, scores, classes=CLASSES, run_id="r", model_version=1, split="test").to_pandas()
    counts = confusion_counts(labels, predicted_indices(scores), num_classes=3)
    rows = evaluation_table(
        classification_metrics(counts), classes=CLASSES, model_version=1, dataset_version=0, artifact="keras", split="test"
    ).to_pylist()
    found = {(row["metric"], row["average"], row["label"]): row["value"] for row in rows}
    report = sk.classification_report(stored["label"], stored["predicted"], output_dict=True, zero_division=0)
    assert found["accuracy", None, None] == pytest.approx(report["accuracy"], abs=1e-9)
    for metric, name in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
        assert found[metric, "macro", None] == pytest.approx(report["macro avg"][name], abs=1e-9)
        assert found[metric, "weighted", None] == pytest.approx(report["weighted avg"][name], abs=1e-9)
        for label in CLASSES:
            assert found[metric, None, label] == pytest.approx(report[label][name], abs=1e-9)


def test_no_predictions_make_an_empty_table() -> None:
    table = predictions_table([], np.array([], int), np.zeros((0, 3)), classes=CLASSES, run_id="r", model_version=1, split="test")
    assert (table.num_rows, table.schema) == (0, PREDICTIONS_SCHEMA)


def test_scores_of_another_width_are_refused() -> None:
    with pytest.raises(ContractError) as error:
        predictions_table(
            ["a", "b"], np.array([0, 1]), np.zeros((2, 4)), classes=CLASSES, run_id="r", model_version=1, split="test"
        )
    assert str(error.value) == (
        "evaluate: expected scores of shape (2, 3); found shape (2, 4). "
        "Use the rows and the class list that the model was evaluated with."
    )


@pytest.mark.parametrize(
    ("contract", "schema", "of_the_flow"),
    [
        ("metrics_evaluation", EVALUATION_SCHEMA, {"pipeline", "run_id", "_night"}),
        ("metrics_confusion", CONFUSION_SCHEMA, {"pipeline", "run_id", "_night"}),
        ("predictions", PREDICTIONS_SCHEMA, {"_night"}),
    ],
)
def test_schemas_are_the_contracts(contract: str, schema: pa.Schema, of_the_flow: set[str]) -> None:
    stated = load_contract(contract, Places.standard()).arrow_schema
    assert list(schema) == [field for field in stated if field.name not in of_the_flow]
