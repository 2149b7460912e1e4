"""The night's benchmark: its arithmetic, and reading a lake."""

from __future__ import annotations

import gzip
import json
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake

from bench import plain_mnist
from bench.night import FEW_ROWS, IDX_FILES, KEY, NightRun, Round, ScriptRun, data_directory, summarise, write_few_rows
from bench.night_records import (
    NightRecord,
    read_night,
    seconds_by_name,
    step_spans,
    timing_spans,
    train_keys,
)
from millrace.errors import LakeError, SourceError

ROOT = Path(__file__).resolve().parents[2]
START = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
RUN_ID = "mnist-2026-11-22-0a1b2c3d"


def _at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def _ledger_row(step: str, status: str, started: float, ended: float | None, *, run_id: str = RUN_ID) -> dict[str, object]:
    ended_at = None if ended is None else _at(ended)
    return {
        "pipeline": "mnist",
        "run_id": run_id,
        "step": step,
        "status": status,
        "started_at": _at(started),
        "ended_at": ended_at,
    }


LEDGER = [
    _ledger_row("train", "started", 15.0, None),
    _ledger_row("train", "failed", 15.0, 16.0),
    _ledger_row("train", "succeeded", 17.0, 47.0),
    _ledger_row("ingest", "succeeded", 0.0, 10.0),
    _ledger_row("nightly", "succeeded", 0.0, 50.0),
]
LOG = [
    json.dumps({"time": _at(-1.0).isoformat(), "event": "timing", "message": "", "name": "session", "seconds": 4.0}),
    json.dumps({"time": _at(20.0).isoformat(), "event": "message", "message": "epoch 1"}),
    json.dumps({"time": _at(46.0).isoformat(), "event": "timing", "message": "", "name": "train/workers", "seconds": 29.0}),
    json.dumps({"time": _at(9.0).isoformat(), "event": "timing", "message": "", "name": "publish/export", "seconds": 5.0}),
    json.dumps({"time": _at(8.0).isoformat(), "event": "timing", "message": "", "name": "publish/export/h5", "seconds": 3.0}),
    json.dumps({"time": _at(0.5).isoformat(), "event": "timing", "message": "", "name": "ledger", "seconds": 0.25}),
    json.dumps({"time": _at(47.5).isoformat(), "event": "timing", "message": "", "name": "ledger", "seconds": 0.5}),
    '{"time": "2026-11-22T03:00:50+00:00", "event": "tim',
]


def test_steps_are_the_succeeded_ones_of_the_run_in_order() -> None:
    others = [_ledger_row("ingest", "succeeded", 0.0, 3.0, run_id="digits-2026-11-22-ffffffff")]
    found = step_spans([*LEDGER, *others], run_id=RUN_ID)
    assert [(span.name, span.seconds) for span in found] == [("ingest", 10.0), ("train", 30.0)]


def test_timings_are_added_up_by_name() -> None:
    assert seconds_by_name(timing_spans(LOG)) == {
        "session": 4.0,
        "train/workers": 29.0,
        "publish/export": 5.0,
        "publish/export/h5": 3.0,
        "ledger": 0.75,
    }


def _record() -> NightRecord:
    return NightRecord(run_id=RUN_ID, steps=step_spans(LEDGER, run_id=RUN_ID), timings=timing_spans(LOG), accuracy=0.98)


def _round(wall_1: float, wall_script: float, wall_2: float) -> Round:
    printed = {"seconds": {"read": 0.5, "fit": wall_script - 2}, "accuracy": 0.975, "num_train_rows": 50981}
    nights = (NightRun(wall_1, _record()), ScriptRun(wall_script, printed), NightRun(wall_2, _record()))
    return Round(*nights, fixed=NightRun(42.0, _record()))


def test_summary_takes_medians_of_each_round() -> None:
    # ratios with one worker: 3, 5 and 2.5
    result = summarise([_round(60.0, 20.0, 80.0), _round(50.0, 10.0, 70.0), _round(75.0, 30.0, 60.0)])
    figures = {figure.name: (figure.value, figure.unit) for figure in result.figures}
    assert figures["night_vs_plain_script"] == (3.0, "ratio")
    assert figures["night_vs_plain_script_2_workers"] == (4.0, "ratio")
    assert figures["night_1_worker"] == (60.0, "s")
    assert figures["plain_script"] == (20.0, "s")
    assert figures["night_1/step/train"] == (30.0, "s")
    assert figures["night_1/outside of the steps"] == (pytest.approx(60.0 - 40.0), "s")
    assert figures["fixed"] == (42.0, "s")
    assert figures["fixed/outside of the steps"] == (pytest.approx(2.0), "s")
    assert figures["fixed/step/ingest"] == (10.0, "s")
    assert figures["fixed/timing/publish/export/h5"] == (3.0, "s")
    assert figures["plain_script/fit"] == (18.0, "s")
    assert figures["accuracy_plain_script"] == (0.975, "share")
    assert {figure.name: figure.value for figure in result.details} == {
        "night_1/timing/session": 4.0,
        "night_1/timing/train/workers": 29.0,
        "night_1/timing/publish/export": 5.0,
        "night_1/timing/publish/export/h5": 3.0,
        "night_1/timing/ledger": 0.75,
        "round_1/night_1_worker": 60.0,
        "round_1/plain_script": 20.0,
        "round_1/night_2_workers": 80.0,
        "round_2/night_1_worker": 50.0,
        "round_2/plain_script": 10.0,
        "round_2/night_2_workers": 70.0,
        "round_3/night_1_worker": 75.0,
        "round_3/plain_script": 30.0,
        "round_3/night_2_workers": 60.0,
    }
    (bound,) = result.bounds
    assert (bound.name, bound.value, bound.op, bound.bound, bound.holds) == ("night_vs_plain_script", 3.0, "<=", 4.0, True)


def _write_lake(lake: Path, ledger: list[dict[str, object]]) -> None:
    write_deltalake(str(lake / "metrics" / "runs"), pa.Table.from_pylist(ledger))
    evaluation = [
        {"artifact": artifact, "split": split, "slice": "all", "metric": metric, "value": value}
        for artifact, split, metric, value in [
            ("keras", "test", "accuracy", 0.9765),
            ("h5", "test", "accuracy", 0.9764),
            ("keras", "validation", "accuracy", 0.9),
            ("keras", "test", "recall", 0.8),
        ]
    ]
    write_deltalake(str(lake / "metrics" / "evaluation"), pa.Table.from_pylist(evaluation))
    log = lake / "artifacts" / "mnist" / RUN_ID / "log.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text("\n".join(LOG))


def test_a_night_is_read_from_its_lake(tmp_path: Path) -> None:
    _write_lake(tmp_path, LEDGER)
    record = read_night(tmp_path, pipeline="mnist")
    assert (record.run_id, record.accuracy) == (RUN_ID, 0.9765)
    assert seconds_by_name(record.steps) == {"ingest": 10.0, "train": 30.0}
    assert seconds_by_name(record.timings)["train/workers"] == 29.0


def test_a_lake_with_two_runs_is_refused(tmp_path: Path) -> None:
    _write_lake(tmp_path, [*LEDGER, _ledger_row("train", "succeeded", 60.0, 90.0, run_id="mnist-2026-11-22-ffffffff")])
    with pytest.raises(LakeError) as error:
        read_night(tmp_path, pipeline="mnist")
    assert str(error.value) == "bench: expected one run of mnist in the lake; found 2. Give the benchmark a fresh lake."


def test_train_keys_are_those_of_silver_in_order(tmp_path: Path) -> None:
    rows = [("train", 5, "train"), ("t10k", 1, "test"), ("train", 2, "validation"), ("train", 3, "train")]
    columns = dict(zip(("subset", "index", "split"), map(list, zip(*rows, strict=True)), strict=True))
    write_deltalake(str(tmp_path / "silver" / "mnist"), pa.table(columns))
    assert train_keys(tmp_path, pipeline="mnist", columns=KEY).to_pylist() == [
        {"subset": "train", "index": 3},
        {"subset": "train", "index": 5},
    ]


@pytest.mark.parametrize("gzipped", [False, True])
def test_few_rows_are_the_first_ones(gzipped: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    images, labels = rng.integers(0, 256, (400, 28, 28), dtype=np.uint8), rng.integers(0, 10, 400, dtype=np.uint8)
    for subset in ("train", "t10k"):
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            content = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()
            path = tmp_path / f"{subset}-{kind}-ubyte{'.gz' if gzipped else ''}"
            path.write_bytes(gzip.compress(content) if gzipped else content)
    few = write_few_rows(tmp_path, tmp_path / "few")
    assert sorted(path.name for path in few.iterdir()) == sorted(IDX_FILES)
    assert (few / "t10k-images-idx3-ubyte").read_bytes()[4:16] == struct.pack(">III", FEW_ROWS, 28, 28)
    assert (few / "t10k-images-idx3-ubyte").read_bytes()[16:] == images[:FEW_ROWS].tobytes()
    assert (few / "train-labels-idx1-ubyte").read_bytes()[8:] == labels[:FEW_ROWS].tobytes()


def test_the_data_may_be_gzipped_or_plain(tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz"):
        (tmp_path / "mnist" / name).touch()
    with pytest.raises(SourceError, match="found no t10k-labels-idx1-ubyte there"):
        data_directory({"MILLRACE_DATA": str(tmp_path)})
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte").touch()
    assert data_directory({"MILLRACE_DATA": str(tmp_path)}) == tmp_path


def test_the_script_does_what_the_pipeline_says() -> None:
    pipeline = yaml.safe_load((ROOT / "conf" / "pipelines" / "mnist.yaml").read_text())
    assert pipeline["training"]["epochs"] == plain_mnist.EPOCHS
    assert pipeline["training"]["batch_size"] == plain_mnist.BATCH_SIZE
    assert pipeline["split"]["fractions"]["train"] == plain_mnist.TRAIN_SHARE
    assert pipeline["clean"] == [{"drop_duplicates": ["image"]}]
    assert pipeline["model"] == {"family": "mlp", "hidden": [512], "activation": "relu"}
    assert pipeline["training"]["optimizer"] == {"name": "adam", "learning_rate": 0.001}
    assert set(pipeline["publish"]["exports"]) == {"keras", "h5", "saved_model"}
