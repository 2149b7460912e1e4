"""What every reloaded export is: a function from raw rows to probabilities, or to a number.

B is the number of rows of a batch, K the number of classes; 1 where the model predicts a number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.errors import ExportError

Batch = npt.NDArray[Any]
Inputs = Batch | Mapping[str, Batch]
"""The only input of a model, (B, *shape) in its type, or all of its inputs by their names."""
Scores = npt.NDArray[np.float32]

CHUNK_ROWS = 1024
"""Rows that go through the model at once: what a prediction holds in memory does not grow with B beyond its input and output."""
STRING = "string"


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What an input takes: the shape of one row and the type of its elements, string for texts."""

    shape: tuple[int, ...]
    dtype: str

    def fits(self, batch: Batch) -> bool:
        """Whether the batch is (B, *shape) of this very type."""
        same_type = batch.dtype.kind in "OSU" if self.dtype == STRING else batch.dtype == np.dtype(self.dtype)
        return batch.ndim > 0 and batch.shape[1:] == self.shape and same_type

    def __str__(self) -> str:
        return f"a {self.dtype} batch of shape ({', '.join(map(str, ('rows', *self.shape)))})"


@dataclass(frozen=True)
class Predictor:
    """Raw rows -> (B, K) float32: probabilities, or the number. Any B, 0 included; `run` is given at most CHUNK_ROWS at a time.

    Raises ExportError for inputs of other names, shapes or types than `takes`: TensorFlow would cast them, and a scaled image
    would be scaled a second time.
    """

    run: Callable[[dict[str, Batch]], Scores]
    """The inputs by name, (rows, *shape) each -> (rows, K)."""
    takes: Mapping[str, InputSpec]
    num_scores: int
    """K."""

    def __call__(self, inputs: Inputs) -> Scores:
        """The scores of some rows."""
        named = _named(inputs, self.takes)
        num_rows = len(next(iter(named.values())))
        scores = np.empty((num_rows, self.num_scores), np.float32)
        for start in range(0, num_rows, CHUNK_ROWS):
            chunk = {name: batch[start : start + CHUNK_ROWS] for name, batch in named.items()}
            scores[start : start + CHUNK_ROWS] = self.run(chunk)
        return scores


def _named(inputs: Inputs, takes: Mapping[str, InputSpec]) -> dict[str, Batch]:
    """The inputs by name, checked."""
    if not isinstance(inputs, Mapping):
        if len(takes) > 1:
            raise _refused(f"the inputs {', '.join(takes)} by name", "a single array", "Give a mapping of raw columns.")
        inputs = {next(iter(takes)): inputs}
    if set(inputs) != set(takes):
        raise _refused(f"the inputs {', '.join(takes)}", ", ".join(inputs) or "none", "Give each raw column by its name.")
    for name, spec in takes.items():
        batch = inputs[name]
        if not spec.fits(batch):
            where = f"{name} as " if len(takes) > 1 else ""
            remedy = "Give the raw column as silver has it: scaling is inside the model."
            raise _refused(f"{where}{spec}", f"{batch.dtype} of shape {batch.shape}", remedy)
    sizes = {name: len(inputs[name]) for name in takes}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{size} of {name}" for name, size in sizes.items())
        raise _refused("as many rows of each input", found, "Give the columns of the same rows.")
    return {name: inputs[name] for name in takes}


def _refused(expected: str, found: str, remedy: str) -> ExportError:
    return ExportError("predict", expected=expected, found=found, remedy=remedy)
