"""Sums without rounding, so that neither the order of rows nor their partitions show in a mean or a deviation.

A float is an integer times a power of two: the integers are added exactly for each power (Demmel and Hida, 2004), and the total
is a Python integer. NumPy only.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

UNIT = 1126
"""A total is in units of 2**-1126, of which every float64 is a whole number; a total of squares in units of 2**-2252."""
_BITS = 27
_MASK = (1 << _BITS) - 1


def exact_sums(values: npt.NDArray[np.float64] | npt.NDArray[np.int64], times: npt.NDArray[np.int64]) -> tuple[int, int]:
    """The total and the total of squares of finite numbers (n,), float64 or int64, in units as above, where each is there so many
    times (n,): less than 2**26 together."""
    if not len(values):
        return 0, 0
    if values.dtype.kind == "i":
        largest = max(abs(int(values.min())), abs(int(values.max())))
        if largest >= 1 << 53:
            numbers = list(zip(values.tolist(), times.tolist(), strict=True))
            total, squares = (sum(number**power * time for number, time in numbers) for power in (1, 2))
            return total << UNIT, squares << 2 * UNIT
        parts, powers = values.astype(np.int64), np.zeros(len(values), np.int64)
    else:
        fractions, exponents = np.frexp(values)
        parts, powers = np.ldexp(fractions, 53).astype(np.int64), exponents.astype(np.int64) - 53
    lowest = int(powers.min())
    groups = powers - lowest
    high, low = parts >> _BITS, parts & _MASK
    total = squares = 0
    sums = [_sum_by_group(groups, each, times) for each in (parts, high * high, high * low, low * low)]
    for group, (part, high_high, high_low, low_low) in enumerate(zip(*sums, strict=True)):
        shift = group + lowest + UNIT
        total += part << shift
        squares += ((high_high << 2 * _BITS) + (high_low << _BITS + 1) + low_low) << 2 * shift
    return total, squares


def mean_of(total: int, count: int) -> float | None:
    """The mean, rounded once; None of no numbers."""
    return total / (count << UNIT) if count else None


def deviation_of(total: int, squares: int, count: int) -> float | None:
    """The sample's standard deviation (n - 1); None of fewer than two numbers, and where it is no float."""
    if count < 2:
        return None
    try:
        return math.sqrt((count * squares - total * total) / (count * (count - 1) << 2 * UNIT))
    except OverflowError:
        return None


def _sum_by_group(groups: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64], times: npt.NDArray[np.int64]) -> list[int]:
    """Exact sums of integers below 2**54 by group: halves, added as floats, stay whole numbers below 2**53."""
    high = np.bincount(groups, weights=(numbers >> _BITS) * times)
    low = np.bincount(groups, weights=(numbers & _MASK) * times)
    return [(int(above) << _BITS) + int(below) for above, below in zip(high.tolist(), low.tolist(), strict=True)]
