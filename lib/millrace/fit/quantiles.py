"""Quantiles within 0.1 % of the value, from counts in buckets: mergeable, and the same whatever the order of the rows.

As in DDSketch (Masson, Rim and Lee, 2019), a bucket is so wide as its numbers are large. Here it is the numbers that share sign,
exponent and the first 10 bits of the mantissa, so that no logarithm is needed and whole numbers below 2,048 are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

import numpy as np
import numpy.typing as npt

_KEPT_BITS = 10
_SHIFT = 52 - _KEPT_BITS
_PENDING = 1 << 17
_DENSE = 1 << 16
"""Ranges of keys up to this width are counted by place, others by sorting."""


@dataclass(frozen=True)
class Sketch:
    """(key, count) in the order of the keys, which is the order of the numbers. A bucket's number is its end next to 0."""

    buckets: tuple[tuple[int, int], ...] = ()

    def __add__(self, other: Sketch) -> Sketch:
        counts = dict(self.buckets)
        for key, count in other.buckets:
            counts[key] = counts.get(key, 0) + count
        return Sketch(tuple(sorted(counts.items())))

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
        bits = np.array([abs(key) << _SHIFT], dtype=np.int64)
        return float(bits.view(np.float64)[0]) * (-1 if key < 0 else 1)


class SketchBuilder:
    """Counts batches; holds the keys of _PENDING rows and at most 2^22 counts."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._pending: list[npt.NDArray[np.int32]] = []

    def add(self, numbers: npt.NDArray[np.float64]) -> None:
        """Finite numbers (rows,)."""
        bits = np.ascontiguousarray(numbers).view(np.int64)
        sizes = (bits & 0x7FFF_FFFF_FFFF_FFFF) >> _SHIFT
        self._pending.append(np.where(bits < 0, -sizes, sizes).astype(np.int32))
        if sum(map(len, self._pending)) >= _PENDING:
            self._count()

    def sketch(self) -> Sketch:
        """What was counted."""
        self._count()
        return Sketch(tuple(sorted(self._counts.items())))

    def _count(self) -> None:
        keys = np.concatenate([*self._pending, np.zeros(0, np.int32)])
        self._pending = []
        if len(keys) == 0:
            return
        first = int(keys.min())
        if int(keys.max()) - first < _DENSE:
            dense = np.bincount(keys - first)
            found = np.flatnonzero(dense)
            each, counts = found + first, dense[found]
        else:
            each, counts = np.unique(keys, return_counts=True)
        for key, count in zip(each.tolist(), counts.tolist(), strict=True):
            self._counts[key] = self._counts.get(key, 0) + count
