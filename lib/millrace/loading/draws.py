"""Random words for rows: a pure function of (seed, epoch, the row's position in the epoch, the number of what they are for).

A row's position is its place in the sequence of global batches, step * G + its place in the global batch, which names one row of
the dataset for a given plan and epoch and does not depend on the number of ranks or threads. So neither does anything drawn.

Words are made by a counter (SplitMix64's mixer, Steele et al., 2014), not drawn in turn: a row's words do not depend on which
rows lie beside it. Gaussian numbers are looked up in a table of quantiles, because NumPy's logarithm may round differently from
one machine, and one place in an array, to the next.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from millrace.loading.plan import Ints, PlanSpec

Words = npt.NDArray[np.uint64]

SCHEME = "millrace-augment-1"  # changes whenever the same numbers would give another change
_QUANTILES = 1 << 16
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def positions_of(spec: PlanSpec, shards: range, step: int) -> Ints:
    """The positions in the epoch of the rows that a rank with these shards has in a step, in its batch's order. (rows,) int64"""
    parts = []
    for shard in shards:
        rows = max(0, min(spec.rows_per_step, spec.shard_rows(shard) - step * spec.rows_per_step))
        parts.append(step * spec.global_batch + shard * spec.rows_per_step + np.arange(rows, dtype=np.int64))
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


def key_of(seed: int, epoch: int, number: int) -> int:
    """The key of all words that something, by its number, needs in an epoch. 64 bits"""
    digest = hashlib.sha256(f"{SCHEME}|{seed}|{epoch}|{number}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


@dataclass(frozen=True)
class Draws:
    """Random words for some rows."""

    key: int
    positions: Ints
    """(rows,) int64"""

    def words(self, count: int, *, purpose: int = 0) -> Words:
        """`count` words for each row, others for every purpose. (rows, count) uint64"""
        key = np.uint64((self.key + purpose * 0xD1342543DE82EF95) & 0xFFFFFFFFFFFFFFFF)
        with np.errstate(over="ignore"):
            rows = _mixed(_mixed(self.positions.astype(np.uint64) * _GOLDEN + key) + key)
            return _mixed(rows[:, np.newaxis] + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN)

    def fractions(self, count: int, *, purpose: int = 0) -> npt.NDArray[np.float64]:
        """Numbers from 0 up to, not including, 1. (rows, count) float64"""
        return np.asarray((self.words(count, purpose=purpose) >> np.uint64(11)) * 2.0**-53)

    def below(self, limit: int, *, purpose: int) -> Ints:
        """A whole number from 0 to limit - 1 for each row. (rows,) int64"""
        return np.asarray((self.fractions(1, purpose=purpose)[:, 0] * limit).astype(np.int64))

    def gaussian(self, count: int) -> npt.NDArray[np.float32]:
        """Standard normal numbers, of 65,536 different ones. (rows, count) float32"""
        words = self.words(-(-count // 4)).view(np.uint16)
        return np.asarray(_quantiles()[words[:, :count]])


def _mixed(words: Words) -> Words:
    words = (words ^ (words >> np.uint64(30))) * _MIX[0]
    words = (words ^ (words >> np.uint64(27))) * _MIX[1]
    return np.asarray(words ^ (words >> np.uint64(31)))


@cache
def _quantiles() -> npt.NDArray[np.float32]:
    """The normal distribution's quantiles in the middle of 65,536 equal parts. (65536,) float32"""
    normal = NormalDist()
    upper = np.array([normal.inv_cdf((part + 0.5) / _QUANTILES) for part in range(_QUANTILES // 2, _QUANTILES)])
    return np.asarray(np.concatenate([-upper[::-1], upper]), dtype=np.float32)
