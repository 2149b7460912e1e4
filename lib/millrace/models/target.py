"""The unit of a number that a model predicts: fitted on the train split, and fixed inside the model's last layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.errors import QualityError


@dataclass(frozen=True)
class Target:
    """What a network gives is z = (y - mean) / scale, and its last layer makes y of it."""

    mean: float = 0.0
    scale: float = 1.0

    @property
    def changes_nothing(self) -> bool:
        """Whether z is y."""
        return self == STANDARD


STANDARD = Target()
"""z itself: what a network is trained to give, and what a label that is not standardised is."""


def fit_target(batches: Callable[[], Iterable[npt.NDArray[Any]]], *, label: str) -> Target:
    """Mean and standard deviation (of the rows, not of a population that they stand for) of a label.

    `batches` gives the labels of the train split, (rows,) each, and is called twice. The sums are exactly rounded, so neither the
    order of rows nor their partitioning changes a bit. A label that never changes keeps its size: scale 1. Raises QualityError
    where there is no row, or a label is no finite number.
    """
    num_rows, total = 0, 0.0

    def values() -> Iterator[float]:
        nonlocal num_rows
        for batch in batches():
            numbers = np.asarray(batch, dtype=np.float64)
            if not np.isfinite(numbers).all():
                found = f"{numbers[~np.isfinite(numbers)][0]}"
                raise _refused(
                    f"finite numbers in {label}", found, "Quarantine such rows: give the label a range in the contract."
                )
            num_rows += len(numbers)
            yield from numbers.tolist()

    total = math.fsum(values())
    if not num_rows:
        raise _refused("rows of the train split", "none", "Look at split.fractions.")
    mean = total / num_rows
    squares = math.fsum(square for batch in batches() for square in ((np.asarray(batch, np.float64) - mean) ** 2).tolist())
    scale = math.sqrt(squares / num_rows)
    return Target(mean, scale if scale > 0.0 else 1.0)


def _refused(expected: str, found: str, remedy: str) -> QualityError:
    return QualityError("train", expected=expected, found=found, remedy=remedy)
