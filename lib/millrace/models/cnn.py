"""A convolutional network for images: blocks of convolution and pooling, then dense layers (LeCun et al., 1998)."""

from __future__ import annotations

from typing import Any

import keras

from millrace.config.network import CnnConfig
from millrace.models.blocks import Blocks


def convolve(x: Any, config: CnnConfig, blocks: Blocks) -> Any:
    """One block for each of `config.filters`. x: (batch, height, width, channel) -> (batch, height, width, channel)"""
    for number, filters in enumerate(config.filters):
        name = f"block_{number}"
        x = blocks.convolution(x, filters, config.kernel_size, name=name)
        x = blocks.drop_out(_pool(x, config.pooling, name=f"{name}_pool"), name=name)
    return x


def _pool(x: Any, kind: str, *, name: str) -> Any:
    """Height and width halved, rounded up, so that no image is too small for it."""
    if kind == "none":
        return x
    layer = keras.layers.MaxPooling2D if kind == "max" else keras.layers.AveragePooling2D
    return layer(pool_size=2, padding="same", name=name)(x)
