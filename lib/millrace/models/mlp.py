"""A multilayer perceptron."""

from __future__ import annotations

import keras

from millrace.config.models import ModelConfig


def build_mlp(
    config: ModelConfig,
    *,
    input_shape: tuple[int, ...],
    divisor: float,
    num_classes: int,
    seed: int,
    input_name: str = "features",
) -> keras.Model:
    """Scale -> flatten -> dense layers of `config.hidden` units -> logits.

    Takes (batch, *input_shape) uint8 and gives (batch, num_classes) float32 logits. The initial weights depend on `seed` and the
    sizes alone. Only Keras's own layers are used, so that every export reloads without custom objects.
    """
    raw = keras.Input(shape=input_shape, dtype="uint8", name=input_name)
    x = keras.layers.Rescaling(1.0 / divisor, name="scale")(raw)
    x = keras.layers.Flatten(name="flatten")(x)
    for number, units in enumerate(config.hidden):
        x = _dense(units, seed, number, name=f"hidden_{number}", activation=config.activation)(x)
    logits = _dense(num_classes, seed, len(config.hidden), name="logits", activation=None)(x)
    return keras.Model(raw, logits, name="mlp")


def _dense(units: int, seed: int, number: int, *, name: str, activation: str | None) -> keras.layers.Dense:
    # layers of equal size must not start with equal weights, so each has a seed of its own
    initial = keras.initializers.GlorotUniform(seed=(seed * 1_000_003 + number) % 2**31)
    return keras.layers.Dense(units, activation=activation, kernel_initializer=initial, name=name)
