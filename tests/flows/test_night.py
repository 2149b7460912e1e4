"""A night of the digits, end to end, by the command that users call: Spark, Delta, Petastorm, Horovod and TensorFlow are real."""

from __future__ import annotations

from collections import Counter

import pyarrow.compute as pc
from sklearn.metrics import confusion_matrix

from millrace.exporting.formats import FORMATS
from tests.flows.judge import exports_agree_with_the_predictions, metrics_equal_scikit_learn
from tests.flows.nights import NIGHT, Night


def test_every_step_succeeds_once_and_the_counting_law_holds(finished: Night) -> None:
    assert finished.steps("succeeded") == ["ingest", "preprocess", "train", "publish", "nightly"]
    assert finished.steps("failed") == []
    counts = {entry.step: entry.counts for entry in finished.entries("succeeded")}
    assert vars(counts["ingest"]) == {
        "num_rows_in": 1802,
        "num_rows_kept": 1800,
        "num_rows_quarantined": 2,
        "num_rows_dropped": 0,
    }
    assert vars(counts["preprocess"]) == {
        "num_rows_in": 1800,
        "num_rows_kept": 1797,
        "num_rows_quarantined": 3,
        "num_rows_dropped": 0,
    }
    assert finished.table("bronze/digits").num_rows == 1800
    assert finished.table("silver/digits").num_rows == finished.table("gold/digits").num_rows == 1797


def test_damaged_rows_lie_in_quarantine_with_their_rule(finished: Night) -> None:
    at_ingest = Counter(finished.table("quarantine/sources/digits").column("rule").to_pylist())
    later = Counter(finished.table("quarantine/pipelines/digits").column("rule").to_pylist())
    assert at_ingest == {"too_few_fields": 1, "too_many_fields": 1}
    assert later == {"index_is_no_int": 1, "digit_out_of_range": 1, "image_wrong_size": 1}


def test_metrics_equal_scikit_learn_on_the_predictions(finished: Night) -> None:
    (run_id,) = {entry.run.run_id for entry in finished.entries()}
    metrics_equal_scikit_learn(finished.lake, "digits", run_id)


def test_confusion_sums_to_the_test_rows(finished: Night) -> None:
    predictions = finished.table("predictions/digits")
    test_rows = finished.table("gold/digits").filter(pc.field("split") == "test")
    assert predictions.num_rows == test_rows.num_rows
    labels, predicted = predictions.column("label").to_pylist(), predictions.column("predicted").to_pylist()
    classes = [str(digit) for digit in range(10)]
    matrix = confusion_matrix(labels, predicted, labels=classes)
    for artifact in FORMATS:
        cells = finished.table("metrics/confusion").filter(pc.field("artifact") == artifact)
        assert pc.sum(cells.column("num_rows")).as_py() == test_rows.num_rows
        assert {(row["label"], row["predicted"]): row["num_rows"] for row in cells.to_pylist()} == {
            (classes[i], classes[j]): matrix[i, j] for i in range(10) for j in range(10)
        }


def test_reloaded_exports_agree_with_the_predictions_table(finished: Night) -> None:
    (run_id,) = {entry.run.run_id for entry in finished.entries()}
    exports_agree_with_the_predictions(finished.lake, "digits", run_id, shape=(8, 8, 1))


def test_the_registry_says_where_the_model_comes_from(finished: Night) -> None:
    (model,) = finished.table("registry/models").to_pylist()
    train = next(entry for entry in finished.entries("succeeded") if entry.step == "train")
    assert (model["pipeline"], model["version"], model["stage"]) == ("digits", 1, "candidate")
    assert dict(model["lineage"])["dataset_version"] == str(train.inputs.tables[0].version)
    assert sorted(name for name, _ in model["sha256"]) == ["h5", "keras", "saved_model"]


def test_epochs_have_train_and_validation(finished: Night) -> None:
    rows = finished.table("metrics/epochs").to_pylist()
    keys = Counter((row["epoch"], row["split"], row["metric"]) for row in rows)
    expected = {
        (epoch, split, metric) for epoch in (1, 2, 3) for split in ("train", "validation") for metric in ("loss", "accuracy")
    }
    assert set(keys) == expected
    assert set(keys.values()) == {1}


def test_the_same_night_again_does_nothing_and_says_so(finished: Night) -> None:
    before = finished.entries()
    for _ in range(2):
        again = finished.submit("nightly", "--night", NIGHT)
        assert again.returncode == 0
        assert "is finished; nothing to do (--force does it again)" in again.stderr
    assert finished.entries() == before


def test_plan_prints_and_changes_nothing(finished: Night) -> None:
    before = finished.entries()
    planned = finished.submit("nightly", "--night", "2026-11-23", "--plan")
    assert planned.returncode == 0, planned.stderr
    assert "not done yet" in planned.stdout
    assert finished.entries() == before


def test_what_the_user_sees_is_free_of_start_up_noise(finished: Night) -> None:
    output = finished.first_output
    assert output is not None
    noise = ("WARN", "oneDNN", "cpu_feature_guard", "log4j", "SLF4J", "Ivy", "Traceback", "absl")
    assert [word for word in noise if word in output.stderr + output.stdout] == []
    assert "epoch 3/3" in output.stderr
    assert "accuracy" in output.stdout
