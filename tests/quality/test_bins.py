"""Bins: every number lies in its own, in order; quantiles are as near as they say; counts add up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.quality.bins import TIME_BITS, bin_counts, bin_range, counts_between, quantile, quantile_bin

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def counts_of(numbers: np.ndarray, **options: int) -> dict[int, int]:
    """Of numbers that are there once each."""
    return bin_counts(numbers, np.ones(len(numbers), np.int64), **options)


@settings(deadline=None)
@given(number=FINITE, other=FINITE, bits=st.sampled_from([6, TIME_BITS]))
def test_a_number_lies_in_its_bin_and_bins_are_in_order(number: float, other: float, bits: int) -> None:
    (mine,), (theirs,) = (counts_of(np.array([each]), bits=bits) for each in (number, other))
    first, last = bin_range(mine, bits=bits)
    assert first <= number <= last
    assert mine == theirs or (mine < theirs) == (number < other)
    if 1e-300 < abs(number) < 1e300:
        assert last - first <= abs(number) / 2**bits


def test_zeros_are_one() -> None:
    assert counts_of(np.array([0.0, -0.0])) == {0: 2}
    assert bin_counts(np.array([0.0, 5e-324, -0.0]), np.array([3, 1, 2])) == {0: 6}
    assert quantile({0: 2}, 0.5, whole=False) == 0.0


@settings(deadline=None)
@given(numbers=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), share=st.floats(0.0, 1.0))
def test_quantiles(numbers: list[float], share: float) -> None:
    exact = sorted(numbers)[max(1, math.ceil(share * len(numbers))) - 1]
    assert quantile(counts_of(np.array(numbers)), share, whole=False) == pytest.approx(exact, rel=1 / 127, abs=1e-300)


@settings(deadline=None)
@given(numbers=st.lists(st.integers(-127, 127), min_size=1, max_size=60), share=st.floats(0.0, 1.0))
def test_small_whole_numbers_are_exact(numbers: list[int], share: float) -> None:
    exact = sorted(numbers)[max(1, math.ceil(share * len(numbers))) - 1]
    assert quantile(counts_of(np.array(numbers, np.float64)), share, whole=True) == exact


def test_counts_between() -> None:
    bins = counts_of(np.array([-5.0, 1.0, 1.0, 2.0, 3.0, 9.0]))
    ends = [quantile_bin(bins, 0.5), max(bins)]
    assert counts_between(bins, ends) == [3, 3, 0]
    assert counts_between(bins, [min(bins) - 1, *ends]) == [0, 3, 3, 0]
    assert counts_between({}, ends) == [0, 0, 0]
