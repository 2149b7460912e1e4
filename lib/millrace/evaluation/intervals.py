"""Confidence intervals of proportions, means and medians."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Z_95 = 1.959963984540054
"""The 0.975 quantile of the standard normal distribution: a two-sided interval of 95 %."""


def wilson_interval(num_hits: int, num_trials: int, *, z: float = Z_95) -> tuple[float, float] | None:
    """Lower and upper bound of the proportion num_hits / num_trials, within [0, 1]; None without trials.

    Wilson's score interval (E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 22, 1927, 209-212), without continuity correction. It holds its level near 0 and 1, where
    accuracies live and the normal approximation gives an empty interval. Underlying assumption: rows are independent draws.
    Raises ValueError where num_hits is not within [0, num_trials].
    """
    if not 0 <= num_hits <= num_trials:
        raise ValueError(f"num_hits must be within 0 and num_trials={num_trials}, and is {num_hits}")
    if num_trials == 0:
        return None
    share = num_hits / num_trials
    spread = z * z / num_trials
    centre = (share + spread / 2.0) / (1.0 + spread)
    half = z * math.sqrt(share * (1.0 - share) / num_trials + spread / (4.0 * num_trials)) / (1.0 + spread)
    # At 0 and at num_trials the bound is exact; rounding would put it beside the proportion itself.
    low = 0.0 if num_hits == 0 else max(0.0, centre - half)
    high = 1.0 if num_hits == num_trials else min(1.0, centre + half)
    return low, high


def mean_interval(values: npt.NDArray[Any], *, lowest: float = -math.inf, z: float = Z_95) -> tuple[float, float] | None:
    """Lower and upper bound of a mean by the normal theory: mean +- z * s / sqrt(N), not below `lowest`; None for fewer than 2.

    values: (N,). Underlying assumptions: rows are independent draws, and enough for the central limit theorem.
    """
    if len(values) < 2:
        return None
    half = z * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values))
    return max(lowest, mean - half), mean + half


def median_interval(values: npt.NDArray[Any], *, z: float = Z_95) -> tuple[float, float] | None:
    """Lower and upper bound of a median by order statistics, whatever the distribution; None for fewer than 6 values.

    values: (N,). The ranks, N/2 - z * sqrt(N)/2 and 1 + N/2 + z * sqrt(N)/2, rounded outwards, come from the normal approximation
    of the binomial (W. J. Conover, Practical Nonparametric Statistics, 3rd edition, 1999, section 3.2). Of fewer than 6 values
    even the least and the greatest hold less than 95 %.
    """
    size = len(values)
    if size < 6:
        return None
    ordered = np.sort(values)
    half = z * math.sqrt(size) / 2.0
    low, high = math.floor(size / 2.0 - half), math.ceil(1.0 + size / 2.0 + half)  # ranks from 1
    return float(ordered[max(low, 1) - 1]), float(ordered[min(high, size) - 1])
