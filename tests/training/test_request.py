"""What makes a run another run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from millrace.config.training import TrainingConfig
from millrace.loading.columns import ColumnSpec
from millrace.models.target import Target
from millrace.training.request import NOT_IN_FINGERPRINT

OTHERS = {
    "optimizer": {"name": "sgd"},
    "batch_size": 24,
    "seed": 6,
    "virtual_shards": 4,
    "shuffle_bytes": 65 * 48,
    "precision": "mixed_bfloat16",
    "micro_batches": 2,
    "compression": "fp16",
}
BY_THE_LABEL = {"loss"}


def fingerprint(request) -> str:
    return request.fingerprint(request.plan(request.train))


@pytest.mark.parametrize("key", sorted(OTHERS))
def test_settings_that_weights_depend_on(make_request, key):
    assert fingerprint(make_request(**{key: OTHERS[key]})) != fingerprint(make_request())


@pytest.mark.parametrize(
    "settings",
    [{"epochs": 9}, {"num_workers": 3}, {"checkpoints": {"every_steps": 7}}, {"heartbeat_timeout_seconds": 99.0}],
    ids=str,
)
def test_settings_that_weights_do_not_depend_on(make_request, settings):
    assert fingerprint(make_request(**settings)) == fingerprint(make_request())


def test_no_setting_is_forgotten():
    assert set(TrainingConfig.model_fields) == set(OTHERS) | BY_THE_LABEL | NOT_IN_FINGERPRINT


def test_augmentations(make_request):
    flips = [{"apply": "flip"}, {"apply": "flip", "vertical": 0.5}]
    found = [make_request(augment=chosen) for chosen in ([], flips[:1], flips[1:], flips, flips[::-1])]
    assert len({fingerprint(each) for each in found}) == 5
    assert [type(each).from_json(each.to_json()) for each in found] == found

    vector = ColumnSpec(name="features", dtype="float32", shape=(3,))
    noise = replace(make_request(augment=[{"apply": "noise", "scale": 1}]), feature=vector, divisor=None)
    found = [noise, *(replace(noise, places={"age": places, "fare": (2,)}) for places in ((0,), (0, 1)))]
    assert len({fingerprint(each) for each in found}) == 3
    assert [type(each).from_json(each.to_json()) for each in found] == found
    assert [each.changes[0].places for each in found] == [None, (0, 2), (0, 1, 2)]


def test_class_weights_and_model(make_request):
    request = make_request()
    weighted = replace(request, class_weights=(1.0,) * 9 + (2.0,))
    wider = replace(request, model=request.model.model_copy(update={"dropout": 0.5}))
    assert len({fingerprint(each) for each in (request, weighted, wider)}) == 3
    assert type(weighted).from_json(weighted.to_json()) == weighted


def test_requests_of_old_keep_their_names(make_request):
    """Checkpoints lie under it: a new kind of label must not give those of the others new names."""
    request = make_request()
    plan = request.plan(request.train)
    parts = [
        plan.fingerprint(),
        request.model.model_dump(mode="json"),
        request.training.model_dump(mode="json", exclude=NOT_IN_FINGERPRINT),
        None,
        None,
        {"name": "image", "dtype": "uint8", "shape": (8, 8, 1), "length_buckets": (), "padding": 0},
        16.0,
        "digit",
        10,
    ]
    assert fingerprint(request) == hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    assert parts[2]["loss"] == "cross_entropy"


def test_a_numbers_loss_and_target(make_request):
    def of(loss: str, *target: float):
        training = make_request().training.model_copy(update={"loss": loss})
        return replace(make_request(), training=training, num_classes=1, target=Target(*target))

    found = [make_request(), of("mse", 3.0, 2.0), of("mae", 3.0, 2.0), of("mse", 3.0, 2.5), of("mse")]
    assert len({fingerprint(each) for each in found}) == 5
    assert [type(each).from_json(each.to_json()) for each in found] == found
    assert [each.columns[1].dtype for each in found] == ["int32", *["float32"] * 4]


def test_a_cosine_to_the_end_knows_how_long_the_run_is(make_request):
    def with_decay(epochs: int, **decay: object) -> str:
        schedule = {"decay": {"kind": "cosine", **decay}}
        return fingerprint(make_request(epochs=epochs, optimizer={"schedule": schedule}))

    assert with_decay(4) != with_decay(9)
    assert with_decay(4, steps=100) == with_decay(9, steps=100)
