"""The blocks that families are made of: a layer with weights, then batch norm, activation and dropout as the config asks."""

from __future__ import annotations

from itertools import count
from typing import Any

import keras

from millrace.config.network import ModelConfig
from millrace.models.target import Target


class Blocks:
    """Makes one model's blocks. Each layer has a seed of its own: those of equal size must not start with equal weights."""

    def __init__(self, config: ModelConfig, *, seed: int) -> None:
        self._config = config
        self._seeds = ((seed * 1_000_003 + number) % 2**31 for number in count())

    def dense(self, x: Any, units: int, *, name: str) -> Any:
        """Dense -> batch norm -> activation -> dropout. x: (batch, values) -> (batch, units)"""
        layer = keras.layers.Dense(units, use_bias=self._has_bias, name=name, **self._kernel())
        return self.drop_out(self.activate(layer(x), name=name), name=name)

    def convolution(self, x: Any, filters: int, kernel_size: int, *, name: str) -> Any:
        """Convolution -> batch norm -> activation. x: (batch, height, width, channel) -> (batch, height, width, filters)"""
        layer = keras.layers.Conv2D(filters, kernel_size, padding="same", use_bias=self._has_bias, name=name, **self._kernel())
        return self.activate(layer(x), name=name)

    def logits(self, x: Any, num_classes: int) -> Any:
        """The last layer, in float32 whatever the others compute in. x: (batch, values) -> (batch, num_classes)"""
        return keras.layers.Dense(num_classes, dtype="float32", name="logits", **self._kernel())(x)

    def number(self, x: Any, target: Target) -> Any:
        """The last layers of a number's model, in float32 as well: one unit, then its unit. x: (batch, values) -> (batch, 1)"""
        z = keras.layers.Dense(1, dtype="float32", name="number", **self._kernel())(x)
        if target.changes_nothing:
            return z
        return keras.layers.Rescaling(target.scale, offset=target.mean, dtype="float32", name="unit")(z)

    def activate(self, x: Any, *, name: str) -> Any:
        """Batch norm where asked for, then the activation. Any shape, which stays."""
        if self._config.batch_norm:
            x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
        return keras.layers.Activation(self._config.activation, name=f"{name}_activation")(x)

    def drop_out(self, x: Any, *, name: str) -> Any:
        """Dropout where asked for. Any shape, which stays."""
        if not self._config.dropout:
            return x
        return keras.layers.Dropout(self._config.dropout, seed=next(self._seeds), name=f"{name}_dropout")(x)

    @property
    def _has_bias(self) -> bool:
        return not self._config.batch_norm  # which has one of its own

    def _kernel(self) -> dict[str, Any]:
        regularizer = keras.regularizers.L2(self._config.l2) if self._config.l2 else None
        return {
            "kernel_initializer": keras.initializers.GlorotUniform(seed=next(self._seeds)),
            "kernel_regularizer": regularizer,
        }
