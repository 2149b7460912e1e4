"""Checkpoints: one file for each epoch, complete or not there.

A file is a line of format and SHA-256, then a NumPy archive of the weights and the optimizer's variables with a JSON header. It
is written under another name, forced to the disk and renamed; what is damaged all the same is passed over for the one before.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from millrace.errors import TrainingError
from millrace.loading.files import local_path, read_bytes
from millrace.training.request import Value

STAGE = "checkpoint"
_FORMAT = b"millrace-checkpoint-1"
_NAME = re.compile(r"epoch-(\d{6})\.ckpt$")
_UNFINISHED = ".tmp"
KEEP = 3  # the newest, and two to fall back on


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run has come at the end of an epoch."""

    fingerprint: str
    """TrainRequest.fingerprint of the run."""
    epoch: int
    """Epochs that are finished."""
    step: int
    """Optimizer steps so far."""
    num_rows_seen: int
    rows: tuple[dict[str, Value], ...]
    """Rows of metrics/epochs so far."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything that the next epoch starts from."""

    progress: Progress
    weights: tuple[npt.NDArray[Any], ...]
    """In the order of keras.Model.variables."""
    optimizer: tuple[npt.NDArray[Any], ...]
    """In the order of keras.Optimizer.variables."""


def checkpoint_uri(directory: str, epoch: int) -> str:
    """Where the checkpoint after `epoch` finished epochs lies."""
    return f"{directory.rstrip('/')}/epoch-{epoch:06d}.ckpt"


def write_checkpoint(directory: str, checkpoint: Checkpoint, *, beat: Callable[[], None] = lambda: None) -> str:
    """Writes atomically, removes all but the newest `KEEP`, and gives the address. `beat` is called as the work goes on.

    Raises TrainingError where the place cannot be written.
    """
    uri = checkpoint_uri(directory, checkpoint.progress.epoch)
    beat()
    content = _pack(checkpoint)
    try:
        _write_atomically(uri, content)
        beat()
        for _, old in _list(directory)[:-KEEP]:
            _remove(old)
    except OSError as error:
        raise TrainingError(
            STAGE,
            expected=f"to write {uri}",
            found=str(error),
            remedy="Make room or give write access there, and run again.",
            retry=True,
        ) from error
    return uri


def read_checkpoint(uri: str) -> Checkpoint:
    """Raises TrainingError where the file is torn, changed or something else."""
    try:
        content = read_bytes(uri)
        head, _, body = content.partition(b"\n")
        if head != _head(body):
            raise ValueError(f"{len(content)} bytes that do not match their checksum")
        with np.load(io.BytesIO(body), allow_pickle=False) as archive:
            header = json.loads(bytes(archive["header"]).decode())
            weights = tuple(archive[f"weights-{number}"] for number in range(header["num_weights"]))
            optimizer = tuple(archive[f"optimizer-{number}"] for number in range(header["num_optimizer"]))
        progress = Progress(**(header["progress"] | {"rows": tuple(header["progress"]["rows"])}))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise TrainingError(
            STAGE,
            expected=f"a whole checkpoint at {uri}",
            found=str(error),
            remedy="Remove it; training goes on from the one before.",
        ) from error
    return Checkpoint(progress=progress, weights=weights, optimizer=optimizer)


def newest_checkpoint(directory: str, fingerprint: str, *, max_epoch: int) -> tuple[str | None, list[str]]:
    """The address of the newest whole checkpoint of the run with at most `max_epoch` epochs, and remarks on those passed over."""
    remarks = []
    for epoch, uri in reversed(_list(directory)):
        if epoch > max_epoch:
            continue
        try:
            found = read_checkpoint(uri).progress.fingerprint
        except TrainingError as error:
            remarks.append(f"{uri} is passed over: {error.found}")
            continue
        if found == fingerprint:
            return uri, remarks
        remarks.append(f"{uri} is passed over: it belongs to other data, another model or another plan")
    return None, remarks


def load_weights(uri: str, model: Any) -> None:
    """Puts a checkpoint's weights into a Keras model of the same kind. Raises TrainingError where they do not fit."""
    assign(read_checkpoint(uri).weights, model.variables, uri=uri)


def assign(values: Sequence[npt.NDArray[Any]], variables: Sequence[Any], *, uri: str) -> None:
    """Sets Keras variables. Raises TrainingError where number or shapes differ."""
    expected = [tuple(variable.shape) for variable in variables]
    found = [value.shape for value in values]
    if expected != found:
        raise TrainingError(
            STAGE,
            expected=f"arrays of shapes {expected}",
            found=f"{found} in {uri}",
            remedy="The checkpoint is of another model: build the model that was trained.",
        )
    for value, variable in zip(values, variables, strict=True):
        variable.assign(value)


def _pack(checkpoint: Checkpoint) -> bytes:
    header = {
        "progress": asdict(checkpoint.progress),
        "num_weights": len(checkpoint.weights),
        "num_optimizer": len(checkpoint.optimizer),
    }
    arrays = {"header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)}
    arrays |= {f"weights-{number}": array for number, array in enumerate(checkpoint.weights)}
    arrays |= {f"optimizer-{number}": array for number, array in enumerate(checkpoint.optimizer)}
    body = io.BytesIO()
    np.savez(body, **arrays)
    return _head(body.getvalue()) + b"\n" + body.getvalue()


def _head(body: bytes) -> bytes:
    return _FORMAT + b" " + hashlib.sha256(body).hexdigest().encode()


def _write_atomically(uri: str, content: bytes) -> None:
    unfinished = f"{uri}.{uuid4().hex}{_UNFINISHED}"
    path = local_path(uri)
    if path is None:
        import fsspec

        fs, remote = fsspec.core.url_to_fs(uri)
        fs.makedirs(remote.rsplit("/", 1)[0], exist_ok=True)
        fs.pipe_file(fs._strip_protocol(unfinished), content)
        fs.mv(fs._strip_protocol(unfinished), remote)
        return
    target, temporary = Path(path), Path(local_path(unfinished) or unfinished)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(target.parent, os.O_RDONLY)  # the rename itself must reach the disk too
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def remove_unfinished(directory: str) -> None:
    """Removes what a writer that was killed has left. Only for the one process that writes there."""
    for name in _names(directory):
        if name.endswith(_UNFINISHED):
            _remove(f"{directory.rstrip('/')}/{name}")


def _list(directory: str) -> list[tuple[int, str]]:
    """(epochs, address) of the checkpoints there, oldest first."""
    matches = [match for name in _names(directory) if (match := _NAME.fullmatch(name))]
    return sorted((int(match.group(1)), checkpoint_uri(directory, int(match.group(1)))) for match in matches)


def _names(directory: str) -> list[str]:
    path = local_path(directory)
    if path is not None:
        return [entry.name for entry in Path(path).iterdir()] if Path(path).is_dir() else []
    import fsspec

    fs, remote = fsspec.core.url_to_fs(directory)
    fs.invalidate_cache()
    return [str(entry).rsplit("/", 1)[-1] for entry in fs.ls(remote, detail=False)] if fs.exists(remote) else []


def _remove(uri: str) -> None:
    path = local_path(uri)
    if path is not None:
        Path(path).unlink(missing_ok=True)
        return
    import fsspec

    fs, remote = fsspec.core.url_to_fs(uri)
    fs.rm_file(remote)
