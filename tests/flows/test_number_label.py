"""From gold of packed vectors and a number to exports, metrics and predictions. The trainer runs in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import WriterProperties, write_deltalake
from sklearn import metrics as sk

from millrace.config.load import hash_of
from millrace.exporting.formats import FORMATS, load_predictor
from millrace.fit.state import FittedState
from millrace.flows import publish, train
from millrace.flows.check import check_pipeline
from millrace.flows.context import Context
from millrace.flows.scope import sections
from millrace.lake import log
from millrace.lake.layout import CONFUSION, EPOCHS, EVALUATION, MODELS, Lake, gold, predictions
from millrace.lake.ledger import TableVersion
from millrace.lake.protocol import run_step
from millrace.training.loop import train as train_here
from millrace.training.ranks import Ranks
from tests.factories import make_contract, make_pipeline, make_run, make_step

ROWS = 600
FEATURES = {"features": {"type": "binary", "nullable": False, "tensor": {"dtype": "float32", "shape": [4]}}}
CONTRACT = make_contract({"id": {"type": "bigint"}, **FEATURES, "price": {"type": "double", "nullable": False}}, key=["id"])
FORMAT_NAMES = list(FORMATS)


def contents() -> pa.Table:
    """A price that is nearly linear in four numbers, far from 0."""
    random = np.random.default_rng(5)
    vectors = random.normal(size=(ROWS, 4)).astype(np.float32)
    prices = 5000.0 + vectors @ np.array([30.0, -20.0, 10.0, 5.0]) + random.normal(0.0, 2.0, ROWS)
    return pa.table(
        {
            "row_id": [f"{number:032x}" for number in range(ROWS)],
            "features": pa.array([vector.tobytes() for vector in vectors], pa.binary()),
            "label": pa.array(prices, pa.float32()),
            "split": ["train"] * 400 + ["validation"] * 100 + ["test"] * 100,
        }
    )


@pytest.fixture
def context(lake: Lake) -> Context:
    """As preprocess would leave it."""
    config = make_pipeline(
        features=[{"column": "features", "encode": "vector", "shape": [4]}],
        label={"column": "price", "kind": "number"},
        model={"family": "mlp", "hidden": [16]},
        training={"loss": "mse", "batch_size": 32, "epochs": 25, "early_stop": {"metric": "rmse", "patience": 25}},
        publish={"exports": FORMAT_NAMES},
    )
    check_pipeline(config, CONTRACT)
    made = Context(lambda: None, lake, config, CONTRACT, make_run())  # type: ignore[arg-type, return-value]
    properties = WriterProperties(max_row_group_size=100, write_batch_size=100)
    write_deltalake(lake.path(gold("tiny")), contents(), partition_by=["split"], writer_properties=properties)
    entry, _ = run_step(lake, made.run, make_step("preprocess", outputs=[TableVersion(gold("tiny"), 0)]))
    FittedState(hash_of(sections(made)), {}).save(lake, "tiny", made.run.run_id, entry.step_key)
    return made


def test_from_gold_to_the_registry(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_process(_, request, *, on_event):
        return train_here(request, Ranks(rank=0, world_size=1))

    monkeypatch.setattr("millrace.training.launch.train_on_spark", in_process)
    lake = context.lake
    run_step(lake, context.run, train.step(context))
    epochs = log.read_rows(lake.path(EPOCHS)).to_pylist()
    assert {row["metric"] for row in epochs} == {"loss", "mae", "rmse"}
    last = {row["metric"]: row["value"] for row in epochs if (row["split"], row["epoch"]) == ("validation", 25)}
    scale = contents().column("label").to_numpy()[:400].astype(np.float64).std()
    assert last["rmse"] == pytest.approx(scale * last["loss"] ** 0.5, rel=1e-6)
    assert last["mae"] < last["rmse"] < 10.0

    published, _ = run_step(lake, context.run, publish.step(context))
    assert {output.table for output in published.outputs} == {EVALUATION, predictions("tiny"), MODELS}
    assert not log.exists(lake.path(CONFUSION))
    check_metrics(lake)
    check_exports(lake)


def check_metrics(lake: Lake) -> None:
    """Of every export, against scikit-learn on the predictions table."""
    predicted = log.read_rows(lake.path(predictions("tiny"))).to_pylist()
    labels, numbers = (np.array([float(row[name]) for row in predicted]) for name in ("label", "predicted"))
    test_rows = contents().slice(500).to_pylist()
    assert {row["row_id"]: float(row["label"]) for row in predicted} == {row["row_id"]: row["label"] for row in test_rows}
    assert [row["scores"] for row in predicted] == [[number] for number in numbers]
    expected = {
        "rmse": sk.root_mean_squared_error(labels, numbers),
        "mae": sk.mean_absolute_error(labels, numbers),
        "mse": sk.mean_squared_error(labels, numbers),
        "r2": sk.r2_score(labels, numbers),
        "median_absolute_error": sk.median_absolute_error(labels, numbers),
    }
    assert expected["r2"] > 0.95
    rows = log.read_rows(lake.path(EVALUATION)).to_pylist()
    assert {(row["label"], row["average"], row["num_rows"]) for row in rows} == {(None, None, 100)}
    for artifact in FORMAT_NAMES:
        found = {row["metric"]: row["value"] for row in rows if row["artifact"] == artifact}
        # the first export's predictions are stored; the others' may differ in the last bit of a float32
        assert found == pytest.approx(expected, abs=1e-9 if artifact == FORMAT_NAMES[0] else 1e-2)
    (model,) = log.read_rows(lake.path(MODELS)).to_pylist()
    assert dict(model["metrics"]) == pytest.approx(expected, abs=1e-9)


def check_exports(lake: Lake) -> None:
    """Read back from the registry's address, each gives the stored numbers."""
    (model,) = log.read_rows(lake.path(MODELS)).to_pylist()
    rows = log.read_rows(lake.path(predictions("tiny"))).to_pylist()
    vectors = {row["row_id"]: np.frombuffer(row["features"], np.float32) for row in contents().to_pylist()}
    batch = np.stack([vectors[row["row_id"]] for row in rows])
    for name, chosen in FORMATS.items():
        predict = load_predictor(Path(model["artifact"], chosen.file_name), name)
        np.testing.assert_allclose(predict(batch)[:, 0], [row["scores"][0] for row in rows], rtol=1e-6)


def test_target_is_of_the_train_split_at_the_pinned_version(context: Context) -> None:
    first = train.target_of(context, 0)
    write_deltalake(context.lake.path(gold("tiny")), contents(), mode="append")
    labels = contents().column("label").to_numpy()[:400].astype(np.float64)
    assert first is not None
    assert (first.mean, first.scale) == pytest.approx((labels.mean(), labels.std()), rel=1e-12)
    assert train.target_of(context, 0) == first
