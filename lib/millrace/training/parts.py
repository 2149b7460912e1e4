"""In how many parts a rank computes its rows of a batch."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from millrace.config.training import TrainingConfig

_CACHE_BYTES = 12 * 1024**2
"""What the outputs of all layers may take for one part. 128 rows of a small convolutional network, 45 MiB, took 6 to 12 % less
time in four parts; with more than one thread, which share the rows of a part, they took longer."""


def parts_for(model: keras.Model, training: TrainingConfig, *, num_rows: int) -> int:
    """As many as training.micro_batches asks for. auto: where one thread computes, as many as keep what the layers give within a
    CPU's cache; one on a GPU, and where batch norm would see other rows for it. `num_rows` are a rank's of a whole batch."""
    if training.micro_batches != "auto":
        return int(training.micro_batches)
    normalizes = any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)
    if normalizes or training.threads_per_worker > 1 or tf.config.list_physical_devices("GPU"):
        return 1
    row_bytes: int = sum(4 * math.prod(layer.output.shape[1:]) for layer in model.layers)
    return max(1, min(num_rows, round(num_rows * row_bytes / _CACHE_BYTES)))
