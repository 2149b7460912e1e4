"""One optimizer step on all ranks, and one batch of validation.

Gradients are of the sum of weight * loss over the rank's rows. They travel with the sums in one flat float32 buffer, are added up
over the ranks, and only then divided by the global weight: uneven local batches and an uneven last batch come out as if one rank
had done it all. The penalty on weights (L2) counts on each rank by the rank's weight, so that it counts once in all.

Nothing here is compiled by XLA: on CPU a convolution then takes many times as long, and a dense network gains nothing beside the
fused update.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from millrace.config.training import TrainingConfig
from millrace.errors import TrainingError
from millrace.models.target import STANDARD, Target
from millrace.training.gradients import gradients_of, own_gradients
from millrace.training.loss_scale import LossScale
from millrace.training.objective import label_dtype, losses_and_sums
from millrace.training.reduction import Sum, add_up_in_half, horovod_sum

STAGE = "training"
_NUM_METRICS = 3  # sums of loss, weight and correct rows, or of the other error
NUM_SUMS = 4  # then the weight in the loss, which class weights are part of; behind them, the wishes for a checkpoint
_NOT_FINITE, _DONE, _SKIPPED = 0.0, 1.0, 2.0  # what has become of a step


@dataclass(frozen=True)
class Sums:
    """Sums over rows, never means, without class weights and penalties."""

    loss: float
    weight: float
    correct: float
    """Rows whose largest logit is that of their label; of a number's model the error that is not the loss (`objective`)."""
    wishes: float = 0.0
    """Ranks that have asked for a checkpoint after this step."""


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """What a step does beyond the plain one."""

    loss: str = "cross_entropy"
    """training.loss."""
    target: Target = STANDARD
    """Of a number's model, which gives standardised values here."""
    seed: int = 0
    """Dropout draws from it, the step and the rank."""
    class_weights: tuple[float, ...] | None = None
    """What a row counts in the loss, by its label. (classes,)"""
    micro_batches: int = 1
    """Parts in which a rank computes its rows, one after the other."""
    scale_loss: bool = False
    """For float16, whose small gradients would vanish."""
    compress: bool = False
    """Gradients travel as float16."""

    @staticmethod
    def of(
        training: TrainingConfig, class_weights: tuple[float, ...] | None, *, micro_batches: int, target: Target = STANDARD
    ) -> StepOptions:
        """The options that a pipeline asks for; what micro_batches auto comes to is known to the caller."""
        return StepOptions(
            loss=training.loss,
            target=target,
            seed=training.seed,
            class_weights=class_weights,
            micro_batches=micro_batches,
            scale_loss=training.precision == "mixed_float16",
            compress=training.compression == "fp16",
        )


def as_tensor(array: npt.NDArray[Any]) -> tf.Tensor:
    """The array as a tensor that shares its memory, which must be aligned to 64 bytes and never written again."""
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


class TrainStep:
    """Forward, backward, all-reduce and update in one graph."""

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.Optimizer,
        options: StepOptions = StepOptions(),
        *,
        rank: int = 0,
        world_size: int = 1,
        add: Sum = horovod_sum,
    ) -> None:
        """The model takes (rows, *shape) and gives (rows, classes) logits, or (rows, 1) standardised numbers. `add` sums over
        the ranks where there are several.

        Raises TrainingError where the model has losses that depend on rows.
        """
        self._model, self._optimizer, self._options = model, optimizer, options
        self._rank, self._world_size, self._add = rank, world_size, add
        # where no more rows are to come, the mean is taken before the backward pass: a pass less over all gradients
        self._gives_means = world_size == 1 and options.micro_batches == 1
        self._variables = [variable.value for variable in model.trainable_variables]
        weights = {id(variable) for variable in model.weights}
        self._seeds = [variable for variable in model.variables if id(variable) not in weights]
        self._moving = list(_moving_statistics(model))
        self._scale = LossScale() if options.scale_loss else None
        signature = [
            *_batch_signature(model, options.loss),
            tf.TensorSpec((), tf.float32),
            tf.TensorSpec((len(self._seeds), 2), tf.uint32),
            tf.TensorSpec((), tf.float32),
        ]
        # one graph for every number of rows; called as such, without tf.function's search for the one that fits
        self._run = tf.function(self._graph, input_signature=signature, autograph=False).get_concrete_function()

    @property
    def variables(self) -> list[keras.Variable]:
        """All that a step changes beside the model's weights: the same on every rank, and kept by checkpoints."""
        return [*self._optimizer.variables, *(self._scale.variables if self._scale else [])]

    def __call__(
        self,
        features: npt.NDArray[Any],
        labels: npt.NDArray[Any],
        weights: npt.NDArray[np.float32],
        *,
        step: int,
        learning_rate: float,
        where: str,
        wish: bool = False,
    ) -> Sums:
        """Takes step `step`, counted from 0 over all epochs; `where` says in an error where that was. Gives the global sums.

        With `wish` this rank asks all for a checkpoint, which costs nothing: it travels with the gradients.

        features: (rows, *shape), labels: (rows,), weights: (rows,), the first two aligned to 64 bytes. A step of weight 0, and
        one with gradients too large for the loss scale, changes no weight. Raises TrainingError where a gradient or the loss is
        not finite, on every rank alike and before any weight is changed. (Batch norm's moving statistics change in any case.)
        """
        seeds = dropout_seeds(self._options.seed, step=step, rank=self._rank, count=len(self._seeds))
        rest = (weights, np.float32(learning_rate), seeds, np.float32(wish))
        given = self._run(as_tensor(features), as_tensor(labels), *map(tf.constant, rest))
        outcome, *sums = given.numpy().tolist()
        if outcome == _NOT_FINITE:
            raise TrainingError(
                STAGE,
                expected="a finite loss and finite gradients",
                found=f"infinity or no number at {where}",
                remedy="Lower training.optimizer.learning_rate, or look for extreme values in the features.",
            )
        return Sums(*sums)

    def _graph(
        self,
        features: tf.Tensor,
        labels: tf.Tensor,
        weights: tf.Tensor,
        learning_rate: tf.Tensor,
        seeds: tf.Tensor,
        wish: tf.Tensor,
    ) -> tf.Tensor:
        for number, variable in enumerate(self._seeds):
            variable.assign(seeds[number])
        self._optimizer.learning_rate.assign(learning_rate)
        gradients, sums = self._in_parts(features, labels, weights)
        sums = tf.concat([sums, [wish]], axis=0)
        if self._world_size > 1:
            gradients, sums = self._all_reduce(gradients, sums)
        outcome = self._update(gradients, sums)
        return tf.concat([[outcome], sums[:_NUM_METRICS], sums[NUM_SUMS:]], axis=0)

    def _in_parts(self, features: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Gradients and sums of the rank's rows, in as many parts as asked for; no part is empty."""
        if self._options.micro_batches == 1:
            return self._gradients(features, labels, weights)
        num_rows = tf.shape(labels)[0]
        part_rows = -(-num_rows // self._options.micro_batches)

        def add_part(first: tf.Tensor, gradients: list[tf.Tensor], sums: tf.Tensor) -> tuple[Any, ...]:
            end = first + part_rows
            more, more_sums = self._gradients(features[first:end], labels[first:end], weights[first:end])
            return end, [one + other for one, other in zip(gradients, more, strict=True)], sums + more_sums

        nothing = [tf.zeros(variable.shape) for variable in self._variables]
        start = (tf.constant(0), nothing, tf.zeros(NUM_SUMS))
        # one part at a time: it is memory that is to be saved
        _, gradients, sums = tf.while_loop(lambda first, *_: first < num_rows, add_part, start, parallel_iterations=1)
        return gradients, sums

    def _gradients(self, features: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Gradients of sum(weight * loss), or of its mean, and the sums, of these rows. In float32, without the loss scale."""
        with own_gradients():
            logits = self._model(features, training=True)
            losses, metrics = losses_and_sums(self._options.loss, logits, labels, weights, target=self._options.target)
            shares = weights if self._options.class_weights is None else weights * tf.gather(self._options.class_weights, labels)
            weight = tf.reduce_sum(shares)
            objective = tf.reduce_sum(losses * shares)
            penalties = self._penalties()
            if penalties:
                objective += weight * tf.add_n(penalties)
            if self._gives_means:
                objective = tf.math.divide_no_nan(objective, weight)
            scale = None
            if self._scale is not None:  # which is made for means
                scale = self._scale.value / (1.0 if self._gives_means else tf.maximum(tf.reduce_sum(weights), 1.0))
                objective *= scale
        gradients = gradients_of(objective, self._variables)
        if scale is not None:
            gradients = [gradient / scale for gradient in gradients]
        return gradients, tf.stack([*metrics, weight])

    def _penalties(self) -> list[tf.Tensor]:
        """What the model adds to the mean loss. It must depend on weights alone: what depends on rows would count by rank."""
        penalties: list[tf.Tensor] = self._model.losses
        num_regularized = sum(variable.regularizer is not None for variable in self._model.trainable_variables)
        if len(penalties) != num_regularized:
            raise TrainingError(
                STAGE,
                expected=f"{num_regularized} penalties, one for each variable with a regularizer",
                found=f"{len(penalties)} losses in the model",
                remedy="Take activity regularizers and calls of add_loss out of its layers.",
            )
        return penalties

    def _all_reduce(self, gradients: list[tf.Tensor], sums: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Adds up over the ranks, and takes the mean of the moving statistics by the rows that each rank has had.

        With that the statistics are those of the global batch's rows, and a rank without rows in this step counts for nothing.
        """
        num_rows = sums[1]
        statistics = [variable.value * num_rows for variable in self._moving]
        if self._options.compress:
            sums, *statistics = self._add([sums, *statistics], name="millrace_sums")
            share = tf.maximum(sums[3], 1e-30) / self._world_size
            gradients = add_up_in_half(self._add, gradients, share, name="millrace_step")
        else:
            *gradients, sums = self._add([*gradients, *statistics, sums], name="millrace_step")
            gradients, statistics = gradients[: len(self._variables)], gradients[len(self._variables) :]
        for variable, total in zip(self._moving, statistics, strict=True):
            variable.assign(total / sums[1])
        return gradients, sums

    def _update(self, gradients: list[tf.Tensor], sums: tf.Tensor) -> tf.Tensor:
        """Changes the weights, unless there is nothing to go by. Gives what has become of the step."""
        weight = sums[3]
        # a sum is finite where all numbers are, short of 1e38; it is far cheaper than a look at each
        is_finite = tf.math.is_finite(tf.add_n([tf.reduce_sum(gradient) for gradient in gradients]))
        is_sound = tf.math.is_finite(tf.reduce_sum(sums))

        def apply() -> tf.Tensor:
            means = gradients if self._gives_means else [gradient / weight for gradient in gradients]
            self._optimizer.apply(means, self._model.trainable_variables)
            if self._scale is not None:
                self._scale.went_well()
            return tf.constant(_DONE)

        def refuse() -> tf.Tensor:
            if self._scale is None:
                return tf.constant(_NOT_FINITE)
            can_go_on = is_sound & self._scale.can_fall
            self._scale.overflowed()
            return tf.where(can_go_on, _SKIPPED, _NOT_FINITE)

        def take() -> tf.Tensor:
            return tf.cond(weight > 0.0, apply, lambda: tf.constant(_SKIPPED))

        return tf.cond(is_finite & is_sound, take, refuse)


class EvaluationStep:
    """Loss and correct rows, or errors, of one batch, on this rank alone."""

    def __init__(self, model: keras.Model, options: StepOptions = StepOptions()) -> None:
        self._model, self._options = model, options
        signature = _batch_signature(model, options.loss)
        self._run = tf.function(self._graph, input_signature=signature, autograph=False)

    def __call__(self, features: npt.NDArray[Any], labels: npt.NDArray[Any], weights: npt.NDArray[np.float32]) -> Sums:
        """Features (rows, *shape), labels (rows,), weights (rows,), all aligned to 64 bytes. Gives the rank's own sums."""
        return Sums(*self._run(as_tensor(features), as_tensor(labels), weights).numpy().tolist())

    def _graph(self, features: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        outputs = self._model(features, training=False)
        return tf.stack(losses_and_sums(self._options.loss, outputs, labels, weights, target=self._options.target)[1])


def dropout_seeds(seed: int, *, step: int, rank: int, count: int) -> npt.NDArray[np.uint32]:
    """The states that `count` seed generators start a step with. (count, 2) uint32"""
    digest = hashlib.shake_128(f"millrace-dropout-1|{seed}|{step}|{rank}".encode()).digest(8 * count)
    return np.frombuffer(digest, dtype="<u4").reshape(count, 2)


def _batch_signature(model: keras.Model, loss: str) -> list[tf.TensorSpec]:
    """Features, labels and weights, of any number of rows."""
    shape, dtype = model.input_shape[1:], model.inputs[0].dtype
    return [tf.TensorSpec((None, *shape), dtype), tf.TensorSpec((None,), label_dtype(loss)), tf.TensorSpec((None,), tf.float32)]


def _layers(model: keras.Model) -> Iterator[keras.Layer]:
    """All layers, those of models inside too."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)


def _moving_statistics(model: keras.Model) -> Iterator[keras.Variable]:
    """What batch norm keeps of the batches that it has seen."""
    for layer in _layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            yield from layer.non_trainable_weights
