"""Keras' own format: one .keras file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from millrace.exporting.predictor import Predictor
from millrace.exporting.serving_model import predictor
from millrace.exporting.tokenizers import TextInput

if TYPE_CHECKING:
    import keras

FILE_NAME = "model.keras"


def write(model: keras.Model, path: Path, texts: Mapping[str, TextInput] = MappingProxyType({})) -> None:  # noqa: ARG001
    """Write the serving model to `path`, which must end in .keras. It takes the ids of `texts`."""
    model.save(path)


def load(path: Path) -> Predictor:
    """Read it back in safe mode, without custom objects and without an optimizer."""
    import keras

    return predictor(keras.models.load_model(path, compile=False, safe_mode=True))
