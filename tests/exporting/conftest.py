"""Small models, of plain Keras layers, shaped like those that the pipelines train."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import pytest

from millrace.exporting.serving_model import serving_model


@pytest.fixture(scope="session")
def training_model() -> keras.Model:
    """uint8 (B, 6, 5, 1) -> (B, 4) logits, with weights that are not zero anywhere."""
    keras.utils.set_random_seed(5)
    image = keras.Input((6, 5, 1), dtype="uint8", name="image")
    hidden = keras.layers.Rescaling(1 / 255)(image)
    hidden = keras.layers.Flatten()(hidden)
    hidden = keras.layers.Dense(16, activation="relu", bias_initializer="random_normal")(hidden)
    logits = keras.layers.Dense(4, bias_initializer="random_normal", name="logits")(hidden)
    return keras.Model(image, logits, name="small")


@pytest.fixture(scope="session")
def model(training_model: keras.Model) -> keras.Model:
    """Its serving model."""
    return serving_model(training_model)


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """(2500, 6, 5, 1) uint8: more than two chunks, and not a whole number of them."""
    return np.random.default_rng(1).integers(0, 256, (2500, 6, 5, 1), dtype=np.uint8)
