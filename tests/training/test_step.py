"""The optimizer step on one rank, against plain Keras and against its own rules."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from millrace.config.network import MlpConfig
from millrace.config.optimizing import OptimizerConfig
from millrace.errors import TrainingError
from millrace.loading.columns import ColumnSpec
from millrace.loading.reader import aligned_empty
from millrace.models.build import build_model
from millrace.training.optimizers import build_optimizer
from millrace.training.step import EvaluationStep, TrainStep

IMAGE = ColumnSpec(name="image", dtype="uint8", shape=(4, 4, 1))
LABEL = ColumnSpec(name="digit", dtype="int32")


def model_of(seed: int = 1) -> keras.Model:
    return build_model(MlpConfig(hidden=(8,)), input_shape=(4, 4, 1), divisor=16, num_classes=3, seed=seed)


def batch_of(rows: int, *, seed: int = 0):
    random = np.random.default_rng(seed)
    images, labels = aligned_empty(rows, IMAGE), aligned_empty(rows, LABEL)
    images[:] = random.integers(0, 17, images.shape)
    labels[:] = random.integers(0, 3, rows)
    return images, labels, np.ones(rows, dtype=np.float32)


@pytest.mark.parametrize("name", ["adam", "sgd", "rmsprop"])
def test_steps_equal_plain_keras(name):
    ours, theirs = model_of(), model_of()
    step = TrainStep(ours, build_optimizer(OptimizerConfig(name=name, learning_rate=0.01), ours), world_size=1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    theirs.compile(optimizer=build_optimizer(OptimizerConfig(name=name, learning_rate=0.01), theirs), loss=loss)
    for seed in range(5):
        images, labels, weights = batch_of(7, seed=seed)
        expected_loss = theirs.train_on_batch(images, labels)
        sums = step(images, labels, weights, step=0, learning_rate=0.01, where="here")
        assert sums.loss / sums.weight == pytest.approx(float(expected_loss), abs=1e-6)
        assert sums.weight == 7.0
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-6)


def test_rows_of_weight_0_change_nothing():
    alone, padded = model_of(), model_of()
    images, labels, weights = batch_of(5)
    more_images, more_labels, _ = batch_of(9)
    more_images[:5], more_labels[:5] = images, labels
    more_weights = np.array([1.0] * 5 + [0.0] * 4, dtype=np.float32)
    config = OptimizerConfig(learning_rate=0.01)
    step = TrainStep(alone, build_optimizer(config, alone), world_size=1)
    sums = step(images, labels, weights, step=0, learning_rate=0.01, where="here")
    step = TrainStep(padded, build_optimizer(config, padded), world_size=1)
    padded_sums = step(more_images, more_labels, more_weights, step=0, learning_rate=0.01, where="here")
    assert padded_sums.weight == sums.weight == 5.0
    assert padded_sums.correct == sums.correct
    assert padded_sums.loss == pytest.approx(sums.loss, rel=1e-6)
    for mine, other in zip(alone.get_weights(), padded.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-6)


def test_loss_that_is_not_finite_stops_before_the_update():
    model = model_of()
    step = TrainStep(model, build_optimizer(OptimizerConfig(), model), world_size=1)
    model.get_layer("logits").bias.assign([np.inf, 0.0, 0.0])
    before = [weights.copy() for weights in model.get_weights()]
    with pytest.raises(TrainingError) as caught:
        step(*batch_of(4), step=0, learning_rate=0.01, where="step 3 of 9 in epoch 2")
    assert str(caught.value) == (
        "training: expected a finite loss and finite gradients; found infinity or no number at step 3 of 9 in epoch 2. "
        "Lower training.optimizer.learning_rate, or look for extreme values in the features."
    )
    for mine, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_evaluation_gives_sums_not_means():
    model = model_of()
    images, labels, weights = batch_of(11)
    sums = EvaluationStep(model)(images, labels, weights)
    logits = model.predict(images, verbose=0)
    losses = -np.log(np.exp(logits)[np.arange(11), labels] / np.exp(logits).sum(axis=1))
    assert sums.loss == pytest.approx(float(losses.sum()), rel=1e-5)
    assert (sums.weight, sums.correct) == (11.0, float((logits.argmax(axis=1) == labels).sum()))
