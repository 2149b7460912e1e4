"""Checkpoints: one file for each epoch, and within epochs as often as asked for; complete or not there.

A file is a line of format and SHA-256, then a NumPy archive of the weights and the optimizer's variables with a JSON header. It
is written under another name, forced to the disk and renamed; what is damaged all the same is passed over for the one before.
Each run, known by its fingerprint, has a directory of its own: another run never overwrites, counts or removes its files.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.errors import TrainingError
from millrace.lake import artifacts
from millrace.training.board import Point
from millrace.training.request import Value

STAGE = "checkpoint"
_REMEDY = "See that the store can be reached and read, and run again."
_FORMAT = b"millrace-checkpoint-1"
Beat = Callable[[], None]
_SILENT: Beat = lambda: None  # noqa: E731
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
    """Of the epoch that is not finished: loss, weight, and correct rows or the other error (`training.step.Sums`)."""
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


def directory_of(directory: str, fingerprint: str) -> str:
    """Where in `directory` a run's checkpoints lie, and no other run's."""
    return f"{directory.rstrip('/')}/{fingerprint[:16]}"


def checkpoint_uri(directory: str, fingerprint: str, epoch: int, step_in_epoch: int = 0) -> str:
    """Where the run's checkpoint lies that was written `step_in_epoch` steps after `epoch` finished epochs."""
    step = f"-step-{step_in_epoch:08d}" if step_in_epoch else ""
    return f"{directory_of(directory, fingerprint)}/epoch-{epoch:06d}{step}.ckpt"


def write_checkpoint(
    directory: str, checkpoint: Checkpoint, *, keep: int = 3, kept_epoch: int | None = None, beat: Beat = _SILENT
) -> str:
    """Writes atomically and gives the address. Of the run's checkpoints up to this one, the newest `keep` and that of
    `kept_epoch` stay. `beat` is called as the work goes on.

    Raises TrainingError where the place cannot be written.
    """
    at = checkpoint.progress
    uri = checkpoint_uri(directory, at.fingerprint, at.epoch, at.step_in_epoch)
    beat()
    with _store(f"to write {uri}", "Make room or give write access there, and run again."):
        artifacts.write_parts(uri, _pack(checkpoint, beat))
        beat()
        so_far = [found for found in _list(directory, at.fingerprint) if found[0] <= (at.epoch, at.step_in_epoch)]
        for place, old in so_far[:-keep]:
            if place != (kept_epoch, 0):
                artifacts.remove(old)
    return uri


def read_checkpoint(uri: str, beat: Beat = _SILENT) -> Checkpoint:
    """Raises TrainingError: with `retry` where it cannot be read now, without where the file is gone, torn, changed or something
    else. `beat` is called as the work goes on."""
    try:
        content = io.BytesIO()
        with _store(f"to read {uri}", _REMEDY, answers=(FileNotFoundError,)):
            for part in artifacts.read_parts(uri):
                content.write(part)
                beat()
        content.seek(0)
        if content.readline() != _head(content.getbuffer()[content.tell() :], beat):
            raise ValueError(f"{content.getbuffer().nbytes} bytes that do not match their checksum")
        return _unpack(content, beat)
    except (FileNotFoundError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise TrainingError(
            STAGE,
            expected=f"a whole checkpoint at {uri}",
            found=str(error),
            remedy="Remove it; training goes on from the one before.",
        ) from error


def newest_checkpoint(directory: str, fingerprint: str, *, max_epoch: int, beat: Beat = _SILENT) -> tuple[str | None, list[str]]:
    """The address of the newest whole checkpoint of the run with at most `max_epoch` epochs, and remarks on those passed over.

    Raises TrainingError where one cannot be read now: to take it for damaged would throw its steps away.
    """
    remarks: list[str] = []
    with _store(f"to list {directory_of(directory, fingerprint)}", _REMEDY):
        found = _list(directory, fingerprint)
    for place, uri in reversed(found):
        if place > (max_epoch, 0):
            continue
        try:
            if read_checkpoint(uri, beat).progress.fingerprint == fingerprint:
                return uri, remarks
            remarks.append(f"{uri} is passed over: it belongs to other data, another model or another plan")
        except TrainingError as error:
            if error.retry:
                raise
            remarks.append(f"{uri} is passed over: {error.found}")
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


def _pack(checkpoint: Checkpoint, beat: Beat) -> Iterator[bytes | memoryview]:
    """The file in parts."""
    header = {
        "progress": {**asdict(checkpoint.progress), "curve": [list(astuple(point)) for point in checkpoint.progress.curve]},
        "num_weights": len(checkpoint.weights),
        "num_optimizer": len(checkpoint.optimizer),
    }
    arrays = {"header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)}
    arrays |= {f"weights-{number}": array for number, array in enumerate(checkpoint.weights)}
    arrays |= {f"optimizer-{number}": array for number, array in enumerate(checkpoint.optimizer)}
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:  # as np.savez does, which says nothing until all is done
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)  # type: ignore[no-untyped-call]
            beat()
    content = body.getbuffer()
    head = _head(content, beat)
    for part in _parts(content):
        yield head + part  # the head goes with the first part: one of its own would be a trip to the disk more
        head = b""
        beat()


def _unpack(content: io.BytesIO, beat: Beat) -> Checkpoint:
    """The checkpoint from the archive that is left in `content`."""

    def read(name: str) -> npt.NDArray[Any]:
        beat()
        array: npt.NDArray[Any] = archive[name]
        return array

    with np.load(content, allow_pickle=False) as archive:
        header = json.loads(bytes(read("header")).decode())
        weights = tuple(read(f"weights-{number}") for number in range(header["num_weights"]))
        optimizer = tuple(read(f"optimizer-{number}") for number in range(header["num_optimizer"]))
    lists = {name: tuple(header["progress"][name]) for name in ("rows", "sums")}
    curve = tuple(Point(*point) for point in header["progress"]["curve"])
    progress = Progress(**(header["progress"] | lists | {"curve": curve}))
    return Checkpoint(progress=progress, weights=weights, optimizer=optimizer)


def _head(body: memoryview, beat: Beat) -> bytes:
    digest = hashlib.sha256()
    for part in _parts(body):
        digest.update(part)
        beat()
    return _FORMAT + b" " + digest.hexdigest().encode() + b"\n"


def _parts(content: memoryview) -> Iterator[memoryview]:
    return (content[first : first + artifacts.PART_BYTES] for first in range(0, len(content), artifacts.PART_BYTES))


@contextlib.contextmanager
def _store(expected: str, remedy: str, *, answers: tuple[type[OSError], ...] = ()) -> Iterator[None]:
    """What a store refuses now it may give later, unless the error is one of its `answers`."""
    try:
        yield
    except answers:
        raise
    except OSError as error:
        raise TrainingError(STAGE, expected=expected, found=str(error), remedy=remedy, retry=True) from error


def remove_unfinished(directory: str, fingerprint: str) -> None:
    """Removes what a writer of the run that was killed has left. Only for the one process that writes there."""
    own = directory_of(directory, fingerprint)
    with _store(f"to tidy up {own}", "Give write access there, and run again."):
        for name in artifacts.names(own):
            if name.endswith(artifacts.UNFINISHED):
                artifacts.remove(f"{own}/{name}")


def _list(directory: str, fingerprint: str) -> list[tuple[tuple[int, int], str]]:
    """((epochs, steps in the next one), address) of the run's checkpoints, oldest first."""
    names = artifacts.names(directory_of(directory, fingerprint))
    matches = [match for name in names if (match := _NAME.fullmatch(name))]
    places = sorted((int(match["epoch"]), int(match["step"] or 0)) for match in matches)
    return [(place, checkpoint_uri(directory, fingerprint, *place)) for place in places]
