"""Wilson's interval: known values, and the equation that defines it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.evaluation.intervals import Z_95, wilson_interval


@pytest.mark.parametrize(
    ("num_hits", "num_trials", "low", "high"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17, 1998, table I
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_examples(num_hits: int, num_trials: int, low: float, high: float) -> None:
    assert wilson_interval(num_hits, num_trials) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_bounds_solve_the_score_equation_and_hold_the_proportion(case: tuple[int, int]) -> None:
    num_hits, num_trials = case
    share = num_hits / num_trials
    bounds = wilson_interval(num_hits, num_trials)
    assert bounds is not None
    assert 0.0 <= bounds[0] <= share <= bounds[1] <= 1.0
    for bound in bounds:
        # |share - p| = z * sqrt(p (1 - p) / n) at both ends
        assert abs(share - bound) == pytest.approx(Z_95 * math.sqrt(bound * (1 - bound) / num_trials), abs=1e-6)


def test_all_hits_reach_one() -> None:
    bounds = wilson_interval(10, 10)
    assert bounds == (pytest.approx(0.7225, abs=1e-4), 1.0)


def test_no_trials_have_no_interval() -> None:
    assert wilson_interval(0, 0) is None


@pytest.mark.parametrize(("num_hits", "num_trials"), [(3, 2), (-1, 2)])
def test_impossible_counts_are_refused(num_hits: int, num_trials: int) -> None:
    with pytest.raises(ValueError, match=f"^num_hits must be within 0 and num_trials=2, and is {num_hits}$"):
        wilson_interval(num_hits, num_trials)
