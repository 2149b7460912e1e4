"""From a pipeline's `model` section to a Keras model: what all families share, and which one builds the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from millrace.config.network import CnnConfig, ModelConfig
from millrace.models.blocks import Blocks
from millrace.models.cnn import convolve
from millrace.models.target import Target


def build_model(
    config: ModelConfig,
    *,
    input_shape: tuple[int, ...],
    divisor: float | None,
    num_classes: int,
    seed: int,
    precision: str = "float32",
    input_name: str = "features",
    target: Target | None = None,
) -> keras.Model:
    """The model of `config.family`: (batch, *input_shape) -> (batch, num_classes) float32 logits, before any training.

    Its input is uint8 and divided by `divisor`; without one it is float32 and taken as it is. With a `target` the model gives a
    number instead, (batch, 1) float32, in the target's unit; num_classes is then 1. STANDARD leaves it standardised,
    as training has it: the weights are the same ones in the same order.
    The initial weights depend on `seed` and the sizes alone. `precision` is a Keras dtype policy: what the layers compute in;
    their weights are float32 in any case. Only Keras's own layers are used, so that every export reloads without custom objects.
    """
    blocks = Blocks(config, seed=seed)
    with _policy(precision):
        raw = keras.Input(shape=input_shape, dtype="float32" if divisor is None else "uint8", name=input_name)
        x = raw if divisor is None else keras.layers.Rescaling(1.0 / divisor, name="scale")(raw)
        if isinstance(config, CnnConfig):
            x = convolve(x, config, blocks)
        x = keras.layers.Flatten(name="flatten")(x)
        for number, units in enumerate(config.hidden):
            x = blocks.dense(x, units, name=f"hidden_{number}")
        outputs = blocks.logits(x, num_classes) if target is None else blocks.number(x, target)
        return keras.Model(raw, outputs, name=config.family)


@contextmanager
def _policy(name: str) -> Iterator[None]:
    """Layers that are made meanwhile compute by this policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
