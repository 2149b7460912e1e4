"""Confidence intervals of proportions."""

from __future__ import annotations

import math

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
