"""The optimizer step on one rank, against plain Keras and against its own rules."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import pytest

from millrace.config.network import CnnConfig, MlpConfig, ModelConfig
from millrace.config.optimizing import OptimizerConfig
from millrace.errors import TrainingError
from millrace.loading.buffers import aligned_empty
from millrace.loading.columns import ColumnSpec
from millrace.models.build import build_model
from millrace.models.target import STANDARD, Target
from millrace.training.objective import means_of
from millrace.training.optimizers import build_optimizer
from millrace.training.step import EvaluationStep, StepOptions, Sums, TrainStep, dropout_seeds

IMAGE = ColumnSpec(name="image", dtype="uint8", shape=(4, 4, 1))
LABEL = ColumnSpec(name="digit", dtype="int32")
MLP = MlpConfig(hidden=(8,))
RATE = 0.01


def model_of(config: ModelConfig = MLP, *, seed: int = 1, precision: str = "float32") -> keras.Model:
    return build_model(config, input_shape=(4, 4, 1), divisor=16, num_classes=3, seed=seed, precision=precision)


def batch_of(rows: int, *, seed: int = 0):
    random = np.random.default_rng(seed)
    images, labels = aligned_empty(rows, IMAGE), aligned_empty(rows, LABEL)
    images[:] = random.integers(0, 17, images.shape)
    labels[:] = random.integers(0, 3, rows)
    return images, labels, np.ones(rows, dtype=np.float32)


def step_of(model: keras.Model, *, optimizer: dict | None = None, rank: int = 0, **options: object) -> TrainStep:
    built = build_optimizer(OptimizerConfig.model_validate({"learning_rate": RATE, **(optimizer or {})}), model)
    return TrainStep(model, built, StepOptions(**options), rank=rank)


def take(step: TrainStep, batch, number: int = 0, *, rate: float = RATE) -> Sums:
    return step(*batch, step=number, learning_rate=rate, where=f"step {number}")


def assert_close(ours: keras.Model, theirs: keras.Model, tolerance: float = 1e-6) -> None:
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=tolerance)


def assert_equal(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, other)


def iterations(step: TrainStep) -> int:
    return int(next(variable for variable in step.variables if "iteration" in variable.path).numpy())


CLIPS = {
    "free": (None, {}),
    "value": ({"by": "value", "limit": 0.01}, {"clipvalue": 0.01}),
    "norm": ({"by": "norm", "limit": 0.05}, {"clipnorm": 0.05}),
    "global_norm": ({"by": "global_norm", "limit": 0.05}, {"global_clipnorm": 0.05}),
}
THIN = {("Adam", "free"), ("SGD", "value"), ("RMSprop", "norm"), ("Adam", "global_norm")}


@pytest.mark.parametrize(
    ("name", "clipped"),
    [
        pytest.param(name, clipped, marks=[] if (name, clipped) in THIN else pytest.mark.full)
        for name in ("Adam", "SGD", "RMSprop")
        for clipped in CLIPS
    ],
)
def test_steps_equal_plain_keras(name, clipped):
    kind, (clip, theirs_clip) = getattr(keras.optimizers, name), CLIPS[clipped]
    ours, theirs = model_of(MlpConfig(hidden=(8,), l2=0.01)), model_of(MlpConfig(hidden=(8,), l2=0.01))
    step = step_of(ours, optimizer={"name": kind.__name__.lower(), "clip": clip})
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    theirs.compile(optimizer=kind(RATE, **theirs_clip), loss=loss)
    for number in range(5):
        images, labels, weights = batch_of(7, seed=number)
        penalty = sum(0.01 * float((layer.kernel.numpy() ** 2).sum()) for layer in ours.layers if hasattr(layer, "kernel"))
        expected_loss = theirs.train_on_batch(images, labels)
        sums = take(step, (images, labels, weights), number)
        assert sums.loss / sums.weight + penalty == pytest.approx(float(expected_loss), abs=1e-6)
        assert sums.weight == 7.0
    assert_close(ours, theirs)


def test_class_weights_weigh_the_loss_and_not_the_metrics():
    ours, theirs, plain = model_of(), model_of(), model_of()
    step = step_of(ours, class_weights=(0.5, 2.0, 0.0))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    theirs.compile(optimizer=keras.optimizers.Adam(RATE), loss=loss)
    images, labels, weights = batch_of(9)
    theirs.train_on_batch(images, labels, sample_weight=np.array([0.5, 2.0, 0.0])[labels])
    sums = take(step, (images, labels, weights))
    assert_close(ours, theirs)
    assert sums == take(step_of(plain), (images, labels, weights))


NUMBER = ColumnSpec(name="price", dtype="float32")


def numbers_of(rows: int, *, seed: int = 0):
    images, _, weights = batch_of(rows, seed=seed)
    prices = aligned_empty(rows, NUMBER)
    prices[:] = np.random.default_rng(seed).normal(1000.0, 50.0, rows)
    return images, prices, weights


def number_model(target: Target = STANDARD) -> keras.Model:
    return build_model(MLP, input_shape=(4, 4, 1), divisor=16, num_classes=1, seed=1, target=target)


@pytest.mark.parametrize("loss", ["mse", "mae"])
def test_steps_on_numbers_equal_plain_keras_on_standardised_ones(loss):
    target = Target(1000.0, 50.0)
    ours, theirs = number_model(), number_model()
    step = step_of(ours, loss=loss, target=target)
    theirs.compile(optimizer=keras.optimizers.Adam(RATE), loss=loss, metrics=["mse", "mae"])
    for number in range(5):
        images, prices, weights = numbers_of(7, seed=number)
        expected = theirs.train_on_batch(images, (prices - 1000.0) / 50.0, return_dict=True)
        theirs.reset_metrics()
        sums = take(step, (images, prices, weights), number)
        means = means_of(loss, (sums.loss, sums.weight, sums.correct), target=target)
        assert means["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert means["mae"] == pytest.approx(50.0 * expected["mae"], rel=1e-5)
        assert means["rmse"] == pytest.approx(50.0 * expected["mse"] ** 0.5, rel=1e-5)
    assert_close(ours, theirs)


def test_rows_of_weight_0_change_nothing_of_numbers():
    alone, padded = number_model(), number_model()
    images, prices, weights = numbers_of(5)
    more_images, more_prices, _ = numbers_of(9)
    more_images[:5], more_prices[:5], more_prices[5:] = images, prices, 1e9
    more_weights = np.array([1.0] * 5 + [0.0] * 4, dtype=np.float32)
    options = {"loss": "mse", "target": Target(1000.0, 50.0)}
    sums = take(step_of(alone, **options), (images, prices, weights))
    padded_sums = take(step_of(padded, **options), (more_images, more_prices, more_weights))
    assert (padded_sums.loss, padded_sums.correct) == pytest.approx((sums.loss, sums.correct), rel=1e-6)
    assert padded_sums.weight == 5.0
    assert_close(alone, padded)


def test_rows_of_weight_0_change_nothing():
    alone, padded = model_of(), model_of()
    images, labels, weights = batch_of(5)
    more_images, more_labels, _ = batch_of(9)
    more_images[:5], more_labels[:5] = images, labels
    more_weights = np.array([1.0] * 5 + [0.0] * 4, dtype=np.float32)
    sums = take(step_of(alone), (images, labels, weights))
    padded_sums = take(step_of(padded), (more_images, more_labels, more_weights))
    assert padded_sums.weight == sums.weight == 5.0
    assert padded_sums.correct == sums.correct
    assert padded_sums.loss == pytest.approx(sums.loss, rel=1e-6)
    assert_close(alone, padded)


def test_step_of_weight_0_is_skipped():
    model = model_of()
    step = step_of(model, class_weights=(0.0, 0.0, 1.0))
    images, labels, weights = batch_of(6)
    labels[:] = 1
    before = model.get_weights()
    assert take(step, (images, labels, weights)).weight == 6.0
    assert_equal(model.get_weights(), before)
    assert iterations(step) == 0
    labels[:] = 2
    take(step, (images, labels, weights), 1)
    assert iterations(step) == 1


@pytest.mark.parametrize("micro_batches", [3, *(pytest.param(count, marks=pytest.mark.full) for count in (2, 7, 20))])
def test_micro_batches_change_nothing(micro_batches):
    config = CnnConfig(filters=(3,), hidden=(4,), l2=0.01)
    whole, parts = model_of(config), model_of(config)
    one = step_of(whole, class_weights=(1.0, 2.0, 3.0))
    many = step_of(parts, class_weights=(1.0, 2.0, 3.0), micro_batches=micro_batches)
    for number in range(3):
        expected, found = (take(step, batch_of(7, seed=number), number) for step in (one, many))
        assert (found.weight, found.correct) == (expected.weight, expected.correct)
        assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    assert_close(whole, parts)


def test_the_rate_is_the_steps_own():
    model = model_of()
    step = step_of(model, optimizer={"name": "sgd"})
    before = model.get_weights()
    take(step, batch_of(4), rate=0.0)
    assert_equal(model.get_weights(), before)
    take(step, batch_of(4), 1, rate=0.5)
    assert any((mine != other).any() for mine, other in zip(model.get_weights(), before, strict=True))


@pytest.mark.parametrize("options", [{}, {"scale_loss": True}])
def test_loss_that_is_not_finite_stops_before_the_update(options):
    model = model_of()
    step = step_of(model, **options)
    model.get_layer("logits").bias.assign([np.inf, 0.0, 0.0])
    before = [weights.copy() for weights in model.get_weights()]
    with pytest.raises(TrainingError) as caught:
        step(*batch_of(4), step=2, learning_rate=RATE, where="step 3 of 9 in epoch 2")
    assert str(caught.value) == (
        "training: expected a finite loss and finite gradients; found infinity or no number at step 3 of 9 in epoch 2. "
        "Lower training.optimizer.learning_rate, or look for extreme values in the features."
    )
    assert_equal(model.get_weights(), before)


def test_losses_of_rows_are_refused():
    inputs = keras.Input((4, 4, 1), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1.0)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, kernel_regularizer="l2", activity_regularizer="l2")(x))
    with pytest.raises(TrainingError) as caught:
        step_of(model)
    assert str(caught.value) == (
        "training: expected 1 penalties, one for each variable with a regularizer; found 2 losses in the model. "
        "Take activity regularizers and calls of add_loss out of its layers."
    )


@pytest.mark.parametrize("precision", [pytest.param("mixed_float16", marks=pytest.mark.full), "mixed_bfloat16"])
def test_mixed_precision_is_near_float32(precision):
    exact, mixed = model_of(), model_of(precision=precision)
    plain, half = step_of(exact), step_of(mixed, scale_loss=precision == "mixed_float16")
    for number in range(5):
        expected, found = (take(step, batch_of(16, seed=number), number) for step in (plain, half))
        assert found.loss == pytest.approx(expected.loss, rel=0.02)
    assert {variable.dtype for variable in mixed.weights} == {"float32"}
    assert iterations(half) == 5


def test_overflow_skips_the_step_and_lowers_the_scale():
    model = model_of(precision="mixed_float16")
    step = step_of(model, scale_loss=True)
    scale, streak = step.variables[-2:]
    take(step, batch_of(8))
    assert (float(scale.numpy()), int(streak.numpy())) == (2.0**15, 1)
    scale.assign(2.0**24)  # no gradient of this batch fits into float16 now
    before = model.get_weights()
    assert take(step, batch_of(8), 1).weight == 8.0
    assert_equal(model.get_weights(), before)
    assert (float(scale.numpy()), int(streak.numpy()), iterations(step)) == (2.0**23, 0, 1)
    for number in range(2, 20):
        take(step, batch_of(8), number)
    assert float(scale.numpy()) < 2.0**23
    assert iterations(step) > 1
    assert np.isfinite(model.get_weights()[0]).all()


def test_scale_grows_after_many_steps_without_overflow():
    step = step_of(model_of(precision="mixed_float16"), scale_loss=True)
    scale, streak = step.variables[-2:]
    scale.assign(64.0)
    streak.assign(1999)
    take(step, batch_of(8))
    assert (float(scale.numpy()), int(streak.numpy())) == (128.0, 0)


def test_dropout_depends_on_seed_step_and_rank_alone():
    model = model_of(MlpConfig(hidden=(32,), dropout=0.5))
    start = [variable.numpy() for variable in model.weights]

    def kernel_after(step: TrainStep, number: int) -> np.ndarray:
        for variable, value in zip(model.weights, start, strict=True):
            variable.assign(value)
        take(step, batch_of(8), number)
        return model.weights[0].numpy()

    plain = {"name": "sgd"}  # which keeps nothing of the steps before
    step = step_of(model, optimizer=plain, seed=1)
    reference, later = kernel_after(step, 5), kernel_after(step, 6)
    np.testing.assert_array_equal(kernel_after(step, 5), reference)
    on_another_rank = kernel_after(step_of(model, optimizer=plain, seed=1, rank=1), 5)
    assert (later != reference).any()
    assert (on_another_rank != reference).any()


def test_seeds_of_generators_differ():
    seeds = [tuple(seed) for step in range(20) for rank in range(4) for seed in dropout_seeds(7, step=step, rank=rank, count=3)]
    assert len(set(seeds)) == 20 * 4 * 3
    assert dropout_seeds(7, step=0, rank=0, count=0).shape == (0, 2)
    assert (dropout_seeds(8, step=0, rank=0, count=1) != dropout_seeds(7, step=0, rank=0, count=1)).any()


def test_evaluation_gives_sums_not_means():
    model = model_of(MlpConfig(hidden=(8,), dropout=0.5, batch_norm=True))
    images, labels, weights = batch_of(11)
    sums = EvaluationStep(model)(images, labels, weights)
    logits = model.predict(images, verbose=0)
    losses = -np.log(np.exp(logits)[np.arange(11), labels] / np.exp(logits).sum(axis=1))
    assert sums.loss == pytest.approx(float(losses.sum()), rel=1e-5)
    assert (sums.weight, sums.correct) == (11.0, float((logits.argmax(axis=1) == labels).sum()))
