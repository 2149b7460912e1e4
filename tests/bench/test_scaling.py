"""Scaling on paper: the formulas, the models' sizes, and the tables in SCALING.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import scaling
from bench.training_peers import IMAGE_SHAPE, MODELS, NUM_CLASSES
from millrace.models.build import build_model
from millrace.training.request import MODEL

SETTING = scaling.Setting(
    num_parameters=249_995, compute_seconds=0.1, bytes_per_second=1e9, latency_seconds=1e-4, cycle_seconds=0.002, jitter=0.0
)
"""A buffer of 1 MB with its five sums."""


@pytest.mark.parametrize(("ranks", "expected"), [(1, 0.0), (2, 1.0e6), (4, 1.5e6), (1000, 1.998e6)])
def test_bytes_of_a_ring(ranks: int, expected: float) -> None:
    assert scaling.bytes_sent(SETTING.num_parameters, ranks) == pytest.approx(expected)


def test_sums_are_counted_as_a_step_sends_them() -> None:
    from millrace.training import step

    assert scaling.NUM_SUMS == step.NUM_SUMS + 1  # the wish for a checkpoint behind them


def test_one_rank_pays_nothing() -> None:
    assert scaling.step_seconds(SETTING, 1) == SETTING.compute_seconds
    assert scaling.efficiency(SETTING, 1) == 1.0


def test_a_step_of_four_ranks_by_hand() -> None:
    # half a cycle, 2 * 2 messages to agree; 2 * 3 messages and 1.5 MB in the ring
    assert scaling.waiting_seconds(SETTING, 4) == pytest.approx(0.001 + 0.0004)
    assert scaling.ring_seconds(SETTING, 4) == pytest.approx(0.0006 + 0.0015)
    assert scaling.step_seconds(SETTING, 4) == pytest.approx(0.1 + 0.0014 + 0.0021)


def test_big_models_travel_in_chunks_that_wait_for_one_another() -> None:
    big = replace(SETTING, num_parameters=2 * 64 * 2**20 // 4)  # the sums do not fit into two chunks of 64 MiB
    assert [scaling.num_chunks(setting.num_parameters) for setting in (SETTING, big)] == [1, 3]
    assert scaling.waiting_seconds(big, 4) == pytest.approx(3 * 0.0014)


def test_more_ranks_are_never_more_efficient() -> None:
    for setting in scaling.SETTINGS.values():
        shares = [scaling.efficiency(setting, ranks) for ranks in scaling.RANKS]
        assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("model", MODELS)
def test_parameters_are_those_of_the_models(model: str) -> None:
    config = MODEL.validate_python(MODELS[model])
    built = build_model(config, input_shape=IMAGE_SHAPE, divisor=255.0, num_classes=NUM_CLASSES, seed=0)
    assert built.count_params() == scaling.PARAMETERS[model]


def test_the_document_has_the_tables() -> None:
    text = (Path(scaling.__file__).parent / "SCALING.md").read_text()
    assert text.endswith(scaling.document())
