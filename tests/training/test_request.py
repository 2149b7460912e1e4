"""What makes a run another run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from millrace.config.training import TrainingConfig
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
ONLY_ONE_VALUE = {"loss"}


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
    assert set(TrainingConfig.model_fields) == set(OTHERS) | ONLY_ONE_VALUE | NOT_IN_FINGERPRINT


def test_class_weights_and_model(make_request):
    request = make_request()
    weighted = replace(request, class_weights=(1.0,) * 9 + (2.0,))
    wider = replace(request, model=request.model.model_copy(update={"dropout": 0.5}))
    assert len({fingerprint(each) for each in (request, weighted, wider)}) == 3
    assert type(weighted).from_json(weighted.to_json()) == weighted


def test_a_cosine_to_the_end_knows_how_long_the_run_is(make_request):
    def with_decay(epochs: int, **decay: object) -> str:
        schedule = {"decay": {"kind": "cosine", **decay}}
        return fingerprint(make_request(epochs=epochs, optimizer={"schedule": schedule}))

    assert with_decay(4) != with_decay(9)
    assert with_decay(4, steps=100) == with_decay(9, steps=100)
