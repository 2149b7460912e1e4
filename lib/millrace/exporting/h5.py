"""The HDF5 format of Keras 2, for programs that still read it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from millrace.exporting.predictor import Predictor
from millrace.exporting.serving_model import predictor

if TYPE_CHECKING:
    import keras

FILE_NAME = "model.h5"


def write(model: keras.Model, path: Path) -> None:
    """Write the serving model to `path`, which must end in .h5."""
    with _without_legacy_warning():
        model.save(path)


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
