"""Which augmentation fits which column."""

from __future__ import annotations

import numpy as np

from millrace.config.augmentation import (
    AugmentationConfig,
    BrightnessConfig,
    CropConfig,
    CutoutConfig,
    NoiseConfig,
    TokenDropoutConfig,
)
from millrace.errors import ConfigError
from millrace.loading.columns import ColumnSpec

IMAGE = "an image of shape [height, width, channel]"
_TAKES = {
    "noise": "numbers of type uint8 or float",
    "flip": IMAGE,
    "crop": IMAGE,
    "brightness": "an image",
    "cutout": IMAGE,
    "token_dropout": "a sequence of token ids",
}


def check_fits(config: AugmentationConfig, spec: ColumnSpec, here: str) -> None:
    """Raises ConfigError, with the place `here` in a config, where the column is of another kind, or nothing would be left of it
    or be changed."""
    fitting = augmentations_for(spec)
    if config.apply not in fitting:
        takes = f"takes {' or '.join(fitting)}: use that" if fitting else "takes nothing of the kind: name another column"
        raise ConfigError(
            "config",
            expected=f"{here} to change {_TAKES[config.apply]}, as {config.apply} does",
            found=f"{spec.name}, which is {_described(spec)}",
            remedy=f"{spec.name} {takes}, or leave it out.",
        )
    if isinstance(config, NoiseConfig | BrightnessConfig) and spec.dtype == "uint8":
        name, size = ("scale", config.scale) if isinstance(config, NoiseConfig) else ("max_delta", config.max_delta)
        if size < 0.5:
            raise ConfigError(
                "config",
                expected=f"{here}.{name} of 0.5 or more, since {spec.name} holds whole numbers from 0 to 255",
                found=f"{size}, which is rounded away",
                remedy="Give it in the units of the stored column, before any divisor.",
            )
    if isinstance(config, CropConfig | CutoutConfig):
        name, pixels = ("padding", config.padding) if isinstance(config, CropConfig) else ("size", config.size)
        height, width, _ = spec.shape
        if pixels >= min(height, width):
            raise ConfigError(
                "config",
                expected=f"{here}.{name} below the smaller side of {spec.name}, {min(height, width)} pixels",
                found=f"{pixels}, which may leave nothing of an image",
                remedy="An eighth to a quarter of the side is usual.",
            )
    if isinstance(config, TokenDropoutConfig):
        most = int(np.iinfo(spec.numpy_dtype).max)
        if max(config.replacement_id, config.pad_id) > most:
            raise ConfigError(
                "config",
                expected=f"{here} with ids up to {most}, since {spec.name} holds {spec.dtype}",
                found=f"{max(config.replacement_id, config.pad_id)}",
                remedy="Take ids of the column's own vocabulary.",
            )


def augmentations_for(spec: ColumnSpec) -> list[str]:
    """What may be applied to a column, by name."""
    if spec.numpy_dtype.kind == "f" or spec.dtype == "uint8":
        fitting = ["noise"]
    elif spec.numpy_dtype.kind in "iu" and (spec.shape == () if spec.is_ragged else len(spec.shape) == 1):
        fitting = ["token_dropout"]
    else:
        fitting = []
    if spec.is_ragged:
        return fitting
    if len(spec.shape) == 3:
        fitting += ["flip", "crop", "cutout"]
    if (spec.dtype == "uint8" and spec.shape) or (spec.numpy_dtype.kind == "f" and len(spec.shape) == 3):
        fitting.append("brightness")
    return fitting


def _described(spec: ColumnSpec) -> str:
    if spec.is_ragged:
        return f"a sequence of {spec.dtype}" + (f" of shape {list(spec.shape)}" if spec.shape else "")
    if len(spec.shape) < 2:
        return f"a vector of {spec.dtype}" if spec.shape else f"one {spec.dtype} a row"
    return f"{spec.dtype} of shape {list(spec.shape)}"
