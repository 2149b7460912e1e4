"""What the shipped pipelines reach, as the mean over the seeds 1 to 3, with one worker and with two."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import mean

import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from millrace.flows.job import run
from millrace.flows.nightly import NIGHT
from millrace.lake import log
from tests.flows.judge import exports_agree_with_the_predictions, metrics_equal_scikit_learn
from tests.flows.nights import ROOT

SEEDS = (1, 2, 3)
SHAPES = {"digits": (8, 8, 1), "mnist": (28, 28, 1)}
DATA = Path(os.environ.get("MILLRACE_DATA", ROOT.parent / "shared" / "data"))


def accuracies(spark: SparkSession, lake: Path, pipeline: str, *options: str) -> list[float]:
    """Test accuracy of the exported model after a night with each seed; the nights share their gold.

    The last run's metrics and exports are held against its predictions.
    """
    reached = []
    for seed in SEEDS:
        arguments = [
            "--pipeline",
            pipeline,
            "--lake",
            str(lake),
            "--night",
            "2026-11-22",
            "--set",
            f"training.seed={seed}",
            *options,
        ]
        assert run(NIGHT, "", arguments, spark=spark) == 0
        rows = log.read_rows(str(lake / "metrics" / "evaluation"))
        newest = max(rows.column("model_version").to_pylist())
        chosen = (pc.field("model_version") == newest) & (pc.field("metric") == "accuracy") & (pc.field("artifact") == "keras")
        (value,) = rows.filter(chosen).column("value").to_pylist()
        reached.append(value)
    (run_id,) = set(rows.filter(chosen).column("run_id").to_pylist())
    metrics_equal_scikit_learn(lake, pipeline, run_id)
    exports_agree_with_the_predictions(lake, pipeline, run_id, shape=SHAPES[pipeline])
    return reached


@pytest.mark.full
def test_digits(spark: SparkSession, tmp_path: Path) -> None:
    """Three nights with two workers each."""
    assert mean(accuracies(spark, tmp_path / "lake", "digits")) >= 0.96


@pytest.mark.full
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason="MNIST's idx files are not in $MILLRACE_DATA/mnist")
def test_mnist_with_one_worker_and_with_two(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six trainings of five epochs each on the same gold."""
    monkeypatch.setenv("MILLRACE_DATA", str(DATA))
    reached = {
        workers: mean(accuracies(spark, tmp_path / "lake", "mnist", "--set", f"training.num_workers={workers}"))
        for workers in (1, 2)
    }
    assert min(reached.values()) >= 0.975
    assert abs(reached[1] - reached[2]) <= 0.003
