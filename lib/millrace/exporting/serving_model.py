"""The model that leaves the pipeline: the trained one, with probabilities instead of logits, behind what encodes its input.

TensorFlow is imported inside the functions: what only names a format must not wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from millrace.errors import ExportError
from millrace.exporting.predictor import STRING, Batch, InputSpec, Predictor, Scores

if TYPE_CHECKING:
    import keras


def serving_model(
    training_model: keras.Model, *, front: keras.Model | None = None, kind: Literal["class", "number"] = "class"
) -> keras.Model:
    """What the trained model and a front give: raw rows -> (B, K) float32 probabilities, or (B, 1) numbers.

    Of a class the trained model gives logits, and a softmax follows; of a number it gives the number in its own unit. `front`
    (several named inputs -> one output of the trained model's input) comes before it: the serving model then takes a mapping of
    the front's inputs by their names. All share their weights. Made of Keras' own layers only, so that it reloads in safe mode
    and without custom objects. Raises ExportError where the models do not fit together.
    """
    import keras

    shapes = [tuple(tensor.shape) for tensor in training_model.outputs]
    if len(training_model.inputs) != 1 or [len(shape) for shape in shapes] != [2] or (kind == "number" and shapes[0][1] != 1):
        raise ExportError(
            "export",
            expected=f"a model with one input and one output of shape (rows, {'classes' if kind == 'class' else '1'})",
            found=f"{len(training_model.inputs)} inputs and outputs of shape {shapes}",
            remedy="Export the model that the pipeline's model section builds.",
        )
    # float32 also where the layers before compute in half precision: their softmax would not add up to 1.
    last: keras.Layer = (
        keras.layers.Softmax(dtype="float32", name="probabilities")
        if kind == "class"
        else keras.layers.Identity(dtype="float32", name="prediction")
    )
    if front is None:
        return keras.Model(training_model.inputs[0], last(training_model.outputs[0]), name=training_model.name)
    _check_front(front, training_model)
    inputs = {tensor.name: tensor for tensor in front.inputs}
    return keras.Model(inputs, last(training_model(front.outputs[0])), name=f"{training_model.name}_with_front")


def _check_front(front: keras.Model, model: keras.Model) -> None:
    """The front's only output is what the model takes."""
    takes = next(iter(input_specs(model).values()))
    gives = [_spec_of(tensor) for tensor in front.outputs]
    if gives != [takes]:
        raise ExportError(
            "export",
            expected=f"a front that gives {takes}",
            found=" and ".join(map(str, gives)),
            remedy="Fit the features again: gold and the front must come from the same state.",
        )


def predictor(model: keras.Model) -> Predictor:
    """A predictor that runs a serving model in memory. Compiled once, for every number of rows."""
    import tensorflow as tf

    takes = input_specs(model)
    signature = {name: tf.TensorSpec((None, *spec.shape), spec.dtype, name=name) for name, spec in takes.items()}
    compiled = tf.function(lambda inputs: answer(model, inputs), input_signature=[signature])

    def run(chunk: dict[str, Batch]) -> Scores:
        tensors = {name: tf.constant(batch) for name, batch in chunk.items()}
        # Not compiled(...): TensorFlow would count the traces of every predictor of the process together and warn of them.
        scores: Scores = compiled.get_concrete_function()(**tensors).numpy()
        return scores

    return Predictor(run, takes=takes, num_scores=int(model.outputs[0].shape[-1]))


def answer(model: keras.Model, inputs: Mapping[str, Any]) -> Any:
    """What a serving model gives for tensors by the names of its inputs, of which it may have only one."""
    return model(inputs if isinstance(model.input, Mapping) else next(iter(inputs.values())), training=False)


def input_specs(model: keras.Model) -> dict[str, InputSpec]:
    """What each of the model's inputs takes, by its name."""
    return {tensor.name: _spec_of(tensor) for tensor in model.inputs}


def _spec_of(tensor: Any) -> InputSpec:
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
    """Rows to compare two forms of a model on: (num_rows, *shape), spread over a byte's range; texts are empty."""
    if takes.dtype == STRING:
        return np.full((num_rows, *takes.shape), "", dtype=object)
    num_values = int(np.prod(takes.shape))
    rows = np.arange(num_rows)[:, None] * (np.arange(num_values)[None, :] * 7 + 13) % 251  # (num_rows, num_values)
    return rows.reshape(num_rows, *takes.shape).astype(takes.dtype)
