"""One optimizer step on all ranks, and one batch of validation.

Gradients are of the sum of weight * loss over the rank's rows. They travel with the sums in one flat float32 buffer, are added up
over the ranks, and only then divided by the global weight: uneven local batches and an uneven last batch come out as if one rank
had done it all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from millrace.config.models import OptimizerConfig
from millrace.errors import TrainingError

STAGE = "training"
_NUM_SUMS = 3  # loss, weight, correct rows: the end of the flat buffer


@dataclass(frozen=True)
class Sums:
    """Sums over rows, never means."""

    loss: float
    weight: float
    correct: float
    """Rows whose largest logit is that of their label."""


def build_optimizer(config: OptimizerConfig, model: keras.Model) -> keras.Optimizer:
    """The optimizer with its variables made, so that they can be broadcast and restored before the first step."""
    kinds = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD, "rmsprop": keras.optimizers.RMSprop}
    optimizer = kinds[config.name](learning_rate=config.learning_rate)
    optimizer.build(model.trainable_variables)
    return optimizer


def as_tensor(array: npt.NDArray[Any]) -> tf.Tensor:
    """The array as a tensor that shares its memory, which must be aligned to 64 bytes and never written again."""
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


class TrainStep:
    """Forward, backward, all-reduce and update in one graph."""

    def __init__(self, model: keras.Model, optimizer: keras.Optimizer, *, world_size: int) -> None:
        """The model takes (rows, *shape) and gives (rows, classes) logits. Horovod is initialised where world_size > 1."""
        self._model, self._optimizer, self._world_size = model, optimizer, world_size
        self._variables = [variable.value for variable in model.trainable_variables]
        self._sizes = [math.prod(variable.shape) for variable in model.trainable_variables]
        shape, dtype = model.input_shape[1:], model.inputs[0].dtype
        signature = [
            tf.TensorSpec((None, *shape), dtype),
            tf.TensorSpec((None,), tf.int32),
            tf.TensorSpec((None,), tf.float32),
        ]
        self._run = tf.function(self._graph, input_signature=signature)

    def __call__(
        self, features: npt.NDArray[Any], labels: npt.NDArray[np.int32], weights: npt.NDArray[np.float32], *, where: str
    ) -> Sums:
        """One step; features (rows, *shape), labels (rows,), weights (rows,), all aligned to 64 bytes. Gives the global sums.

        Raises TrainingError, on every rank alike and before anything is updated, where a gradient or the loss is not finite.
        """
        finite, loss, weight, correct = self._run(as_tensor(features), as_tensor(labels), weights).numpy().tolist()
        if not finite:
            raise TrainingError(
                STAGE,
                expected="a finite loss and finite gradients",
                found=f"infinity or no number at {where}",
                remedy="Lower training.optimizer.learning_rate, or look for extreme values in the features.",
            )
        return Sums(loss, weight, correct)

    def _graph(self, features: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = self._model(features, training=True)
            sums = _sums(logits, labels, weights)
        gradients = tape.gradient(sums[0], self._variables)
        if self._world_size > 1:
            gradients, sums = self._all_reduce(gradients, sums)
        sums = tf.stack(sums)
        checks = [tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients]
        finite = tf.reduce_all(tf.stack([*checks, tf.reduce_all(tf.math.is_finite(sums))]))
        weight = sums[1]

        def update() -> tf.Tensor:
            self._optimizer.apply([gradient / weight for gradient in gradients], self._model.trainable_variables)
            return tf.constant(1.0)

        done = tf.cond(finite, update, lambda: tf.constant(0.0))
        return tf.concat([[done], sums], axis=0)

    def _all_reduce(self, gradients: list[tf.Tensor], sums: list[tf.Tensor]) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Adds up over the ranks. One buffer in a fixed order: reduced one by one, tensors differ from run to run."""
        import horovod.tensorflow as hvd

        # flat: (parameters + 3,) float32
        flat = tf.concat([*(tf.reshape(gradient, [-1]) for gradient in gradients), tf.stack(sums)], axis=0)
        flat = hvd.allreduce(flat, op=hvd.Sum, name="millrace_step")
        parts = tf.split(flat, [*self._sizes, _NUM_SUMS])
        reduced = [tf.reshape(part, variable.shape) for part, variable in zip(parts[:-1], self._variables, strict=True)]
        return reduced, tf.unstack(parts[-1], num=_NUM_SUMS)


class EvaluationStep:
    """Loss and correct rows of one batch, on this rank alone."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        shape, dtype = model.input_shape[1:], model.inputs[0].dtype
        signature = [tf.TensorSpec((None, *shape), dtype), tf.TensorSpec((None,), tf.int32), tf.TensorSpec((None,), tf.float32)]
        self._run = tf.function(self._graph, input_signature=signature)

    def __call__(self, features: npt.NDArray[Any], labels: npt.NDArray[np.int32], weights: npt.NDArray[np.float32]) -> Sums:
        """Features (rows, *shape), labels (rows,), weights (rows,), all aligned to 64 bytes. Gives the rank's own sums."""
        return Sums(*self._run(as_tensor(features), as_tensor(labels), weights).numpy().tolist())

    def _graph(self, features: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        return tf.stack(_sums(self._model(features, training=False), labels, weights))


def _sums(logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> list[tf.Tensor]:
    """Sums of loss, weight and correct rows. logits: (rows, classes) float32"""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)  # (rows,)
    correct = tf.cast(tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), labels), tf.float32)  # (rows,)
    return [tf.reduce_sum(losses * weights), tf.reduce_sum(weights), tf.reduce_sum(correct * weights)]
