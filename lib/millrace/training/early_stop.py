"""Whether training goes on: a pure function of the validation metric after each epoch (Prechelt, 1998)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from millrace.config.optimizing import EarlyStopConfig


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the epochs so far say."""

    stops: bool
    """No epoch of the last `patience` has improved on the best before it."""
    best_epoch: int
    """The last epoch that has improved, from 1; 0 before the first."""
    kept_epoch: int
    """The epoch, from 1, whose weights are the run's if it ends now: the best, or the last, as where none is the best;
    0 before the first."""


def judge(config: EarlyStopConfig, values: Sequence[float]) -> Verdict:
    """The verdict on the metric's values after epochs 1, 2, ...; there is no other state, so a resumed run judges alike.

    An epoch improves where it is better than the best so far by at least `min_delta`, and better at all; the first one does. No
    number (NaN) never improves.
    """
    sign = 1.0 if config.metric == "accuracy" else -1.0
    best_epoch, best = 0, -float("inf")
    for epoch, value in enumerate(values, start=1):
        gain = sign * value - best
        if gain > 0.0 and gain >= config.min_delta:
            best_epoch, best = epoch, sign * value
    return Verdict(
        stops=len(values) - best_epoch >= config.patience,
        best_epoch=best_epoch,
        kept_epoch=best_epoch if config.restore_best and best_epoch else len(values),
    )
