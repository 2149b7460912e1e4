"""What a training leaves in a lake, and what of it still holds when the lake or its gold has changed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from millrace.config.network import MlpConfig
from millrace.config.training import TrainingConfig
from millrace.flows import train
from millrace.flows.context import Context
from millrace.lake import artifacts
from millrace.lake.layout import EPOCHS, Lake, gold
from millrace.lake.ledger import Entry, TableVersion
from millrace.loading.columns import ColumnSpec
from millrace.loading.index import DatasetIndex
from millrace.training.checkpoint import directory_of
from millrace.training.request import TrainRequest, TrainResult
from tests.factories import image_contract, make_attempt, make_pipeline, make_run


def context_of(lake: Lake, *, force: bool = False) -> Context:
    def no_spark():
        raise AssertionError("it is not needed")

    return Context(no_spark, lake, make_pipeline(), image_contract(), make_run(), force=force)


def write_gold(lake: Lake, *numbers: int) -> None:
    rows = pa.table({"number": pa.array(numbers, pa.int32()), "split": ["train"] * len(numbers)})
    write_deltalake(lake.path(gold("tiny")), rows, partition_by=["split"])


def in_lake(lake: Lake, index: DatasetIndex) -> bool:
    return all(Path(file).is_relative_to(lake.uri) and Path(file).exists() for file in index.files)


def test_index_is_made_once(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gold(lake, 1, 2)
    first = train.index_of(context_of(lake), 0, "train")
    assert first.num_rows == 2
    monkeypatch.delattr(train, "build_index")
    assert train.index_of(context_of(lake), 0, "train") == first


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_index_of_a_lake_that_was_moved_or_copied_names_its_own_files(lake: Lake, tmp_path: Path, how) -> None:
    write_gold(lake, 1, 2)
    first = train.index_of(context_of(lake), 0, "train")
    how(lake.uri, tmp_path / "other")
    other = Lake.at(str(tmp_path / "other"))
    again = train.index_of(context_of(other), 0, "train")
    assert in_lake(other, again)
    assert again.fingerprint() == first.fingerprint()  # so that training goes on from its checkpoints


def test_index_of_a_table_that_was_made_anew_is_another(lake: Lake) -> None:
    write_gold(lake, 1, 2)
    train.index_of(context_of(lake), 0, "train")
    shutil.rmtree(lake.path(gold("tiny")))
    write_gold(lake, 3, 4, 5)
    again = train.index_of(context_of(lake), 0, "train")
    assert (again.num_rows, in_lake(lake, again)) == (3, True)


def request_of(index: DatasetIndex, checkpoints: str) -> TrainRequest:
    return TrainRequest(
        train=index,
        validation=None,
        feature=ColumnSpec(name="image", dtype="uint8", shape=(2, 2, 1)),
        divisor=1.0,
        label="number",
        num_classes=10,
        model=MlpConfig(hidden=(2,)),
        training=TrainingConfig(),
        checkpoints=checkpoints,
    )


def result_of(weights: str) -> TrainResult:
    counts = dict.fromkeys(("epoch", "num_steps", "num_rows_seen", "num_workers", "first_epoch", "first_step"), 1)
    return TrainResult(rows=(), weights=weights, weight_hash="", notes=(), **counts)


def test_weights_are_found_where_the_lake_is_now(lake: Lake, tmp_path: Path) -> None:
    attempt = make_attempt(lake, name="train")
    entry = Entry(attempt.run, "train", attempt.step_key, "succeeded", 1, started_at=None)
    weights = lake.artifacts("tiny", attempt.run.run_id, "checkpoints", "f", "epoch-000001.ckpt")
    train.keep_result(context_of(lake), attempt, result_of(weights))
    assert train.load_result(context_of(lake), entry).weights == weights
    shutil.move(lake.uri, tmp_path / "other")
    other = Lake.at(str(tmp_path / "other"))
    assert train.load_result(context_of(other), entry).weights == weights.replace(lake.uri, other.uri)


@pytest.mark.parametrize("weights", ["/old/lake/epoch-000001.ckpt", "s3://old/epoch-000001.ckpt"])
def test_weights_by_whole_address_stay(lake: Lake, weights: str) -> None:
    attempt = make_attempt(lake, name="train")
    entry = Entry(attempt.run, "train", attempt.step_key, "succeeded", 1, started_at=None)
    train.keep_result(context_of(lake), attempt, result_of(weights))
    assert train.load_result(context_of(lake), entry).weights == weights


def test_only_the_training_that_stands_and_this_one_keep_checkpoints(lake: Lake) -> None:
    """A first training, one on new gold, one that was forced and killed; then the next begins."""
    write_gold(lake, *range(200))
    run = make_run()
    place = lake.artifacts("tiny", run.run_id, "checkpoints")
    index = train.index_of(context_of(lake), 0, "train")
    request = request_of(index, place)
    own = directory_of(place, request.fingerprint(request.plan(index)))
    files = [f"{place}/first/a.ckpt", f"{place}/second/b.ckpt", f"{place}-2/third/c.ckpt", f"{own}/d.ckpt", f"{place}/old.ckpt"]
    for file in (*files, f"{place}-4/{Path(own).name}/e.ckpt", lake.artifacts("tiny", run.run_id, "tensorboard/x")):
        artifacts.write_text(file, "weights")
    attempt = make_attempt(lake, name="train", run=run)
    standing = Entry(run, "train", "k1", "succeeded", 1, started_at=None, outputs=(TableVersion(EPOCHS, 0),))
    train.keep_result(context_of(lake), attempt, result_of(files[1]))
    attempt = replace(attempt, ledger=replace(attempt.ledger, entries=(standing,)))
    train.remove_superseded(context_of(lake), attempt, request)
    left = sorted(str(file) for file in Path(place).parent.rglob("*") if file.is_file() and file.suffix != ".json")
    assert left == sorted([files[1], files[3], files[4], lake.artifacts("tiny", run.run_id, "tensorboard/x")])
    forced = replace(request, checkpoints=f"{place}-5")
    train.remove_superseded(
        context_of(lake, force=True), attempt, forced
    )  # what a killed run has left stays, for the next without
    assert Path(files[3]).exists()
