"""Small models like those that the pipelines train."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import pytest

from millrace.config.network import CnnConfig
from millrace.exporting.serving_model import serving_model
from millrace.models.build import build_model


@pytest.fixture(scope="session")
def training_model() -> keras.Model:
    """uint8 (B, 6, 5, 1) -> (B, 4) logits, by convolution, batch norm and dropout, with weights that are not zero anywhere."""
    config = CnnConfig(filters=(3,), hidden=(16,), batch_norm=True, dropout=0.3, l2=0.01)
    model = build_model(config, input_shape=(6, 5, 1), divisor=255.0, num_classes=4, seed=5, input_name="image")
    random = np.random.default_rng(5)
    for variable in model.weights:
        variable.assign(random.uniform(0.2, 1.0, variable.shape))
    return model


@pytest.fixture(scope="session")
def model(training_model: keras.Model) -> keras.Model:
    """Its serving model."""
    return serving_model(training_model)


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """(2500, 6, 5, 1) uint8: more than two chunks, and not a whole number of them."""
    return np.random.default_rng(1).integers(0, 256, (2500, 6, 5, 1), dtype=np.uint8)
