"""What is changed at random in training rows, each epoch anew. Nothing of it is done to rows that are evaluated or served."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from millrace.config.section import Column, Fraction, Positive, Section


class _Augmentation(Section):
    column: Column | None = None
    """Whose values change. None: those of the only image or sequence; of a vector all numbers, but neither one-hots, parts of
    dates nor indicators, which no column names either."""


class NoiseConfig(_Augmentation):
    """x becomes x + dx, with a dx of its own for every number. uint8 is rounded and stays within 0 and 255."""

    apply: Literal["noise"]
    distribution: Literal["gaussian", "uniform"] = "gaussian"
    scale: float = Field(gt=0.0)
    """gaussian: the standard deviation; uniform: dx lies between -scale and scale. In the units of the stored column, which for
    numbers are those after z-score and the like."""


class FlipConfig(_Augmentation):
    """Images of shape (height, width, channel) as in a mirror."""

    apply: Literal["flip"]
    horizontal: Fraction = 0.5
    """How often left and right change places."""
    vertical: Fraction = 0.0
    """How often top and bottom change places."""


class CropConfig(_Augmentation):
    """A window of the image's own size out of the image with a margin of zeros, at random (He et al., 2016)."""

    apply: Literal["crop"]
    padding: Positive
    """Pixels of the margin on each side."""


class BrightnessConfig(_Augmentation):
    """All numbers of a row and one d between -max_delta and max_delta are added; uint8 is rounded and stays within 0 and 255."""

    apply: Literal["brightness"]
    max_delta: float = Field(gt=0.0)
    """In the units of the stored column: 0 to 255 for uint8 images."""


class CutoutConfig(_Augmentation):
    """A square of zeros, its centre anywhere in the image, so that it may reach beyond the edge (DeVries & Taylor, 2017)."""

    apply: Literal["cutout"]
    size: Positive
    """Pixels of a side."""


class TokenDropoutConfig(_Augmentation):
    """Tokens of a sequence replaced at random; padding stays."""

    apply: Literal["token_dropout"]
    rate: Fraction
    """How often a token is replaced."""
    replacement_id: int = Field(ge=0)
    """By what: the id of the OOV or mask token."""
    pad_id: int = Field(default=0, ge=0)
    """What is never replaced."""

    @model_validator(mode="after")
    def _changes_something(self) -> TokenDropoutConfig:
        if self.replacement_id == self.pad_id:
            raise ValueError(f"replacement_id and pad_id are both {self.pad_id}: a dropped token must not look like padding")
        return self


AugmentationConfig = Annotated[
    NoiseConfig | FlipConfig | CropConfig | BrightnessConfig | CutoutConfig | TokenDropoutConfig, Field(discriminator="apply")
]
"""One augmentation; a pipeline has a list of them, applied in its order."""
