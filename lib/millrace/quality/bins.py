"""Numbers in bins by their first bits: sign, exponent and some of the fraction, so that with 6 a bin is 1/64 of its numbers wide.

Counts of bins add up, in any order and over any partitions, to the same quantiles and histograms; nothing is sampled or merged by
chance (as in the sketches of Masson, Rim and Lee, 2019, whose bins are logarithms). NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

BITS = 6
TIME_BITS = 12
"""Of the fraction; more for days and microseconds since 1970, of which 1/64 would be most of a year."""


def bin_counts(values: npt.NDArray[np.float64], times: npt.NDArray[np.int64], *, bits: int = BITS) -> dict[int, int]:
    """Bin -> how many of the finite numbers (n,) lie in it, where each is there so many times (n,). Bins are in the order of the
    numbers."""
    whole = (values + 0.0).view(np.int64)  # + 0.0: there is one zero
    positions = (whole & np.int64(2**63 - 1)) >> (52 - bits)
    bins = np.where(whole < 0, -positions - 1, positions)
    order = np.argsort(bins)
    bins = bins[order]
    begins = np.flatnonzero(np.append(True, bins[1:] != bins[:-1])[: bins.size])
    counts = np.add.reduceat(times[order], begins) if begins.size else begins
    return dict(zip(bins[begins].tolist(), counts.tolist(), strict=True))


def bin_range(number: int, *, bits: int = BITS) -> tuple[float, float]:
    """The smallest and the largest number of a bin."""
    position = number if number >= 0 else -number - 1
    dropped = 52 - bits
    first, last = (float(np.int64(end).view(np.float64)) for end in (position << dropped, ((position + 1) << dropped) - 1))
    return (first, last) if number >= 0 else (-last, -first)


def quantile_bin(bins: Mapping[int, int], share: float) -> int:
    """The bin of the smallest number that has at least `share` of the numbers at or below it. There is at least one number."""
    rank = max(1, math.ceil(share * sum(bins.values())))
    ordered = sorted(bins)
    below = np.cumsum([bins[each] for each in ordered])
    return ordered[int(np.searchsorted(below, rank))]


def quantile(bins: Mapping[int, int], share: float, *, whole: bool, bits: int = BITS) -> float:
    """About that number: within 1/128 of it (6 bits), and exact for whole numbers below 128."""
    first, last = bin_range(quantile_bin(bins, share), bits=bits)
    if whole:
        low, high = math.ceil(first), math.floor(last)
        return float((low + high) // 2)
    return 0.0 if first <= 0.0 <= last else first + (last - first) / 2


def counts_between(bins: Mapping[int, int], ends: Sequence[int]) -> list[int]:
    """How many numbers lie in bins up to the first end, after it up to the second, ..., after the last."""
    counts = [0] * (len(ends) + 1)
    for place, count in zip(np.searchsorted(np.asarray(ends, np.int64), list(bins)).tolist(), bins.values(), strict=True):
        counts[place] += count
    return counts
