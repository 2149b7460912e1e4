"""From a pipeline's `model` section to a Keras model."""

from __future__ import annotations

import keras

from millrace.config.models import ModelConfig
from millrace.models.mlp import build_mlp


def build_model(
    config: ModelConfig,
    *,
    input_shape: tuple[int, ...],
    divisor: float,
    num_classes: int,
    seed: int,
    input_name: str = "features",
) -> keras.Model:
    """The model of `config.family`: (batch, *input_shape) uint8 -> (batch, num_classes) float32 logits, before any training."""
    match config.family:
        case "mlp":
            return build_mlp(
                config,
                input_shape=input_shape,
                divisor=divisor,
                num_classes=num_classes,
                seed=seed,
                input_name=input_name,
            )
