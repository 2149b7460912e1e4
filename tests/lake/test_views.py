"""What readers see: finished versions and runs only, the same in DuckDB and in Spark."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from millrace.flows import inspect
from millrace.lake import small
from millrace.lake.layout import EPOCHS, Lake
from millrace.lake.ledger import TableVersion
from millrace.lake.protocol import run_step
from millrace.lake.read import read_version, register_tables
from tests.factories import NIGHT, make_run, make_step

PREDICTIONS = "predictions/tiny"
GOOD, BAD = make_run(config="00000001"), make_run(config="00000002")


def epochs(run_id: str) -> list[dict[str, object]]:
    base = {"pipeline": "tiny", "run_id": run_id, "_night": NIGHT, "step": 1, "split": "train", "metric": "loss"}
    return [{**base, "epoch": epoch, "value": 0.5, "learning_rate": 0.1, "rows_per_second": None} for epoch in (1, 2)]


def prediction(row_id: str) -> dict[str, object]:
    values = {"run_id": GOOD.run_id, "model_version": 1, "split": "test", "label": "1", "predicted": "1"}
    return {"row_id": row_id, **values, "scores": [0.5, 0.5], "_night": NIGHT}


@pytest.fixture
def half_finished(lake: Lake) -> Lake:
    """Predictions at a finished version and one after it; epochs of a run that succeeded, of a failed one, of a killed one."""
    small.append(lake, PREDICTIONS, [prediction("a")], metadata={})
    small.append(lake, PREDICTIONS, [prediction("uncommitted")], metadata={})
    small.append(lake, "predictions/never_named", [prediction("x")], metadata={})
    for run_id in (GOOD.run_id, BAD.run_id, "killed"):
        small.append(lake, EPOCHS, epochs(run_id), metadata={})
    run_step(lake, GOOD, make_step("train", outputs=[TableVersion(PREDICTIONS, 0)]))
    with pytest.raises(RuntimeError):
        run_step(lake, BAD, make_step("train", sections=["other"], error=RuntimeError("no")))
    return lake


def test_duckdb_and_spark_show_the_same_finished_rows(spark: SparkSession, half_finished: Lake) -> None:
    names = ["metrics_epochs", "metrics_runs", "predictions_tiny"]
    assert register_tables(spark, half_finished) == names
    assert [row["name"] for row in inspect.sql(half_finished, "SHOW TABLES").to_pylist()] == names
    queries = {
        "SELECT row_id, scores[1] IS NULL AS short FROM predictions_tiny": [("a", False)],
        "SELECT run_id, epoch FROM metrics_epochs ORDER BY epoch": [(GOOD.run_id, 1), (GOOD.run_id, 2)],
        "SELECT status, count(*) AS n FROM metrics_runs GROUP BY status ORDER BY status": [
            ("failed", 1),
            ("started", 2),
            ("succeeded", 1),
        ],
    }
    for query, rows in queries.items():
        assert [tuple(row.values()) for row in inspect.sql(half_finished, query).to_pylist()] == rows
        assert [tuple(row) for row in spark.sql(query).collect()] == rows


def test_a_run_done_again_shows_what_succeeded_until_it_succeeds_anew(spark: SparkSession, half_finished: Lake) -> None:
    """A forced attempt replaces the run's rows before it has succeeded; then it is killed."""
    before = small.append(half_finished, EPOCHS, [], metadata={})
    run_step(half_finished, GOOD, make_step("train", outputs=[TableVersion(EPOCHS, before)]), force=True)
    better = [{**row, "value": 0.25} for row in epochs(GOOD.run_id)]
    after = small.replace(half_finished, EPOCHS, better, where={"run_id": GOOD.run_id}, metadata={})
    query = "SELECT run_id, epoch, value FROM metrics_epochs ORDER BY epoch"

    def shown() -> list[tuple[object, ...]]:
        register_tables(spark, half_finished)
        rows = [tuple(row.values()) for row in inspect.sql(half_finished, query).to_pylist()]
        assert [tuple(row) for row in spark.sql(query).collect()] == rows
        return rows

    with pytest.raises(RuntimeError):
        run_step(half_finished, GOOD, make_step("train", error=RuntimeError("killed")), force=True)
    assert shown() == [(GOOD.run_id, 1, 0.5), (GOOD.run_id, 2, 0.5)]
    run_step(half_finished, GOOD, make_step("train", outputs=[TableVersion(EPOCHS, after)]), force=True)
    assert shown() == [(GOOD.run_id, 1, 0.25), (GOOD.run_id, 2, 0.25)]


def test_a_table_without_a_finished_version_is_refused(spark: SparkSession, lake: Lake) -> None:
    with pytest.raises(Exception, match="expected a finished version of gold/tiny; found none"):
        read_version(spark, lake, "gold/tiny", None)
