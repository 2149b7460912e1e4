"""The model that leaves the pipeline: the trained one, with probabilities instead of logits.

TensorFlow is imported inside the functions: what only names a format must not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from millrace.errors import ExportError
from millrace.exporting.predictor import Batch, InputSpec, Predictor, Probabilities, in_chunks

if TYPE_CHECKING:
    import keras


def serving_model(training_model: keras.Model) -> keras.Model:
    """The training model (raw batch -> (B, K) logits) followed by a softmax: raw batch -> (B, K) float32 probabilities.

    The two share their weights. Made of Keras' own layers only, so that it reloads in safe mode and without custom objects.
    Raises ExportError where the model has not one input and one output of shape (B, K).
    """
    import keras

    shapes = [tuple(tensor.shape) for tensor in training_model.outputs]
    if len(training_model.inputs) != 1 or [len(shape) for shape in shapes] != [2]:
        raise ExportError(
            "export",
            expected="a model with one input and one output of shape (rows, classes)",
            found=f"{len(training_model.inputs)} inputs and outputs of shape {shapes}",
            remedy="Export the model that the pipeline's model section builds.",
        )
    # float32 also where the layers before compute in half precision: their softmax would not add up to 1.
    softmax = keras.layers.Softmax(dtype="float32", name="probabilities")
    return keras.Model(training_model.inputs[0], softmax(training_model.outputs[0]), name=training_model.name)


def predictor(model: keras.Model) -> Predictor:
    """A predictor that runs a serving model in memory. Compiled once, for every number of rows."""
    import tensorflow as tf

    takes = input_spec(model)
    signature = tf.TensorSpec((None, *takes.shape), takes.dtype)
    compiled = tf.function(lambda rows: model(rows, training=False), input_signature=[signature])

    def run(chunk: Batch) -> Probabilities:
        # Not compiled(...): TensorFlow would count the traces of every predictor of the process together and warn of them.
        probabilities: Probabilities = compiled.get_concrete_function()(tf.constant(chunk)).numpy()
        return probabilities

    return in_chunks(run, takes=takes, num_classes=int(model.outputs[0].shape[-1]))


def input_spec(model: keras.Model) -> InputSpec:
    """What the model's only input takes."""
    tensor = model.inputs[0]
    return InputSpec(shape=tuple(int(size) for size in tensor.shape[1:]), dtype=str(tensor.dtype))


def signature(model: keras.Model) -> dict[str, dict[str, dict[str, object]]]:
    """Inputs and outputs by name, for registry/models: type and shape of one row, without the batch."""
    sides = {"inputs": ([tensor.name for tensor in model.inputs], model.inputs), "outputs": (model.output_names, model.outputs)}
    return {
        side: {
            name: {"dtype": str(tensor.dtype), "shape": [int(size) for size in tensor.shape[1:]]}
            for name, tensor in zip(names, tensors, strict=True)
        }
        for side, (names, tensors) in sides.items()
    }


def probe_batch(takes: InputSpec, *, num_rows: int = 4) -> Batch:
    """Rows to compare two forms of a model on: (num_rows, *shape), all zeros first, then spread over a byte's range."""
    num_values = int(np.prod(takes.shape))
    rows = np.arange(num_rows)[:, None] * (np.arange(num_values)[None, :] * 7 + 13) % 251  # (num_rows, num_values)
    return rows.reshape(num_rows, *takes.shape).astype(takes.dtype)
