"""What every reloaded export is: a function from a raw batch to probabilities.

B is the number of rows of a batch, K the number of classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.errors import ExportError

Batch = npt.NDArray[Any]
Probabilities = npt.NDArray[np.float32]
Predictor = Callable[[Batch], Probabilities]
"""(B, *shape) in the model's input type, uint8 for images -> (B, K) float32. Any B, 0 included."""

CHUNK_ROWS = 1024
"""Rows that go through the model at once: what a prediction holds in memory does not grow with B beyond its input and output."""


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What a model takes: the shape of one row and the type of its elements."""

    shape: tuple[int, ...]
    dtype: str


def in_chunks(run: Callable[[Batch], Probabilities], *, takes: InputSpec, num_classes: int) -> Predictor:
    """A predictor that gives `run` at most CHUNK_ROWS rows at a time.

    run: (rows, *shape) -> (rows, K) float32. The predictor raises ExportError for a batch of another shape or type: TensorFlow
    would cast it, and a scaled image would be scaled a second time.
    """

    def predict(batch: Batch) -> Probabilities:
        if batch.shape[1:] != takes.shape or batch.dtype != np.dtype(takes.dtype) or batch.ndim == 0:
            raise ExportError(
                "predict",
                expected=f"a {takes.dtype} batch of shape (rows, {', '.join(map(str, takes.shape))})",
                found=f"{batch.dtype} of shape {batch.shape}",
                remedy="Give the raw column as silver has it: scaling is inside the model.",
            )
        probabilities = np.empty((len(batch), num_classes), np.float32)
        for start in range(0, len(batch), CHUNK_ROWS):
            chunk = batch[start : start + CHUNK_ROWS]
            probabilities[start : start + len(chunk)] = run(chunk)
        return probabilities

    return predict
