"""When a run is saved, and how its ranks go on from what was: all from one file, and all sure that they have the same."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import keras

from millrace.errors import TrainingError
from millrace.training.board import Point, write_board
from millrace.training.checkpoint import (
    Beat,
    Checkpoint,
    Progress,
    assign,
    checkpoint_uri,
    newest_checkpoint,
    read_checkpoint,
    remove_unfinished,
    write_checkpoint,
)
from millrace.training.ranks import Ranks
from millrace.training.request import TrainRequest
from millrace.training.step import Sums


class Tell(Protocol):
    """Says what a rank does: `Heartbeat.send`, or a recorder."""

    def __call__(self, kind: str, **fields: Any) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A state that all ranks share."""

    weight_hash: str
    """SHA-256 in hex of weights and optimizer state."""
    uri: str
    """The checkpoint; empty where nothing was saved yet."""


class Saver:
    """The checkpoints of one run, seen from one of its ranks. What is called here is called on every rank."""

    def __init__(
        self,
        request: TrainRequest,
        ranks: Ranks,
        tell: Tell,
        fingerprint: str,
        weights: Sequence[keras.Variable],
        optimizer: Sequence[keras.Variable],
    ) -> None:
        """`weights` and `optimizer` are all that a step changes and the next one starts from."""
        self._request, self._ranks, self._tell = request, ranks, tell
        self._fingerprint, self._weights, self._optimizer = fingerprint, list(weights), list(optimizer)
        self._config = request.training.checkpoints
        self._saved_at = time.monotonic()
        self.uri = ""
        """The newest checkpoint; empty where there is none yet."""
        self._board_fails = False

    def restore(self) -> tuple[Progress | None, list[str]]:
        """The newest whole checkpoint of the run, None where there is none, and remarks on those passed over.

        Rank 0 chooses it, and every rank takes its numbers from the same file.
        """
        choice: str | None = None
        notes: list[str] = []
        if self._ranks.rank == 0:
            directory, epochs = self._request.checkpoints, self._request.training.epochs
            remove_unfinished(directory, self._fingerprint)
            found, notes = newest_checkpoint(directory, self._fingerprint, max_epoch=epochs, beat=self._beat)
            self._warn(notes)
            choice = found or ""
        self._wait()
        self.uri = self._ranks.broadcast_text(choice)
        return (self._load(self.uri, self._beat) if self.uri else None), notes

    def agree(self) -> Saved:
        """Gives every rank the state of rank 0, from which all start."""
        self._wait()
        self._ranks.broadcast(self._state())
        weight_hash = self._ranks.same_hash(self._state(), where="at the start", beat=self._wait)
        self._beat()
        return Saved(weight_hash=weight_hash, uri=self.uri)

    def wishes(self) -> bool:
        """Whether this rank, whose clock counts, asks for a checkpoint; the ranks hear of it in the next step."""
        minutes = self._config.every_minutes
        return self._ranks.rank == 0 and minutes is not None and time.monotonic() - self._saved_at > 60.0 * minutes

    def is_due(self, at: Progress, sums: Sums) -> bool:
        """Whether the ranks save after this step, which has given `sums`: all come to the same answer."""
        every = self._config.every_steps
        return sums.wishes > 0 or (every is not None and at.step % every == 0)

    def save(self, at: Progress, *, kept_epoch: int) -> Saved:
        """Writes a checkpoint once the ranks have agreed on what they have. That of `kept_epoch` stays, however old it is."""
        self._wait()
        where = f"after step {at.step_in_epoch} of epoch {at.epoch + 1}" if at.step_in_epoch else f"after epoch {at.epoch}"
        weight_hash = self._ranks.same_hash(self._state(), where=where, beat=self._wait)
        uri: str | None = None
        if self._ranks.rank == 0:
            checkpoint = Checkpoint(
                progress=at,
                weights=tuple(variable.numpy() for variable in self._weights),
                optimizer=tuple(variable.numpy() for variable in self._optimizer),
            )
            uri = write_checkpoint(
                self._request.checkpoints, checkpoint, keep=self._config.keep, kept_epoch=kept_epoch, beat=self._beat
            )
            if self._request.board is not None:
                self._draw(self._request.board, at.curve)
        else:
            self._wait()
        self.uri = self._ranks.broadcast_text(uri)
        self._saved_at = time.monotonic()
        return Saved(weight_hash=weight_hash, uri=self.uri)

    def go_back(self, epoch: int) -> tuple[tuple[Progress, Saved] | None, list[str]]:
        """The state after `epoch` epochs, whose checkpoint was kept. None where that is damaged, and a remark which says so; then
        all stays as it is."""
        self._wait()
        choice: str | None = None
        notes: list[str] = []
        if self._ranks.rank == 0:
            choice = checkpoint_uri(self._request.checkpoints, self._fingerprint, epoch)
            try:
                read_checkpoint(choice, self._wait)
            except TrainingError as error:
                if error.retry:
                    raise
                notes = [f"the best epoch's {choice} is passed over: {error.found}"]
                self._warn(notes)
                choice = ""
        uri = self._ranks.broadcast_text(choice)
        if not uri:
            return None, notes
        progress = self._load(uri, self._wait)
        weight_hash = self._ranks.same_hash(self._state(), where=f"after epoch {epoch}", beat=self._wait)
        return (progress, Saved(weight_hash=weight_hash, uri=uri)), notes

    def _draw(self, directory: str, curve: Sequence[Point]) -> None:
        """Pictures of a run are no reason to end it."""
        try:
            write_board(directory, curve)
        except OSError as error:
            if not self._board_fails:
                self._warn([f"what TensorBoard shows is not written: {error}"])
            self._board_fails = True

    def _warn(self, notes: Sequence[str]) -> None:
        for note in notes:
            self._tell("log", message=note, warns=True)

    def _load(self, uri: str, beat: Beat) -> Progress:
        checkpoint = read_checkpoint(uri, beat)
        assign(checkpoint.weights, self._weights, uri=uri)
        assign(checkpoint.optimizer, self._optimizer, uri=uri)
        return checkpoint.progress

    def _state(self) -> list[keras.Variable]:
        return [*self._weights, *self._optimizer]

    def _beat(self) -> None:
        self._tell("checkpoint")

    def _wait(self) -> None:
        self._tell("wait")
