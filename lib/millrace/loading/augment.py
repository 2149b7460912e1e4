"""Training rows changed at random: a pure function of (seed, epoch, the row's position in the epoch, the augmentation's number).

A row's position is its place in the sequence of global batches, step * G + its place in the global batch, which names one row of
the dataset for a given plan and epoch and does not depend on the number of ranks or threads. So neither does any change.

Random words are made by a counter (SplitMix64's mixer, Steele et al., 2014), not drawn in turn: a row's words do not depend on
which rows lie beside it. Gaussian numbers are looked up in a table of quantiles, because NumPy's logarithm may round differently
from one machine, and one place in an array, to the next.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.config.augmentation import (
    AugmentationConfig,
    BrightnessConfig,
    CropConfig,
    CutoutConfig,
    FlipConfig,
    NoiseConfig,
    TokenDropoutConfig,
)
from millrace.errors import PlanError
from millrace.loading.plan import Ints, PlanSpec

Words = npt.NDArray[np.uint64]
Values = npt.NDArray[Any]

SCHEME = "millrace-augment-1"  # changes whenever the same numbers would give another change
_QUANTILES = 1 << 16
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


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


def positions_of(spec: PlanSpec, shards: range, step: int) -> Ints:
    """The positions in the epoch of the rows that a rank with these shards has in a step, in its batch's order. (rows,) int64"""
    parts = []
    for shard in shards:
        rows = max(0, min(spec.rows_per_step, spec.shard_rows(shard) - step * spec.rows_per_step))
        parts.append(step * spec.global_batch + shard * spec.rows_per_step + np.arange(rows, dtype=np.int64))
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


def augment(values: Values, configs: Sequence[AugmentationConfig], *, seed: int, epoch: int, positions: Ints) -> Values:
    """A column's rows after all of its augmentations, one after the other; `values` stay as they are.

    values: (rows, *shape), of which the first `positions.size` rows are changed and the rest is padding. Flips, crops and cutout
    take (rows, height, width, channel), token_dropout (rows, length) of integers. The result has the type and shape of
    `values`. Raises PlanError for a shape or type that an augmentation cannot take.
    """
    num_rows = positions.size
    if not configs or not num_rows:
        return values

    changed = values[:num_rows]
    for number, config in enumerate(configs):
        changed = _one(changed, config, Draws(_key(seed, epoch, number), positions))
    if num_rows == len(values):
        return changed
    return np.concatenate([changed, values[num_rows:]])


def _one(rows: Values, config: AugmentationConfig, draws: Draws) -> Values:
    if isinstance(config, TokenDropoutConfig):
        _check(config.apply, "a batch of sequences of integers", rows, rows.ndim == 2 and rows.dtype.kind in "iu")
        return _token_dropout(rows, config, draws)
    if isinstance(config, NoiseConfig | BrightnessConfig):
        _check(config.apply, "numbers of type uint8 or float", rows, rows.dtype == np.uint8 or rows.dtype.kind == "f")
        return _noise(rows, config, draws) if isinstance(config, NoiseConfig) else _brightness(rows, config, draws)
    _check(config.apply, "a batch of images (rows, height, width, channel)", rows, rows.ndim == 4)
    if isinstance(config, FlipConfig):
        return _flip(rows, config, draws)
    return _crop(rows, config, draws) if isinstance(config, CropConfig) else _cutout(rows, config, draws)


def _noise(rows: Values, config: NoiseConfig, draws: Draws) -> Values:
    count = math.prod(rows.shape[1:])
    if config.distribution == "gaussian":
        delta = draws.gaussian(count) * np.float32(config.scale)
    else:
        delta = ((draws.fractions(count) * 2.0 - 1.0) * config.scale).astype(np.float32)
    return _sum(rows, delta.reshape(rows.shape))


def _brightness(rows: Values, config: BrightnessConfig, draws: Draws) -> Values:
    delta = (draws.fractions(1)[:, 0] * 2.0 - 1.0) * config.max_delta
    return _sum(rows, delta.astype(np.float32).reshape(-1, *[1] * (rows.ndim - 1)))


def _sum(rows: Values, delta: npt.NDArray[np.float32]) -> Values:
    if rows.dtype == np.uint8:
        return np.asarray(np.clip(np.rint(rows.astype(np.float32) + delta), 0, 255).astype(np.uint8))
    return np.asarray((rows + delta).astype(rows.dtype))


def _flip(rows: Values, config: FlipConfig, draws: Draws) -> Values:
    left_right, top_bottom = (draws.fractions(2) < [config.horizontal, config.vertical]).T
    flipped = np.where(left_right[:, None, None, None], rows[:, :, ::-1], rows)
    return np.where(top_bottom[:, None, None, None], flipped[:, ::-1], flipped)


def _crop(rows: Values, config: CropConfig, draws: Draws) -> Values:
    num_rows, height, width, _ = rows.shape
    margin = config.padding
    padded = np.pad(rows, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    top, left = (draws.below(2 * margin + 1, purpose=purpose) for purpose in (1, 2))
    row = np.arange(num_rows)[:, None, None]
    return np.asarray(padded[row, (top[:, None] + np.arange(height))[:, :, None], (left[:, None] + np.arange(width))[:, None, :]])


def _cutout(rows: Values, config: CutoutConfig, draws: Draws) -> Values:
    _, height, width, _ = rows.shape

    def covered(size: int, purpose: int) -> npt.NDArray[np.bool_]:
        first = draws.below(size, purpose=purpose) - config.size // 2  # (rows,)
        place = np.arange(size)
        return np.asarray((place >= first[:, None]) & (place < first[:, None] + config.size))  # (rows, size)

    square = covered(height, 1)[:, :, None] & covered(width, 2)[:, None, :]
    return np.where(square[..., None], np.zeros((), rows.dtype), rows)


def _token_dropout(rows: Values, config: TokenDropoutConfig, draws: Draws) -> Values:
    dropped = (draws.fractions(rows.shape[1]) < config.rate) & (rows != config.pad_id)
    return np.where(dropped, np.asarray(config.replacement_id, rows.dtype), rows)


def _check(name: str, expected: str, rows: Values, fits: bool) -> None:
    if not fits:
        raise PlanError(
            "augment",
            expected=f"{expected} for {name}",
            found=f"shape {rows.shape[1:]} of {rows.dtype}",
            remedy="Name another column, or take it out of the pipeline's augmentations.",
        )


def _key(seed: int, epoch: int, number: int) -> int:
    digest = hashlib.sha256(f"{SCHEME}|{seed}|{epoch}|{number}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


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
