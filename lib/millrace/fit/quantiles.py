"""Quantiles from counts in buckets: mergeable, and the same whatever the order of the rows.

As in DDSketch (Masson, Rim and Lee, 2019), a bucket is so wide as its numbers are large. Here it is the numbers that share sign,
exponent and the first bits of the mantissa, so that no logarithm is needed: at first all 52, which is the numbers themselves, and
so many fewer as it takes to have MAX_BUCKETS buckets, but never fewer than 10, which is 0.1 % of the number. How many that are is
a function of the numbers alone, since a set of them never has fewer buckets than a part of it. So quantiles are exact for up to
MAX_BUCKETS different numbers, and beyond them near where numbers are far from zero and close to each other too (longitudes of one
city, seconds since 1970).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import floor
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_BUCKETS = 1 << 13
_ALL_BITS = 52
_LEAST_BITS = 10
_PENDING = 1 << 17

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sketch:
    """(key, count) in the order of the keys, which is the order of the numbers. A bucket's number is its end next to 0."""

    buckets: tuple[tuple[int, int], ...] = ()
    bits: int = _ALL_BITS
    """Of the mantissa."""

    def __add__(self, other: Sketch) -> Sketch:
        bits = min(self.bits, other.bits)
        parts = [_coarser(*each._columns(), each.bits - bits) for each in (self, other)]
        return _sketch(*_bounded(*_merged(parts), bits))

    def _columns(self) -> tuple[Integers, Integers]:
        columns = np.array(self.buckets, np.int64).reshape(-1, 2)
        return columns[:, 0], columns[:, 1]

    def quantile(self, share: float) -> float:
        """Linear between the two nearest ranks, as numpy.quantile's default. 0 without numbers."""
        total = sum(count for _, count in self.buckets)
        if total == 0:
            return 0.0
        rank = share * (total - 1)
        low, high = self._at(floor(rank)), self._at(min(floor(rank) + 1, total - 1))
        between = rank - floor(rank)
        return low * (1 - between) + high * between

    def _at(self, rank: int) -> float:
        seen = 0
        key = 0
        for key, count in self.buckets:  # noqa: B007 (used after the loop)
            seen += count
            if seen > rank:
                break
        bits = np.array([abs(key) << (_ALL_BITS - self.bits)], dtype=np.int64)
        return float(bits.view(np.float64)[0]) * (-1 if key < 0 else 1)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"bits": self.bits, "buckets": self.buckets}

    @classmethod
    def from_json(cls, found: Any) -> Sketch:
        """What `to_json` gave, also by way of a JSON text. Older states have the buckets alone, of 10 bits."""
        bits, buckets = (found["bits"], found["buckets"]) if isinstance(found, dict) else (_LEAST_BITS, found)
        return cls(tuple((key, count) for key, count in buckets), bits)


class SketchBuilder:
    """Counts batches; holds _PENDING numbers and at most 2^22 buckets."""

    def __init__(self) -> None:
        self._bits = _ALL_BITS
        self._counts = (np.zeros(0, np.int64), np.zeros(0, np.int64))
        self._pending: list[npt.NDArray[np.float64]] = []

    def add(self, numbers: npt.NDArray[np.float64]) -> None:
        """Finite numbers (rows,)."""
        self._pending.append(numbers)
        if sum(map(len, self._pending)) >= _PENDING:
            self._count()

    def sketch(self) -> Sketch:
        """What was counted."""
        self._count()
        return _sketch(*self._counts, self._bits)

    def _count(self) -> None:
        bits = np.concatenate([*self._pending, np.zeros(0)]).view(np.int64)
        self._pending = []
        sizes = (bits & 0x7FFF_FFFF_FFFF_FFFF) >> (_ALL_BITS - self._bits)
        each = (np.where(bits < 0, -sizes, sizes), np.ones_like(sizes))
        keys, counts, self._bits = _bounded(*_merged([self._counts, each]), self._bits)
        self._counts = keys, counts


def _merged(parts: Iterable[tuple[Integers, Integers]]) -> tuple[Integers, Integers]:
    """Keys in order, each once, and how often they come."""
    keys, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(keys, kind="stable")
    return _summed(keys[order], counts[order])


def _summed(keys: Integers, counts: Integers) -> tuple[Integers, Integers]:
    if len(keys) == 0:
        return keys, counts
    begins = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return keys[begins], np.add.reduceat(counts, begins)


def _coarser(keys: Integers, counts: Integers, bits: int) -> tuple[Integers, Integers]:
    """Buckets of so many bits fewer."""
    return _summed(np.sign(keys) * (np.abs(keys) >> bits), counts)


def _bounded(keys: Integers, counts: Integers, bits: int) -> tuple[Integers, Integers, int]:
    while len(keys) > MAX_BUCKETS and bits > _LEAST_BITS:
        keys, counts = _coarser(keys, counts, 1)
        bits -= 1
    return keys, counts, bits


def _sketch(keys: Integers, counts: Integers, bits: int) -> Sketch:
    return Sketch(tuple(zip(keys.tolist(), counts.tolist(), strict=True)), bits)
