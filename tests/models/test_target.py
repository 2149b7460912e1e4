"""The unit of a number: the same whatever the order of rows, and undone in the model's last layer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.config.network import MlpConfig
from millrace.errors import QualityError
from millrace.models.build import build_model
from millrace.models.target import STANDARD, Target, fit_target

NUMBERS = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60)


@given(NUMBERS, st.randoms(use_true_random=False), st.integers(1, 60))
def test_order_and_batches_do_not_matter(numbers, random, cut):
    shuffled = random.sample(numbers, len(numbers))
    parts = [np.array(shuffled[first : first + cut], np.float32) for first in range(0, len(shuffled), cut)]
    assert fit_target(lambda: parts, label="y") == fit_target(lambda: [np.array(numbers, np.float32)], label="y")


def test_it_is_the_mean_and_the_deviation():
    numbers = np.random.default_rng(1).normal(1e6, 3.0, 1000).astype(np.float32)
    found = fit_target(lambda: [numbers[:300], numbers[300:]], label="y")
    exact = numbers.astype(np.float64)
    assert (found.mean, found.scale) == pytest.approx((exact.mean(), exact.std()), rel=1e-12)
    assert fit_target(lambda: [np.full(3, 7.0)], label="y") == Target(7.0, 1.0)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "train: expected rows of the train split; found none. Look at split.fractions."),
        (
            [np.array([1.0, np.nan])],
            "train: expected finite numbers in price; found nan. Quarantine such rows: give the label a range in the contract.",
        ),
    ],
)
def test_labels_that_have_no_unit(batches, message):
    with pytest.raises(QualityError) as caught:
        fit_target(lambda: batches, label="price")
    assert str(caught.value) == message


def test_the_last_layer_gives_the_unit_and_has_no_weights():
    def model(target):
        return build_model(MlpConfig(hidden=(4,)), input_shape=(3,), divisor=None, num_classes=1, seed=2, target=target)

    plain, in_unit = model(STANDARD), model(Target(1000.0, 50.0))
    vectors = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    in_unit.set_weights(plain.get_weights())
    expected = plain.predict(vectors, verbose=0) * 50.0 + 1000.0
    np.testing.assert_allclose(in_unit.predict(vectors, verbose=0), expected, rtol=1e-6)
    assert [layer.name for layer in plain.layers] == ["features", "flatten", "hidden_0", "hidden_0_activation", "number"]
    assert (plain.inputs[0].dtype, plain.output_shape, in_unit.layers[-1].name) == ("float32", (None, 1), "unit")
