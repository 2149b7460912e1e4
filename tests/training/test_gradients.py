"""The gradient of a bias that is computed apart from its convolution's kernel, against TensorFlow's own."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from millrace.training.gradients import gradients_of, own_gradients


def gradients(values, bias, *, layout="NHWC"):
    """By TensorFlow's tape, and by ours."""
    weights = tf.constant(np.random.default_rng(3).normal(size=values.shape), values.dtype)

    def objective():
        return tf.reduce_sum(tf.nn.bias_add(values, bias, data_format=layout) ** 2 * weights)

    @tf.function(autograph=False)
    def by_tape():
        with tf.GradientTape() as tape:
            found = objective()
        return tape.gradient(found, [values, bias])

    @tf.function(autograph=False)
    def ours():
        with own_gradients():
            found = objective()
        return gradients_of(found, [values, bias])

    operations = [operation.type for operation in ours.get_concrete_function().graph.get_operations()]
    return by_tape(), ours(), operations


@pytest.mark.parametrize(
    ("shape", "dtype", "layout", "is_own"),
    [
        ((5, 6, 7, 3), tf.float32, "NHWC", True),
        ((2, 3, 4, 5, 2), tf.float32, "NHWC", True),
        ((64, 28, 28, 32), tf.float32, "NHWC", True),
        ((5, 3), tf.float32, "NHWC", False),
        ((5, 6, 7, 3), tf.float64, "NHWC", False),
        ((5, 3, 6, 7), tf.float32, "NCHW", False),
    ],
)
def test_gradients_are_those_of_tensorflow(shape, dtype, layout, is_own):
    random = np.random.default_rng(0)
    channels = shape[1] if layout == "NCHW" else shape[-1]
    values = tf.Variable(random.normal(size=shape), dtype=dtype)
    bias = tf.Variable(random.normal(size=channels), dtype=dtype)
    theirs, ours, operations = gradients(values, bias, layout=layout)
    assert ("BiasAddGrad" not in operations) == is_own
    np.testing.assert_array_equal(ours[0], theirs[0])
    scale = np.abs(theirs[1]).max()
    np.testing.assert_allclose(ours[1] / scale, theirs[1] / scale, rtol=0, atol=1e-5)


def test_a_variable_that_is_looked_up_in_has_a_gradient_for_each_place():
    table = tf.Variable(tf.ones([4, 2]))

    @tf.function(autograph=False)
    def run():
        with own_gradients():
            found = tf.reduce_sum(tf.gather(table, [1, 1, 3]))
        return gradients_of(found, [table])

    np.testing.assert_array_equal(run()[0], [[0, 0], [2, 2], [0, 0], [1, 1]])
