"""The formats that a model can be exported to, and the way in and out that is the same for all.

An export is written beside its place, read back, compared with the model in memory, and only then moved there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from millrace.errors import ExportError, MillraceError
from millrace.exporting import h5, keras_file, saved_model, tokenizers
from millrace.exporting.predictor import Inputs, Predictor
from millrace.exporting.serving_model import predictor, probe_batch
from millrace.exporting.tokenizers import TextInput, taking_texts

if TYPE_CHECKING:
    import keras

Texts = Mapping[str, TextInput]
NO_TEXTS: Texts = MappingProxyType({})

MAX_DIFFERENCE = 1e-5
"""How far a probability of the reloaded export may be from the model's; of greater numbers it is the share."""


@dataclass(frozen=True)
class Format:
    """How to write and read one format, and what its file or directory is called."""

    file_name: str
    write: Callable[[keras.Model, Path, Texts], None]
    load: Callable[[Path], Predictor]


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "keras": Format(keras_file.FILE_NAME, keras_file.write, keras_file.load),
        "h5": Format(h5.FILE_NAME, h5.write, h5.load),
        "saved_model": Format(saved_model.FILE_NAME, saved_model.write, saved_model.load),
    }
)


def export(model: keras.Model, format: str, directory: Path, *, probe: Inputs | None = None, texts: Texts = NO_TEXTS) -> Path:
    """Write a serving model (see `serving_model`) into `directory` and give the path of the file or directory made.

    `texts`: the inputs that are made of texts; `tokenizers.write` brings them beside the exports, once for all formats. The two
    are compared on `probe`, a few raw rows as the model takes them, texts and all; without it on made-up ones.

    Nothing is at that path before the export has been read back and agrees with the model; an export that is there already is
    replaced. One writer at a time, which the run's lock sees to: what a killed one left behind is cleared away. Raises
    ExportError where the export cannot be written, cannot be read back, or answers differently.
    """
    chosen = _format(format)
    target = directory / chosen.file_name
    # A sibling, so that the move stays on one file system; the name's end stays, as Keras chooses its format by it.
    partial = directory / f".partial-{chosen.file_name}"
    with _reported(f"export {format}", expected=f"to write {target}", remedy="Free the place, or drop the format."):
        directory.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        try:
            chosen.write(model, partial, texts)
            _check_same(model, _load(partial, format, texts), format, probe, texts)
            _move(partial, target)
        finally:
            _remove(partial)
    return target


def load_predictor(path: Path, format: str) -> Predictor:
    """Read an export: a function from raw rows, one array or several by name, to probabilities (B, K) or numbers (B, 1).

    Where tokenizers lie beside it, it takes their columns as texts, see `taking_texts`.

    Keras files are read in safe mode, without custom objects. A SavedModel is a program: load only what this lake has written.
    Raises ExportError where there is no export at `path`, or it cannot be read as `format`, and ContractError where this
    machine's jieba would cut texts in another way.
    """
    _format(format)
    if not path.exists():
        raise ExportError(
            f"load {format}",
            expected=f"an export at {path}",
            found="nothing there",
            remedy="Publish the run again, or give the path that registry/models names.",
        )
    return _load(path, format, tokenizers.read(path.parent))


def _load(path: Path, format: str, texts: Texts) -> Predictor:
    with _reported(f"load {format}", expected=f"a readable export at {path}", remedy="Publish the run again."):
        return taking_texts(FORMATS[format].load(path), texts)


def _check_same(model: keras.Model, reloaded: Predictor, format: str, probe: Inputs | None, texts: Texts) -> None:
    """Compare the reloaded export with the model on a few rows."""
    in_memory = taking_texts(predictor(model), texts)
    rows = {name: probe_batch(spec) for name, spec in in_memory.takes.items()} if probe is None else probe
    expected = in_memory(rows)
    difference = float((np.abs(reloaded(rows) - expected) / np.maximum(1.0, np.abs(expected))).max())
    # Written so that NaN is refused as well.
    if not difference <= MAX_DIFFERENCE:
        raise ExportError(
            f"export {format}",
            expected=f"the reloaded export to answer as the model does, within {MAX_DIFFERENCE:g}",
            found=f"a difference of {difference:g}",
            remedy="Look for NaN in the weights; else drop the format from publish.exports and report it.",
        )


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise ExportError(
            "export",
            expected=f"one of the formats {', '.join(FORMATS)}",
            found=repr(name),
            remedy="Correct publish.exports.",
        )
    return FORMATS[name]


@contextmanager
def _reported(stage: str, *, expected: str, remedy: str) -> Iterator[None]:
    """Turn whatever Keras, TensorFlow, h5py or the file system raise into an ExportError with their first line."""
    try:
        yield
    except MillraceError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        # A full disk or a lost mount may pass; a model that cannot be written will not, nor does a damaged file heal.
        retry = isinstance(error, OSError) and error.errno is not None
        found = f"{type(error).__name__}: {lines[0]}"
        raise ExportError(stage, expected=expected, found=found, remedy=remedy, retry=retry) from error


def _move(partial: Path, target: Path) -> None:
    """Put `partial` in the place of `target`. A directory cannot be renamed over another: the old one steps aside first."""
    replaced = target.with_name(f".replaced-{target.name}")
    _remove(replaced)
    if target.is_dir():
        target.rename(replaced)
    partial.replace(target)
    _remove(replaced)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
