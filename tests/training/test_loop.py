"""The loop on one rank, without Spark."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from millrace.errors import ConfigError, ContractError, PlanError
from millrace.loading.reader import read_in_order
from millrace.training.checkpoint import load_weights, read_checkpoint
from millrace.training.loop import train
from millrace.training.ranks import Ranks
from millrace.training.request import TrainRequest
from millrace.training.step import EvaluationStep, Sums
from tests.training.resume_cases import StoppedError


class Recorder:
    """Keeps what the loop tells."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def __call__(self, kind: str, **fields: object) -> None:
        self.events.append((kind, fields))

    @property
    def remarks(self) -> list[tuple[object, object]]:
        """(message, whether it warns) of the remarks."""
        return [(fields["message"], fields["warns"]) for kind, fields in self.events if kind == "log"]


def run(request: TrainRequest, tell=None):
    return train(request, Ranks(rank=0, world_size=1), tell=tell or Recorder())


def test_learns_and_counts(make_request):
    recorder = Recorder()
    result = run(make_request(), recorder)
    assert (result.num_steps, result.num_rows_seen, result.first_epoch) == (4 * 32, 4 * 1500, 1)
    rows = {(row["epoch"], row["split"], row["metric"]): row for row in result.rows}
    assert sorted(rows) == sorted(
        (epoch, split, metric) for epoch in (1, 2, 3, 4) for split in ("train", "validation") for metric in ("accuracy", "loss")
    )
    assert rows[4, "validation", "accuracy"]["value"] > 0.7  # chance is 0.1; four epochs are not many
    assert rows[4, "train", "loss"]["value"] < rows[1, "train", "loss"]["value"]
    assert rows[2, "train", "loss"]["step"] == 64
    assert rows[2, "train", "loss"]["learning_rate"] == 0.001
    steps = [fields for kind, fields in recorder.events if kind == "step"]
    assert [fields["step"] for fields in steps] == list(range(1, 129))
    assert steps[-1]["rows"] == 1500
    rare = [kind for kind, _ in recorder.events if kind not in ("step", "load", "validation")]
    assert [kind for kind, _ in groupby(rare)] == ["wait", "checkpoint", *["wait", "checkpoint", "epoch"] * 4]


def test_validation_sums_are_exact(make_request):
    """Accuracy on 297 rows is a whole number of rows."""
    result = run(make_request(epochs=1))
    accuracy = next(row["value"] for row in result.rows if (row["split"], row["metric"]) == ("validation", "accuracy"))
    assert accuracy * 297 == pytest.approx(round(accuracy * 297), abs=1e-9)


def test_rows_that_train_are_augmented_and_those_that_validate_are_not(make_request):
    """Two epochs on digits that are moved, cut and lit at random; the model that results is then shown plain ones."""
    augment = [{"apply": "crop", "padding": 1}, {"apply": "cutout", "size": 2}, {"apply": "brightness", "max_delta": 2}]
    plain, result = run(make_request(directory="plain", epochs=2)), run(make_request(epochs=2, augment=augment))
    assert (result.num_rows_seen, result.num_steps) == (2 * 1500, 2 * 32)
    assert result.weight_hash != plain.weight_hash
    rows = {(row["epoch"], row["split"], row["metric"]): row["value"] for row in result.rows}
    assert rows[2, "validation", "loss"] < rows[1, "validation", "loss"]
    request = make_request()
    from millrace.models.build import build_model

    model = build_model(request.model, input_shape=(8, 8, 1), divisor=16.0, num_classes=10, seed=0)
    load_weights(result.weights, model)
    images, labels = validation_rows(request)
    assert rows[2, "validation", "accuracy"] == pytest.approx((model.predict(images, verbose=0).argmax(axis=1) == labels).mean())


def validation_rows(request: TrainRequest):
    batches = list(read_in_order(request.validation, request.columns, 100))
    return [np.concatenate([batch.columns[name] for batch in batches]) for name in ("image", "digit")]


def test_augmentations_that_do_not_fit_are_refused_before_anything_is_read(make_request):
    with pytest.raises(ConfigError) as caught:
        run(make_request(augment=[{"apply": "token_dropout", "rate": 0.1, "replacement_id": 1}]))
    assert str(caught.value) == (
        "config: expected training.augment.0 to change a sequence of token ids, as token_dropout does; found image, which is "
        "uint8 of shape [8, 8, 1]. image takes noise or flip or crop or cutout or brightness: use that, or leave it out."
    )


def test_goes_on_from_the_last_epoch_bit_for_bit(make_request):
    whole = run(make_request(directory="whole"))
    first, recorder = run(make_request(directory="parts", epochs=2)), Recorder()
    rest = run(make_request(directory="parts"), recorder)
    assert rest.first_epoch == 3
    assert recorder.remarks == [(f"going on from {first.weights}", False)]
    assert rest.weight_hash == whole.weight_hash
    assert timeless(rest) == timeless(whole)
    assert (rest.num_steps, rest.num_rows_seen) == (whole.num_steps, whole.num_rows_seen)


@pytest.mark.parametrize(
    "step",
    [
        1,  # the first of an epoch
        17,  # in the middle
        32,  # the last; its epoch is not validated yet
        33,  # the first of the next
        64,
    ],
)
def test_goes_on_from_any_step_bit_for_bit(make_request, step):
    settings = {"epochs": 2, "checkpoints": {"every_steps": step}}
    whole = run(make_request(directory="whole", **settings))

    def stop(kind, **fields):
        # the checkpoint of the step has been written when the next thing is told
        if (kind == "step" and fields["step"] == step + 1) or (kind == "validation" and fields["step"] == step):
            raise StoppedError

    with pytest.raises(StoppedError):
        run(make_request(directory="parts", **settings), stop)
    rest = run(make_request(directory="parts", **settings))
    assert (rest.first_epoch, rest.first_step) == ((step - 1) // 32 + 1, step + 1)
    assert rest.weight_hash == whole.weight_hash
    assert timeless(rest) == timeless(whole)
    assert (rest.num_steps, rest.num_rows_seen) == (64, 2 * 1500)


def timeless(result):
    return [{**row, "rows_per_second": 0} for row in result.rows]


def test_saves_by_the_clock(make_request, tmp_path):
    """A clock that is always over makes a checkpoint after each step."""
    run(make_request(epochs=1, checkpoints={"every_minutes": 1e-9, "keep": 100}))
    found = sorted(file.name for file in (tmp_path / "checkpoints").glob("*/*.ckpt"))
    assert found == [*(f"epoch-000000-step-{step:08d}.ckpt" for step in range(1, 33)), "epoch-000001.ckpt"]


def test_stops_early_with_the_weights_of_the_best_epoch(make_request):
    recorder = Recorder()
    settings = {"epochs": 9, "early_stop": {"patience": 5, "min_delta": 100.0}, "checkpoints": {"keep": 1}}
    result = run(make_request(directory="early", **settings), recorder)
    assert {row["epoch"] for row in result.rows} == {1, 2, 3, 4, 5, 6}
    assert (result.epoch, result.num_steps, result.num_rows_seen) == (1, 32, 1500)
    assert result.weights.endswith("epoch-000001.ckpt")
    assert result.weight_hash == run(make_request(directory="one", epochs=1)).weight_hash
    assert recorder.remarks == [("no better for 5 epochs: the weights are those of epoch 1", False)]
    again = run(make_request(directory="early", **settings))
    assert (again.weight_hash, again.rows, again.epoch, again.first_epoch) == (result.weight_hash, result.rows, 1, 7)


def test_no_good_epoch_keeps_the_last(make_request, monkeypatch):
    """A validation loss that is no number improves on nothing."""
    monkeypatch.setattr(EvaluationStep, "__call__", lambda *_: Sums(float("nan"), 1.0, 0.0))
    recorder = Recorder()
    settings = {"epochs": 9, "early_stop": {"patience": 2}}
    result = run(make_request(directory="early", **settings), recorder)
    assert (result.epoch, result.num_steps) == (2, 64)
    assert result.weight_hash == run(make_request(directory="two", epochs=2)).weight_hash
    assert recorder.remarks == [("no better for 2 epochs: the weights are those of epoch 2", False)]
    assert run(make_request(directory="early", **settings)).weight_hash == result.weight_hash


def test_stops_early_with_the_last_weights_where_asked_to(make_request):
    recorder = Recorder()
    run(make_request(epochs=9, early_stop={"patience": 2, "min_delta": 100.0, "restore_best": False}), recorder)
    assert recorder.remarks == [("no better for 2 epochs: the weights are those of epoch 3", False)]


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_best_epoch_that_cannot_be_read_gives_way_to_the_newest(make_request, how):
    settings = {"epochs": 9, "early_stop": {"patience": 2, "min_delta": 100.0}}
    best = run(make_request(**settings))
    Path(best.weights).write_bytes(b"something") if how == "damaged" else Path(best.weights).unlink()
    found = {
        "damaged": "9 bytes that do not match their checksum",
        "gone": f"[Errno 2] No such file or directory: '{best.weights}'",
    }
    for _ in range(2):
        recorder = Recorder()
        again = run(make_request(**settings), recorder)
        note = f"the best epoch's {best.weights} is passed over: {found[how]}"
        assert (again.epoch, again.num_steps, again.rows, again.notes) == (3, 96, best.rows, (note,))
        assert again.weights.endswith("epoch-000003.ckpt")
        assert recorder.remarks == [(note, True), ("no better for 2 epochs: the weights are those of epoch 3", False)]


def test_pictures_that_cannot_be_written_do_not_end_the_run(make_request, tmp_path):
    (tmp_path / "file").write_text("in the way")
    recorder = Recorder()
    result = run(replace(make_request(epochs=2), board=str(tmp_path / "file" / "board")), recorder)
    assert result.epoch == 2
    ((message, warns),) = recorder.remarks  # once
    assert message == f"what TensorBoard shows is not written: [Errno 20] Not a directory: '{tmp_path}/file/board'"
    assert warns


def test_early_stop_needs_rows_to_validate_on(make_request):
    with pytest.raises(PlanError) as caught:
        run(replace(make_request(early_stop={}), validation=None))
    assert str(caught.value) == (
        "training: expected rows to validate on, for training.early_stop; found none. "
        "Give split.validation or split.fractions.validation some rows, or leave early_stop out."
    )


def test_finished_run_is_not_done_again(make_request):
    first = run(make_request(epochs=2))
    recorder = Recorder()
    again = run(make_request(epochs=2), recorder)
    assert again.first_epoch == 3
    assert (again.weight_hash, again.weights, again.rows) == (first.weight_hash, first.weights, first.rows)
    assert {kind for kind, _ in recorder.events} == {"wait", "checkpoint"}  # which is read


def test_other_settings_start_anew(make_request):
    first = run(make_request(epochs=1))
    other = run(make_request(epochs=1, optimizer={"learning_rate": 0.01}))
    assert other.first_epoch == 1
    assert other.weight_hash != first.weight_hash
    assert other.notes == ()
    assert read_checkpoint(first.weights).progress.epoch == 1  # stays as it was


def test_checkpoint_gives_the_trained_model(make_request):
    request = make_request(epochs=1)
    result = run(request)
    from millrace.models.build import build_model

    model = build_model(request.model, input_shape=(8, 8, 1), divisor=16.0, num_classes=10, seed=0)
    load_weights(result.weights, model)
    for mine, saved in zip(model.get_weights(), read_checkpoint(result.weights).weights, strict=True):
        assert (mine == saved).all()


def test_without_validation_rows(make_request, digits_uri):
    from millrace.loading.index import build_index

    nothing = build_index(digits_uri, version=0, partitions={"split": "test"})
    for validation in (None, nothing):
        result = run(replace(make_request(epochs=1, directory=str(validation is None)), validation=validation))
        assert {row["split"] for row in result.rows} == {"train"}


def test_label_without_value_is_refused(make_request):
    with pytest.raises(ContractError, match="expected column no_digit with no nulls; found 1 nulls in 100 rows"):
        run(make_request(label="no_digit"))


def test_memory_over_the_limit_is_refused(make_request):
    with pytest.raises(PlanError, match="expected at most 1,000 bytes of decoded rows in a worker"):
        run(make_request(memory_limit_bytes=1000))


def test_request_survives_json(make_request, tmp_path):
    request = make_request()
    assert TrainRequest.from_json(request.to_json()) == request
    index = tmp_path / "index.json"
    index.write_text(request.train.to_json())
    by_address = replace(request, train=str(index), validation=None)
    assert TrainRequest.from_json(by_address.to_json()) == by_address
    assert run(replace(by_address, training=request.training.model_copy(update={"epochs": 1}))).num_rows_seen == 1500


def test_batch_that_shards_do_not_divide_is_refused(make_request):
    with pytest.raises(PlanError, match="found 5 shards and a batch of 48 rows"):
        run(make_request(virtual_shards=5))
