"""The serving model is the trained one with a softmax."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from millrace.errors import ExportError
from millrace.exporting.predictor import InputSpec
from millrace.exporting.serving_model import predictor, probe_batch, serving_model, signature


def test_probabilities_are_the_softmax_of_the_logits(training_model: keras.Model, model: keras.Model, images: np.ndarray) -> None:
    logits = training_model(images).numpy()  # (2500, 4)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found = predictor(model)(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), atol=1e-6)


def test_weights_are_shared(training_model: keras.Model, model: keras.Model) -> None:
    assert [id(variable) for variable in model.variables] == [id(variable) for variable in training_model.variables]


def test_half_precision_ends_in_float32_probabilities(images: np.ndarray) -> None:
    image = keras.Input((6, 5, 1), dtype="uint8", name="image")
    hidden = keras.layers.Flatten(dtype="mixed_float16")(keras.layers.Rescaling(1 / 255, dtype="mixed_float16")(image))
    half = serving_model(keras.Model(image, keras.layers.Dense(4, dtype="mixed_float16")(hidden)))
    probabilities = predictor(half)(images)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)


def test_signature_names_types_and_shapes(model: keras.Model) -> None:
    assert signature(model) == {
        "inputs": {"image": {"dtype": "uint8", "shape": [6, 5, 1]}},
        "outputs": {"probabilities": {"dtype": "float32", "shape": [4]}},
    }


def test_a_model_with_two_outputs_is_refused() -> None:
    image = keras.Input((3,), name="image")
    twice = keras.Model(image, [keras.layers.Dense(2)(image), keras.layers.Dense(5)(image)])
    with pytest.raises(ExportError) as error:
        serving_model(twice)
    assert str(error.value) == (
        "export: expected a model with one input and one output of shape (rows, classes); "
        "found 1 inputs and outputs of shape [(None, 2), (None, 5)]. Export the model that the pipeline's model section builds."
    )


def test_probe_rows_differ_from_each_other() -> None:
    rows = probe_batch(InputSpec(shape=(6, 5, 1), dtype="uint8"))
    assert (rows.shape, rows.dtype) == ((4, 6, 5, 1), np.uint8)
    assert len({row.tobytes() for row in rows}) == 4
