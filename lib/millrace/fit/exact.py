"""Sums of floats without any rounding, so that neither order nor partitioning nor merging changes a bit of mean and deviation.

A float64 is a whole number of 2^-1074. A chunk is cut into slices of 20 bits, each a vector of small whole numbers, whose sums
and dot products float64 holds exactly (8,192 rows: 2^13 * 2^40 = 2^53); the chunks' sums are added up as Python's whole numbers.
The slicing is that of Ogita, Rump and Oishi's error-free transformations (Accurate Sum and Dot Product, 2005).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]

_UNIT = 1074
"""Sums count 2^-1074, sums of squares 2^-2148."""
_BITS = 20
_CHUNK_ROWS = 8192
_SPAN = 64
"""Numbers of a chunk that are smaller than its greatest by more than 2^64 are summed up apart: few slices each time."""


@dataclass(frozen=True)
class Moments:
    """How many numbers, their sum in units of 2^-1074, the sum of their squares in units of 2^-2148."""

    count: int = 0
    total: int = 0
    squares: int = 0

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.count + other.count, self.total + other.total, self.squares + other.squares)

    @classmethod
    def of(cls, numbers: Reals) -> Moments:
        """Of finite numbers (rows,)."""
        total = squares = 0
        for start in range(0, len(numbers), _CHUNK_ROWS):
            for group, exponent in _groups(numbers[start : start + _CHUNK_ROWS]):
                chunk_total, chunk_squares = _sums(group, exponent)
                total, squares = total + chunk_total, squares + chunk_squares
        return cls(len(numbers), total, squares)

    @property
    def mean(self) -> float:
        """The nearest float to the true mean; 0 without numbers."""
        return float(Fraction(self.total, self.count << _UNIT)) if self.count else 0.0

    @property
    def deviation(self) -> float:
        """The square root of the mean squared distance from the mean, divided by n, within one unit in the last place."""
        numerator = self.count * self.squares - self.total**2
        if numerator <= 0:
            return 0.0
        denominator = self.count**2 << (2 * _UNIT)
        shift = 160 - (numerator.bit_length() - denominator.bit_length())
        shift += shift % 2
        scaled = (numerator << shift) // denominator if shift >= 0 else numerator // (denominator << -shift)
        root, half = isqrt(scaled), shift // 2
        return float(Fraction(root, 1 << half) if half >= 0 else Fraction(root << -half))

    def to_json(self) -> list[int | str]:
        """[count, sum, sum of squares], the sums as mantissa and power of two."""
        return [self.count, _to_text(self.total, -_UNIT), _to_text(self.squares, -2 * _UNIT)]

    @classmethod
    def from_json(cls, found: list[int | str]) -> Moments:
        """What `to_json` gave."""
        count, total, squares = found
        return cls(int(count), _from_text(str(total), -_UNIT), _from_text(str(squares), -2 * _UNIT))


def _groups(numbers: Reals) -> Iterator[tuple[Reals, int]]:
    """Parts of a chunk with an exponent e each: 2^(e - 65) <= |x| < 2^e. Zeros are left out where they stand alone."""
    rest = numbers
    while len(rest):
        sizes = np.abs(rest)
        exponent = int(np.frexp(sizes.max())[1])
        if not sizes.any():
            return
        small = sizes < np.ldexp(1.0, max(exponent - 1 - _SPAN, -1074))
        if not (sizes[small] > 0).any():
            yield rest, exponent
            return
        yield rest[~small], exponent
        rest = rest[small]


def _sums(numbers: Reals, exponent: int) -> tuple[int, int]:
    """Sum and sum of squares of one group."""
    slices: list[Reals] = []  # numbers = sum over k of slices[k] * 2^(exponent - 20 (k + 1))
    rest = np.ldexp(numbers, _BITS - exponent)
    while rest.any():
        whole = np.rint(rest)
        slices.append(whole)
        rest = (rest - whole) * float(1 << _BITS)
    total = squares = 0
    for k, part in enumerate(slices):
        total += _shifted(int(part.sum()), exponent - _BITS * (k + 1) + _UNIT)
        for j in range(k, len(slices)):
            product = int(np.dot(part, slices[j])) * (1 if j == k else 2)
            squares += _shifted(product, 2 * exponent - _BITS * (k + j + 2) + 2 * _UNIT)
    return total, squares


def _shifted(number: int, by: int) -> int:
    """number * 2^by; a negative `by` drops zeros only."""
    return number << by if by >= 0 else number >> -by


def _to_text(number: int, exponent: int) -> str:
    zeros = (number & -number).bit_length() - 1 if number else 0
    return f"{number >> zeros}p{exponent + zeros if number else 0}"


def _from_text(text: str, exponent: int) -> int:
    mantissa, _, power = text.partition("p")
    return int(mantissa) << (int(power) - exponent) if int(mantissa) else 0
