"""Builders: weights from the seed alone, and a model that reloads without our code."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from millrace.config.network import CnnConfig, MlpConfig, ModelConfig
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


def cnn(**options: object) -> CnnConfig:
    return CnnConfig.model_validate({"filters": [3, 5], "hidden": [6], **options})


def built(config: ModelConfig, *, shape: tuple[int, ...] = (7, 5, 2), precision: str = "float32") -> keras.Model:
    return build_model(config, input_shape=shape, divisor=255.0, num_classes=4, seed=2, precision=precision)


def shapes_of(model: keras.Model) -> dict[str, tuple[int, ...]]:
    return {layer.name: tuple(layer.output.shape[1:]) for layer in model.layers}


def test_blocks_of_a_cnn_halve_the_image():
    shapes = shapes_of(built(cnn()))
    assert shapes["block_0"] == (7, 5, 3)
    assert shapes["block_0_pool"] == (4, 3, 3)
    assert shapes["block_1_pool"] == (2, 2, 5)
    assert (shapes["flatten"], shapes["hidden_0"], shapes["logits"]) == ((20,), (6,), (4,))
    assert shapes_of(built(cnn(pooling="none")))["flatten"] == (7 * 5 * 5,)


def test_no_image_is_too_small():
    assert shapes_of(built(cnn(filters=[2, 2, 2]), shape=(1, 1, 1)))["flatten"] == (2,)


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_pooling_takes_what_it_says(pooling):
    layer = keras.Model((model := built(cnn(pooling=pooling))).inputs, model.get_layer("block_0_pool").output)
    before = keras.Model(model.inputs, model.get_layer("block_0_activation").output)
    images = np.random.default_rng(0).integers(0, 256, (1, 7, 5, 2)).astype(np.uint8)
    pooled, values = layer.predict(images, verbose=0), before.predict(images, verbose=0)
    corner = values[0, :2, :2].reshape(4, -1)
    np.testing.assert_allclose(pooled[0, 0, 0], corner.max(axis=0) if pooling == "max" else corner.mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("config", [MlpConfig(hidden=(6, 5)), cnn()], ids=["mlp", "cnn"])
def test_what_each_option_adds(config):
    def kinds(**options: object) -> list[str]:
        return [type(layer).__name__ for layer in built(config.model_copy(update=options)).layers]

    plain = kinds()
    num_blocks = plain.count("Activation")
    assert kinds(batch_norm=True).count("BatchNormalization") == num_blocks
    assert kinds(dropout=0.5).count("Dropout") == num_blocks
    assert sorted(set(kinds(dropout=0.5, batch_norm=True)) - set(plain)) == ["BatchNormalization", "Dropout"]
    assert built(config).losses == []
    penalised = built(config.model_copy(update={"l2": 0.5}))
    kernels = [variable for variable in penalised.weights if variable.path.endswith("kernel")]
    assert float(sum(penalised.losses)) == pytest.approx(
        sum(0.5 * float((kernel.numpy() ** 2).sum()) for kernel in kernels), rel=1e-6
    )
    assert len(penalised.losses) == len(kernels)


def test_options_of_layers_do_not_change_initial_kernels_of_an_mlp():
    plain, normed = (built(MlpConfig(hidden=(6,), batch_norm=batch_norm)) for batch_norm in (False, True))
    np.testing.assert_array_equal(plain.get_layer("hidden_0").kernel, normed.get_layer("hidden_0").kernel)


def test_half_precision_is_inside_only():
    before = keras.config.dtype_policy()
    model = built(cnn(batch_norm=True), precision="mixed_float16")
    assert keras.config.dtype_policy() == before
    assert model.get_layer("block_0").compute_dtype == "float16"
    assert {variable.dtype for variable in model.weights} == {"float32"}
    assert (model.inputs[0].dtype, model.outputs[0].dtype) == ("uint8", "float32")


@pytest.mark.parametrize("config", [CONFIG, cnn(batch_norm=True, dropout=0.5, l2=0.1)], ids=["mlp", "cnn"])
def test_reloads_without_custom_objects(config, tmp_path):
    model = built(config)
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (3, 7, 5, 2)).astype(np.uint8)
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again.predict(images, verbose=0), model.predict(images, verbose=0))
