"""What is made small, and what is measured beside it: cross entropy of classes, squared or absolute error of numbers.

A number's model gives (y - mean) / scale here, and its label comes in its own unit. Losses, and the sums of errors, are of the
standardised values, which float32 holds well whatever the unit; `means_of` brings them back.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from millrace.models.target import Target

if TYPE_CHECKING:
    import tensorflow as tf

NUMBER_LOSSES = ("mse", "mae")
"""The values of training.loss that a number's model is trained by."""


def is_number(loss: str) -> bool:
    """Whether a model of this loss predicts a number, and not a class."""
    return loss in NUMBER_LOSSES


def label_dtype(loss: str) -> str:
    """What labels are: indices of classes, or numbers."""
    return "float32" if is_number(loss) else "int32"


def losses_and_sums(
    loss: str, outputs: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, *, target: Target
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The loss of each row (rows,), and the weighted sums of loss, weight and a third: correct rows of classes; of numbers the
    error that is not the loss, absolute for mse, squared for mae.

    outputs: (rows, classes) float32 logits, or (rows, 1) standardised numbers; labels: (rows,) int32 or float32.
    """
    import tensorflow as tf

    if is_number(loss):
        errors = outputs[:, 0] - (labels - target.mean) / target.scale  # (rows,)
        squared, absolute = tf.square(errors), tf.abs(errors)
        losses, third = (squared, absolute) if loss == "mse" else (absolute, squared)
    else:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=outputs)  # (rows,)
        third = tf.cast(tf.equal(tf.argmax(outputs, axis=1, output_type=tf.int32), labels), tf.float32)  # (rows,)
    return losses, [tf.reduce_sum(losses * weights), tf.reduce_sum(weights), tf.reduce_sum(third * weights)]


def means_of(loss: str, sums: tuple[float, float, float], *, target: Target) -> dict[str, float]:
    """The metrics of metrics/epochs by name: loss and accuracy, or loss (standardised), mae and rmse (in the label's unit).

    sums: of loss, weight and the third (see `losses_and_sums`), over all rows of a split.
    """
    mean_loss, mean_third = sums[0] / sums[1], sums[2] / sums[1]
    if not is_number(loss):
        return {"loss": mean_loss, "accuracy": mean_third}
    squared, absolute = (mean_loss, mean_third) if loss == "mse" else (mean_third, mean_loss)
    return {"loss": mean_loss, "mae": target.scale * absolute, "rmse": target.scale * math.sqrt(squared)}
