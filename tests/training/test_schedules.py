"""The learning rate of every step."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.config.optimizing import OptimizerConfig
from millrace.training.schedules import LearningRate, depends_on_num_steps


def rates(config: dict, *, batch_size: int = 128, num_steps: int = 12) -> list[float]:
    """The rate of every step of a run."""
    schedule = LearningRate(config=OptimizerConfig.model_validate(config), batch_size=batch_size, num_steps=num_steps)
    return [schedule.at(step) for step in range(num_steps)]


def test_the_rate_stays_where_nothing_else_is_asked_for():
    assert rates({"learning_rate": 0.05}) == [0.05] * 12


@pytest.mark.parametrize(
    ("rule", "batch_size", "peak"),
    [
        ("linear", 1024, 0.4),  # Goyal et al.: k times the batch, k times the rate
        ("linear", 64, 0.025),
        ("sqrt", 1024, 0.2),  # Krizhevsky: its root
        ("sqrt", 256, 0.1),
    ],
)
def test_scaling(rule, batch_size, peak):
    config = {"learning_rate": 0.1, "schedule": {"scaling": rule, "reference_batch": 256}}
    assert rates(config, batch_size=batch_size) == pytest.approx([peak] * 12)


def test_warm_up_is_part_of_the_scaled_rate():
    schedule = {"scaling": "linear", "reference_batch": 256, "warmup_steps": 4}
    found = rates({"learning_rate": 0.1, "schedule": schedule}, batch_size=1024, num_steps=6)
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_step_decay_counts_from_the_end_of_the_warm_up():
    schedule = {"warmup_steps": 2, "decay": {"kind": "step", "steps": 3, "factor": 0.5}}
    found = rates({"learning_rate": 1.0, "schedule": schedule}, num_steps=10)
    assert found == pytest.approx([0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25])


def test_cosine_ends_and_stays():
    schedule = {"warmup_steps": 1, "decay": {"kind": "cosine", "steps": 4, "final_ratio": 0.2}}
    found = rates({"learning_rate": 1.0, "schedule": schedule}, num_steps=8)
    quarter = 0.2 + 0.8 * 0.5 * (1 + math.sqrt(0.5))
    assert found == pytest.approx([1.0, 1.0, quarter, 0.6, 0.2 + 1.0 - quarter, 0.2, 0.2, 0.2])


def test_cosine_of_the_whole_run_takes_its_last_step_above_the_end():
    found = rates({"learning_rate": 1.0, "schedule": {"decay": {"kind": "cosine"}}}, num_steps=4)
    assert found == pytest.approx([1.0, 0.5 * (1 + math.sqrt(0.5)), 0.5, 0.5 * (1 - math.sqrt(0.5))])


@pytest.mark.parametrize(
    ("decay", "depends"),
    [({"kind": "cosine"}, True), ({"kind": "cosine", "steps": 9}, False), ({"kind": "step", "steps": 9}, False), (None, False)],
)
def test_only_a_cosine_without_an_end_depends_on_the_length_of_the_run(decay, depends):
    schedule = {} if decay is None else {"decay": decay}
    config = OptimizerConfig.model_validate({"schedule": schedule})
    assert depends_on_num_steps(config) is depends
    lengths = {
        tuple(LearningRate(config=config, batch_size=8, num_steps=length).at(step) for step in range(9)) for length in (9, 20)
    }
    assert (len(lengths) == 2) is depends


@given(
    st.floats(1e-6, 10.0),
    st.integers(0, 50),
    st.one_of(
        st.just({"kind": "constant"}),
        st.fixed_dictionaries({"kind": st.just("cosine"), "final_ratio": st.floats(0.0, 1.0)}),
        st.fixed_dictionaries({"kind": st.just("step"), "steps": st.integers(1, 30), "factor": st.floats(0.01, 0.99)}),
    ),
    st.integers(1, 200),
)
def test_it_rises_to_the_peak_and_never_rises_again(base, warmup_steps, decay, num_steps):
    config = {"learning_rate": base, "schedule": {"warmup_steps": warmup_steps, "decay": decay}}
    found = rates(config, num_steps=num_steps)
    up, down = found[:warmup_steps], found[warmup_steps:]
    assert up == sorted(up)
    assert down == sorted(down, reverse=True)
    assert all(0.0 <= rate <= base * (1 + 1e-12) for rate in found)
    if down:
        assert down[0] == base
