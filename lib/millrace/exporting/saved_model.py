"""TensorFlow's SavedModel: a directory with a graph that runs without Keras."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from millrace.exporting.predictor import Batch, InputSpec, Predictor, Scores, in_chunks

if TYPE_CHECKING:
    import keras

FILE_NAME = "saved_model"
SIGNATURE = "serving_default"
"""The signature that TensorFlow Serving calls where none is named."""


def write(model: keras.Model, path: Path) -> None:
    """Write the serving model to the directory `path`, with a signature for any number of rows."""
    model.export(path, format="tf_saved_model", verbose=False)


def load(path: Path) -> Predictor:
    """Read it back. Raises ValueError where its serving signature has no input, or not one output."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures[SIGNATURE]
    inputs, outputs = serve.structured_input_signature[1], serve.structured_outputs
    if not inputs or len(outputs) != 1:
        raise ValueError(
            f"the signature {SIGNATURE} has {len(inputs)} inputs and {len(outputs)} outputs, and must have one output"
        )
    ((output_name, gives),) = outputs.items()

    def run(chunk: dict[str, Batch]) -> Scores:
        # Through `loaded`: a signature alone does not keep the variables of its model alive.
        answer = loaded.signatures[SIGNATURE](**{name: tf.constant(batch) for name, batch in chunk.items()})
        scores: Scores = answer[output_name].numpy()
        return scores

    takes = {name: InputSpec(shape=tuple(spec.shape[1:].as_list()), dtype=spec.dtype.name) for name, spec in inputs.items()}
    return in_chunks(run, takes=takes, num_scores=int(gives.shape[-1]))
