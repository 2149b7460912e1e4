"""Builders: weights from the seed alone, and a model that reloads without our code."""

from __future__ import annotations

import keras
import numpy as np

from millrace.config.network import MlpConfig
from millrace.models.build import build_model

CONFIG = MlpConfig(hidden=(16, 16), activation="tanh")


def mlp(seed: int) -> keras.Model:
    return build_model(CONFIG, input_shape=(4, 4, 1), divisor=255.0, num_classes=3, seed=seed)


def test_initial_weights_depend_on_the_seed_alone():
    first = mlp(1).get_weights()
    keras.utils.set_random_seed(99)
    for mine, again in zip(first, mlp(1).get_weights(), strict=True):
        np.testing.assert_array_equal(mine, again)
    assert any((mine != other).any() for mine, other in zip(first, mlp(2).get_weights(), strict=True))


def test_layers_of_equal_size_start_apart():
    model = build_model(MlpConfig(hidden=(16, 16, 16)), input_shape=(4, 4), divisor=1.0, num_classes=3, seed=0)
    first, second = (model.get_layer(name).get_weights()[0] for name in ("hidden_1", "hidden_2"))
    assert (first != second).any()


def test_scaling_is_inside():
    model = mlp(1)
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1)).astype(np.uint8)
    x = images.reshape(5, 16) / np.float32(255.0)
    for name in ("hidden_0", "hidden_1"):
        kernel, bias = model.get_layer(name).get_weights()
        x = np.tanh(x @ kernel + bias)
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_allclose(model.predict(images, verbose=0), x @ kernel + bias, atol=1e-6)
    assert model.inputs[0].dtype == "uint8"


def test_reloads_without_custom_objects(tmp_path):
    model = mlp(1)
    model.save(tmp_path / "model.keras")
    images = np.zeros((2, 4, 4, 1), dtype=np.uint8)
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again.predict(images, verbose=0), model.predict(images, verbose=0))
