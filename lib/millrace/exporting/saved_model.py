"""TensorFlow's SavedModel: a directory with a graph that runs without Keras."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from millrace.exporting.predictor import Batch, InputSpec, Predictor, Probabilities, in_chunks

if TYPE_CHECKING:
    import keras

FILE_NAME = "saved_model"
SIGNATURE = "serving_default"
"""The signature that TensorFlow Serving calls where none is named."""


def write(model: keras.Model, path: Path) -> None:
    """Write the serving model to the directory `path`, with a signature for any number of rows."""
    model.export(path, format="tf_saved_model", verbose=False)


def load(path: Path) -> Predictor:
    """Read it back. Raises ValueError where it has not one input and one output in its serving signature."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures[SIGNATURE]
    inputs, outputs = serve.structured_input_signature[1], serve.structured_outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(
            f"the signature {SIGNATURE} has {len(inputs)} inputs and {len(outputs)} outputs, and must have one of each"
        )
    ((input_name, takes),) = inputs.items()
    ((output_name, gives),) = outputs.items()

    def run(chunk: Batch) -> Probabilities:
        # Through `loaded`: a signature alone does not keep the variables of its model alive.
        answer = loaded.signatures[SIGNATURE](**{input_name: tf.constant(chunk)})
        probabilities: Probabilities = answer[output_name].numpy()
        return probabilities

    spec = InputSpec(shape=tuple(takes.shape[1:].as_list()), dtype=takes.dtype.name)
    return in_chunks(run, takes=spec, num_classes=int(gives.shape[-1]))
