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
@given(numbers=FLOATS | INTEGERS)
def test_sums_are_exact(numbers: list[float] | list[int]) -> None:
    kind = np.int64 if all(isinstance(number, int) for number in numbers) and numbers else np.float64
    total, squares = exact_sums(np.array(numbers, kind))
    assert Fraction(total, 2**UNIT) == sum(map(Fraction, numbers))
    assert Fraction(squares, 2 ** (2 * UNIT)) == sum(Fraction(number) ** 2 for number in numbers)


def test_a_large_batch() -> None:
    numbers = np.random.default_rng(0).normal(1e9, 1.0, 50_000)
    total, squares = exact_sums(numbers)
    assert Fraction(total, 2**UNIT) == sum(map(Fraction, numbers.tolist()))
    assert mean_of(total, len(numbers)) == math.fsum(numbers) / len(numbers)
    assert deviation_of(total, squares, len(numbers)) == pytest.approx(numbers.std(ddof=1), rel=1e-9)
    whole = np.random.default_rng(0).integers(-(2**52), 2**52, 10_000)
    assert exact_sums(whole) == exact_sums(whole[::-1]) == exact_sums(whole.astype(np.float64))


def test_few_and_huge_numbers() -> None:
    assert (mean_of(0, 0), deviation_of(0, 0, 0), deviation_of(*exact_sums(np.array([1.5])), 1)) == (None, None, None)
    total, squares = exact_sums(np.array([1.7e308, 1.7e308, -1.7e308]))
    assert mean_of(total, 3) == pytest.approx(1.7e308 / 3)
    assert deviation_of(total, squares, 3) is None  # its square is no float
    assert deviation_of(*exact_sums(np.array([2.0, 4.0])), 2) == math.sqrt(2)
