"""Keras's optimizers from a pipeline's config."""

from __future__ import annotations

import keras
import tensorflow as tf

from millrace.config.optimizing import OptimizerConfig

_CLIPS = {"value": "clipvalue", "norm": "clipnorm", "global_norm": "global_clipnorm"}


def build_optimizer(config: OptimizerConfig, model: keras.Model) -> keras.Optimizer:
    """The optimizer with its variables made, so that they can be broadcast and restored before the first step.

    Clipping is the optimizer's: what it is given is the gradient of the mean loss over the global batch.
    """
    kinds = {"adam": FusedAdam, "sgd": keras.optimizers.SGD, "rmsprop": keras.optimizers.RMSprop}
    clip = {} if config.clip is None else {_CLIPS[config.clip.by]: config.clip.limit}
    optimizer = kinds[config.name](learning_rate=config.learning_rate, **clip)
    optimizer.build(model.trainable_variables)
    return optimizer


class FusedAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Keras's Adam (Kingma and Ba, 2015) by TensorFlow's one kernel for all of it.

    The same formula; Keras writes it as a dozen passes over the weights, which take longer than the gradients of a small network.
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Changes one variable and its two moments."""
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, variable.dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, variable.dtype), step),
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, variable.dtype),
        )
