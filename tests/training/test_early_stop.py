"""When training ends early."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.config.optimizing import EarlyStopConfig
from millrace.training.early_stop import Verdict, judge

NAN = float("nan")


@pytest.mark.parametrize(
    ("config", "values", "stops", "best_epoch"),
    [
        ({}, [], False, 0),
        ({}, [0.9], False, 1),
        ({"patience": 2}, [0.9, 0.8, 0.85], False, 2),
        ({"patience": 2}, [0.9, 0.8, 0.85, 0.8], True, 2),  # equal is no better
        ({"patience": 2}, [0.9, 0.8, 0.85, 0.79], False, 4),
        ({"patience": 2, "min_delta": 0.1}, [0.9, 0.85, 0.81], True, 1),  # each by too little, also both together
        ({"patience": 2, "min_delta": 0.25}, [1.0, 0.875, 0.75], False, 3),  # by as much as asked for, against the best
        ({"patience": 1, "metric": "accuracy"}, [0.5, 0.6, 0.7], False, 3),
        ({"patience": 1, "metric": "accuracy"}, [0.5, 0.6, 0.6], True, 2),
        ({"patience": 2}, [NAN, NAN], True, 0),  # no number is no improvement
        ({"patience": 2}, [NAN, 0.5, NAN], False, 2),
    ],
)
def test_verdicts(config, values, stops, best_epoch):
    found = judge(EarlyStopConfig.model_validate(config), values)
    assert found == Verdict(stops=stops, best_epoch=best_epoch, kept_epoch=best_epoch or len(values))


def test_without_restoring_the_last_epoch_is_kept():
    assert judge(EarlyStopConfig(restore_best=False), [0.9, 0.8, 0.85]).kept_epoch == 3


@given(st.lists(st.floats(-1e6, 1e6), max_size=20), st.integers(1, 5), st.floats(0.0, 1.0))
def test_a_run_stops_after_exactly_patience_epochs_without_improvement(values, patience, min_delta):
    config = EarlyStopConfig(patience=patience, min_delta=min_delta)
    verdicts = [judge(config, values[:epoch]) for epoch in range(len(values) + 1)]
    for epoch, verdict in enumerate(verdicts):
        assert verdict.stops == (epoch - verdict.best_epoch >= patience)
        if verdict.best_epoch and min_delta == 0.0:
            assert values[verdict.best_epoch - 1] == min(values[:epoch])
