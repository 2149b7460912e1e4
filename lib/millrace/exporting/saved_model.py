"""TensorFlow's SavedModel: a directory with a graph that runs without Keras."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from millrace.exporting.predictor import STRING, Batch, InputSpec, Predictor, Scores
from millrace.exporting.serving_model import answer, input_specs
from millrace.exporting.text import text_to_ids
from millrace.exporting.tokenizers import TextInput

if TYPE_CHECKING:
    import keras

FILE_NAME = "saved_model"
SIGNATURE = "serving_default"
"""The signature that TensorFlow Serving calls where none is named."""


def write(model: keras.Model, path: Path, texts: Mapping[str, TextInput] = MappingProxyType({})) -> None:
    """Write the serving model to the directory `path`, with a signature for any number of rows.

    Of the inputs in `texts` those that TensorFlow can make of a text take texts, (rows,) of UTF-8.
    """
    graphs = {name: text_to_ids(text.tokenizer, text.fit) for name, text in texts.items() if text.has_graph}
    if not graphs:
        model.export(path, format="tf_saved_model", verbose=False)
        return
    import keras
    import tensorflow as tf

    def serve(inputs: Mapping[str, Any]) -> Any:
        return answer(model, {name: graphs[name](values) if name in graphs else values for name, values in inputs.items()})

    takes = {**input_specs(model), **dict.fromkeys(graphs, InputSpec(shape=(), dtype=STRING))}
    archive = keras.export.ExportArchive()
    for resource in (model, *graphs.values()):
        archive.track(resource)
    signature = {name: tf.TensorSpec((None, *spec.shape), spec.dtype, name=name) for name, spec in takes.items()}
    archive.add_endpoint("serve", serve, input_signature=[signature])
    archive.write_out(path, verbose=False)


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
    return Predictor(run, takes=takes, num_scores=int(gives.shape[-1]))
