"""Exact sums: against fractions, in any order, for the smallest and the largest floats."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.quality.sums import UNIT, deviation_of, exact_sums, mean_of

FLOATS = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=30)
INTEGERS = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30)


@settings(deadline=None)
@given(numbers=FLOATS | INTEGERS, data=st.data())
def test_sums_are_exact(numbers: list[float] | list[int], data: st.DataObject) -> None:
    kind = np.int64 if all(isinstance(number, int) for number in numbers) and numbers else np.float64
    times = data.draw(st.lists(st.integers(1, 2_000_000), min_size=len(numbers), max_size=len(numbers)))
    total, squares = exact_sums(np.array(numbers, kind), np.array(times, np.int64))
    pairs = list(zip(map(Fraction, numbers), times, strict=True))
    assert Fraction(total, 2**UNIT) == sum(number * time for number, time in pairs)
    assert Fraction(squares, 2 ** (2 * UNIT)) == sum(number**2 * time for number, time in pairs)


def once(numbers: np.ndarray) -> tuple[int, int]:
    """The sums of numbers that are there once each."""
    return exact_sums(numbers, np.ones(len(numbers), np.int64))


def test_a_large_batch() -> None:
    numbers = np.random.default_rng(0).normal(1e9, 1.0, 50_000)
    total, squares = once(numbers)
    assert Fraction(total, 2**UNIT) == sum(map(Fraction, numbers.tolist()))
    assert mean_of(total, len(numbers)) == math.fsum(numbers) / len(numbers)
    assert deviation_of(total, squares, len(numbers)) == pytest.approx(numbers.std(ddof=1), rel=1e-9)
    whole = np.random.default_rng(0).integers(-(2**52), 2**52, 10_000)
    assert once(whole) == once(whole[::-1]) == once(whole.astype(np.float64))


def test_few_and_huge_numbers() -> None:
    assert (mean_of(0, 0), deviation_of(0, 0, 0), deviation_of(*once(np.array([1.5])), 1)) == (None, None, None)
    total, squares = once(np.array([1.7e308, 1.7e308, -1.7e308]))
    assert mean_of(total, 3) == pytest.approx(1.7e308 / 3)
    assert deviation_of(total, squares, 3) is None  # its square is no float
    assert deviation_of(*once(np.array([2.0, 4.0])), 2) == math.sqrt(2)
