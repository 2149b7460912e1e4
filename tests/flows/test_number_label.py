"""A whole night of numbers: from CSV with gaps to exports that take the raw columns, trained with noise on the numbers.

The trainer runs in this process.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from pyspark.sql import SparkSession
from sklearn import metrics as sk

from millrace.contracts.inputs import as_input
from millrace.exporting.formats import FORMATS, load_predictor
from millrace.flows.job import run
from millrace.flows.nightly import NIGHT
from millrace.lake import log
from millrace.lake.layout import CONFUSION, EPOCHS, EVALUATION, MODELS, Lake, predictions
from millrace.lake.ledger import Ledger
from millrace.training.loop import train as train_here
from millrace.training.ranks import Ranks

ROWS = 600
FORMAT_NAMES = list(FORMATS)
CONTRACT = {
    "name": "prices_raw",
    "grain": "one row per house",
    "key": ["id"],
    "columns": {
        "id": {"type": "bigint", "nullable": False},
        "size": {"type": "double"},
        "rooms": {"type": "int", "nullable": False},
        "town": {"type": "string"},
        "price": {"type": "double"},
    },
}
PIPELINE = {
    "name": "prices",
    "source": {"name": "prices", "format": "csv", "schema": "prices_raw"},
    "quality": {"max_reject_ratio": 0.02},
    "split": {"method": "hash", "key": ["id"], "seed": 7, "fractions": {"train": 0.7, "validation": 0.1, "test": 0.2}},
    "features": [
        {"columns": ["size", "rooms"], "encode": "zscore"},
        {"column": "town", "encode": "one_hot", "unknown": "slot"},
    ],
    "label": {"column": "price", "kind": "number"},
    "model": {"family": "mlp", "hidden": [32]},
    "training": {
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "loss": "mse",
        "batch_size": 32,
        "epochs": 25,
        "augment": [{"apply": "noise", "scale": 0.02}, {"apply": "noise", "column": "size", "scale": 0.02}],
        "early_stop": {"metric": "rmse", "patience": 25},
    },
    "publish": {"exports": FORMAT_NAMES},
}


def write_rows(path: Path) -> None:
    """A price that is nearly linear in size and rooms and depends on the town, far from 0; three rows have none."""
    random = np.random.default_rng(5)
    lines = ["id,size,rooms,town,price"]
    for number in range(ROWS):
        size, rooms, town = random.normal(100.0, 20.0), int(random.integers(1, 7)), random.choice(["ash", "elm", "oak"])
        price = 5000.0 + 2.0 * size + 10.0 * rooms + {"ash": 0.0, "elm": 50.0, "oak": -50.0}[town] + random.normal(0.0, 2.0)
        shown = "" if number % 50 == 7 else f"{size:.3f}"
        lines.append(f"{number},{shown},{rooms},{town if number % 40 else ''},{price if number % 200 != 3 else ''}")
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n")


def silver_rows(lake: Lake) -> list[dict[str, object]]:
    return log.read_rows(lake.path("silver/prices"), version=Ledger.read(lake).version_of("silver/prices")).to_pylist()


def test_a_night_of_numbers(spark: SparkSession, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_process(_, request, *, on_event):
        assert [change.places for change in request.changes] == [(0, 1), (0,)]
        return train_here(request, Ranks(rank=0, world_size=1))

    monkeypatch.setattr("millrace.training.launch.train_on_spark", in_process)
    write_rows(tmp_path / "raw" / "houses.csv")
    for folder, name, content in (("schemas", "prices_raw", CONTRACT), ("pipelines", "prices", PIPELINE)):
        place = tmp_path / "conf" / folder / f"{name}.yaml"
        place.parent.mkdir(parents=True)
        place.write_text(yaml.safe_dump(content))
    options = ["--pipeline", "prices", "--lake", lake.uri, "--conf-dir", str(tmp_path / "conf"), "--night", "2026-11-22"]
    assert run(NIGHT, "", [*options, "--set", f"source.path={tmp_path / 'raw'}"], spark=spark) == 0
    rejected = log.read_rows(lake.path("quarantine/pipelines/prices")).to_pylist()
    assert [(row["rule"], row["action"]) for row in rejected] == [("price_is_no_label", "quarantined")] * 3

    epochs = log.read_rows(lake.path(EPOCHS)).to_pylist()
    assert {row["metric"] for row in epochs} == {"loss", "mae", "rmse"}
    last = {row["metric"]: row["value"] for row in epochs if (row["split"], row["epoch"]) == ("validation", 25)}
    prices = np.array([row["price"] for row in silver_rows(lake) if row["split"] == "train"], np.float32).astype(np.float64)
    assert last["rmse"] == pytest.approx(prices.std() * last["loss"] ** 0.5, rel=1e-6)
    assert last["mae"] < last["rmse"]
    assert not log.exists(lake.path(CONFUSION))
    check_metrics(lake)
    check_exports(lake)


def check_metrics(lake: Lake) -> None:
    """Of every export, against scikit-learn on the predictions table."""
    predicted = log.read_rows(lake.path(predictions("prices"))).to_pylist()
    labels, numbers = (np.array([float(row[name]) for row in predicted]) for name in ("label", "predicted"))
    assert {row["row_id"]: float(row["label"]) for row in predicted} == {
        row["row_id"]: np.float32(row["price"]) for row in silver_rows(lake) if row["split"] == "test"
    }
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
    assert {(row["label"], row["average"], row["num_rows"]) for row in rows} == {(None, None, len(predicted))}
    for artifact in FORMAT_NAMES:
        found = {row["metric"]: row["value"] for row in rows if row["artifact"] == artifact}
        # the first export's predictions are stored; the others' may differ in the last bit of a float32
        assert found == pytest.approx(expected, abs=1e-9 if artifact == FORMAT_NAMES[0] else 1e-2)
    (model,) = log.read_rows(lake.path(MODELS)).to_pylist()
    assert dict(model["metrics"]) == pytest.approx(expected, abs=1e-9)


def check_exports(lake: Lake) -> None:
    """Read back from the registry's address, each gives the stored numbers for silver's raw rows, gaps and all."""
    (model,) = log.read_rows(lake.path(MODELS)).to_pylist()
    rows = log.read_rows(lake.path(predictions("prices")))
    table = log.read_rows(lake.path("silver/prices"), version=Ledger.read(lake).version_of("silver/prices"))
    by_id = {row_id: number for number, row_id in enumerate(table.column("row_id").to_pylist())}
    raw = table.take([by_id[row_id] for row_id in rows.column("row_id").to_pylist()])
    kinds = {"size": "float64", "rooms": "int64", "town": "string"}
    inputs = {name: as_input(raw.column(name).combine_chunks(), kind) for name, kind in kinds.items()}  # type: ignore[arg-type]
    scores = [row[0] for row in rows.column("scores").to_pylist()]
    for name, chosen in FORMATS.items():
        predict = load_predictor(Path(model["artifact"], chosen.file_name), name)
        np.testing.assert_allclose(predict(inputs)[:, 0], scores, rtol=1e-6)
