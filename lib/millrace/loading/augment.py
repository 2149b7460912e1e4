"""Training rows changed at random, in whole batches: a pure function of the rows and of what `draws` gives for their places."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
)
from millrace.config.load import nearest
from millrace.errors import ConfigError
from millrace.loading.check_augment import check_fits
from millrace.loading.columns import ColumnSpec
from millrace.loading.draws import Draws, key_of
from millrace.loading.plan import Ints

Values = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Change:
    """An augmentation and what it falls on."""

    config: AugmentationConfig
    spec: ColumnSpec
    places: tuple[int, ...] | None = None
    """Of a vector, the numbers that change; None: all of a row."""


def changes_of(
    configs: Sequence[AugmentationConfig],
    features: Sequence[ColumnSpec],
    *,
    where: str,
    places: Mapping[str, tuple[int, ...]] | None = None,
) -> tuple[Change, ...]:
    """Which of the features each augmentation falls on.

    `places`, where the only feature is a vector made of several columns, has those numbers of it that may change, by column: an
    augmentation that names no column changes all of them. Raises ConfigError, with `where` they stand, for a column that is not
    there and one that an augmentation does not fit.
    """
    changes = []
    for number, config in enumerate(configs):
        here = f"{where}.{number}"
        names = list(places) if places is not None else [spec.name for spec in features]
        chosen = _column(config, names, here, one_of_several=places is None)
        spec = features[0] if places is not None else next(each for each in features if each.name == chosen)
        check_fits(config, spec, here)
        numbers = None
        if places is not None:
            numbers = tuple(sorted(place for name in names if chosen in (None, name) for place in places[name]))
        changes.append(Change(config=config, spec=spec, places=numbers))
    return tuple(changes)


def _column(config: AugmentationConfig, names: Sequence[str], here: str, *, one_of_several: bool) -> str | None:
    """The column that is named, or the only one there is; None for all of a vector."""
    if config.column in names or (config.column is None and len(names) > 1 and not one_of_several):
        return config.column
    if config.column is None and len(names) == 1:
        return names[0]
    raise ConfigError(
        "config",
        expected=f"{here}.column to name a feature that {config.apply} can change",
        found="no column" if config.column is None else f"'{config.column}'",
        remedy=nearest(config.column or "", names) if names else "Leave it out: the features have no numbers.",
    )


def augment(
    columns: Mapping[str, Values],
    changes: Sequence[Change],
    *,
    seed: int,
    epoch: int,
    positions: Ints,
    lengths: Mapping[str, Ints] | None = None,
) -> None:
    """Changes a batch in place, one augmentation after the other.

    `columns` by name, (rows, *shape) or (rows, bucket) of sequences with `lengths`; of each the first `positions.size` rows are
    changed and the rest is padding, which stays. Types and shapes stay.
    """
    for number, change in enumerate(changes):
        rows = columns[change.spec.name][: positions.size]
        changed = _changed(rows, change, Draws(key_of(seed, epoch, number), positions))
        if change.spec.is_ragged:
            assert lengths is not None
            known = lengths[change.spec.name][: positions.size]
            changed = np.where(np.arange(rows.shape[1]) < known[:, np.newaxis], changed, rows)
        rows[...] = changed


def _changed(rows: Values, change: Change, draws: Draws) -> Values:
    config = change.config
    if isinstance(config, NoiseConfig):
        return _noise(rows, config, draws, change.places)
    if isinstance(config, BrightnessConfig):
        return _brightness(rows, config, draws)
    if isinstance(config, FlipConfig):
        return _flip(rows, config, draws)
    if isinstance(config, CropConfig):
        return _crop(rows, config, draws)
    if isinstance(config, CutoutConfig):
        return _cutout(rows, config, draws)
    dropped = (draws.fractions(rows.shape[1]) < config.rate) & (rows != config.pad_id)
    return np.where(dropped, np.asarray(config.replacement_id, rows.dtype), rows)


def _noise(rows: Values, config: NoiseConfig, draws: Draws, places: tuple[int, ...] | None) -> Values:
    if places is not None:
        changed = rows.copy()
        changed[:, places] = _noise(rows[:, places], config, draws, None)
        return changed
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
        total = rows + delta  # float32
        return np.clip(np.rint(total, out=total), 0, 255, out=total).astype(np.uint8)
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
