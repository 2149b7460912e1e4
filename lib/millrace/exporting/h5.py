"""The HDF5 format of Keras 2, for programs that still read it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from millrace.exporting.predictor import Predictor
from millrace.exporting.serving_model import predictor
from millrace.exporting.tokenizers import TextInput

if TYPE_CHECKING:
    import keras

FILE_NAME = "model.h5"


def write(model: keras.Model, path: Path, texts: Mapping[str, TextInput] = MappingProxyType({})) -> None:  # noqa: ARG001
    """Write the serving model to `path`, which must end in .h5. It takes the ids of `texts`."""
    import h5py
    import keras

    with _without_legacy_warning():
        model.save(path)
    # The legacy writer names only classes, and its reader finds only layers: operations of keras.ops, of which the graph of the
    # features is made, would be unknown to it. With the module beside each class, as in .keras files, it reads them all.
    described = keras.saving.serialize_keras_object(model)
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps({key: described[key] for key in ("class_name", "config")}).encode()


def load(path: Path) -> Predictor:
    """Read it back in safe mode, without custom objects and without an optimizer."""
    import keras

    return predictor(keras.models.load_model(path, compile=False, safe_mode=True))


@contextmanager
def _without_legacy_warning() -> Iterator[None]:
    """Keep back Keras' advice to save in another format: the pipeline asked for this one."""
    logger = logging.getLogger("absl")

    def is_something_else(record: logging.LogRecord) -> bool:
        return "You are saving your model as an HDF5 file" not in record.getMessage()

    logger.addFilter(is_something_else)
    try:
        yield
    finally:
        logger.removeFilter(is_something_else)
