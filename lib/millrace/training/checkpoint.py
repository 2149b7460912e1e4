"""Checkpoints: one file for each epoch, and within epochs as often as asked for; complete or not there.

A file is a line of format and SHA-256, then a NumPy archive of the weights and the optimizer's variables with a JSON header. It
is written under another name, forced to the disk and renamed; what is damaged all the same is passed over for the one before.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.errors import TrainingError
from millrace.lake import artifacts
from millrace.loading.files import read_bytes
from millrace.training.board import Point
from millrace.training.request import Value

STAGE = "checkpoint"
_FORMAT = b"millrace-checkpoint-1"
_NAME = re.compile(r"epoch-(?P<epoch>\d{6})(-step-(?P<step>\d{8}))?\.ckpt")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run has come, in the lineage of its weights."""

    fingerprint: str
    """TrainRequest.fingerprint of the run."""
    epoch: int = 0
    """Epochs that are finished."""
    step: int = 0
    """Optimizer steps over all epochs."""
    step_in_epoch: int = 0
    """Of them those in the epoch that is not finished; 0 at an epoch's end."""
    num_rows_seen: int = 0
    sums: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Of the epoch that is not finished: loss, weight and correct rows (`training.step.Sums`)."""
    seconds: float = 0.0
    """Of the epoch that is not finished: how long its steps took."""
    rows: tuple[dict[str, Value], ...] = ()
    """Rows of metrics/epochs."""
    curve: tuple[Point, ...] = ()
    """What TensorBoard shows."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything that the next step starts from."""

    progress: Progress
    weights: tuple[npt.NDArray[Any], ...]
    """In the order of keras.Model.weights."""
    optimizer: tuple[npt.NDArray[Any], ...]
    """In the order of TrainStep.variables."""


def checkpoint_uri(directory: str, epoch: int, step_in_epoch: int = 0) -> str:
    """Where the checkpoint lies that was written `step_in_epoch` steps after `epoch` finished epochs."""
    step = f"-step-{step_in_epoch:08d}" if step_in_epoch else ""
    return f"{directory.rstrip('/')}/epoch-{epoch:06d}{step}.ckpt"


def write_checkpoint(
    directory: str,
    checkpoint: Checkpoint,
    *,
    keep: int = 3,
    kept_epoch: int | None = None,
    beat: Callable[[], None] = lambda: None,
) -> str:
    """Writes atomically, removes all but the newest `keep` and that of `kept_epoch`, and gives the address.

    `beat` is called as the work goes on.

    Raises TrainingError where the place cannot be written.
    """
    uri = checkpoint_uri(directory, checkpoint.progress.epoch, checkpoint.progress.step_in_epoch)
    beat()
    content = _pack(checkpoint)
    try:
        artifacts.write_bytes(uri, content)
        beat()
        for place, old in _list(directory)[:-keep]:
            if place != (kept_epoch, 0):
                artifacts.remove(old)
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
        lists = {name: tuple(header["progress"][name]) for name in ("rows", "sums")}
        curve = tuple(Point(*point) for point in header["progress"]["curve"])
        progress = Progress(**(header["progress"] | lists | {"curve": curve}))
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
    for place, uri in reversed(_list(directory)):
        if place > (max_epoch, 0):
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
    assign(read_checkpoint(uri).weights, model.weights, uri=uri)


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
        "progress": {**asdict(checkpoint.progress), "curve": [list(astuple(point)) for point in checkpoint.progress.curve]},
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


def remove_unfinished(directory: str) -> None:
    """Removes what a writer that was killed has left. Only for the one process that writes there."""
    for name in artifacts.names(directory):
        if name.endswith(artifacts.UNFINISHED):
            artifacts.remove(f"{directory.rstrip('/')}/{name}")


def _list(directory: str) -> list[tuple[tuple[int, int], str]]:
    """((epochs, steps in the next one), address) of the checkpoints there, oldest first."""
    matches = [match for name in artifacts.names(directory) if (match := _NAME.fullmatch(name))]
    places = sorted((int(match["epoch"]), int(match["step"] or 0)) for match in matches)
    return [(place, checkpoint_uri(directory, *place)) for place in places]
