"""The epochs of one rank: train, validate, agree, save."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import keras

from millrace.loading.index import DatasetIndex
from millrace.loading.plan import PlanSpec
from millrace.loading.pool import reader_threads
from millrace.loading.reader import PlannedReader, read_in_order
from millrace.models.build import build_model
from millrace.training.checkpoint import (
    Checkpoint,
    Progress,
    assign,
    newest_checkpoint,
    read_checkpoint,
    remove_unfinished,
    write_checkpoint,
)
from millrace.training.ranks import Ranks
from millrace.training.request import TrainRequest, TrainResult, Value, resolve_index
from millrace.training.step import EvaluationStep, Sums, TrainStep, build_optimizer

_VALIDATION_ROWS = 1024  # rows of a validation batch on one rank


class Tell(Protocol):
    """Says what a rank does: `Heartbeat.send`, or a recorder."""

    def __call__(self, kind: str, **fields: Any) -> None: ...


def silent(kind: str, **fields: Any) -> None:
    """A `Tell` for runs that nobody watches."""


@dataclass
class _Counts:
    """What has happened so far in the lineage of the weights."""

    epoch: int = 0
    step: int = 0
    num_rows_seen: int = 0
    rows: tuple[dict[str, Value], ...] = ()


def train(request: TrainRequest, ranks: Ranks, *, tell: Tell = silent) -> TrainResult:
    """Trains to the last epoch, from the newest checkpoint of the same run where there is one. Called on every rank.

    Raises PlanError, ContractError, LakeError and TrainingError; a rank that only suffers from another's failure raises what
    Horovod does.
    """
    trainer = _Trainer(request, ranks, tell)
    return trainer.run()


class _Trainer:
    def __init__(self, request: TrainRequest, ranks: Ranks, tell: Tell) -> None:
        self._request, self._ranks, self._tell = request, ranks, tell
        train_index = resolve_index(request.train)
        self._plan: PlanSpec = request.plan(train_index)
        self._fingerprint = request.fingerprint(self._plan)
        training = request.training
        self._reader = PlannedReader(
            train_index,
            self._plan,
            request.columns,
            rank=ranks.rank,
            world_size=ranks.world_size,
            memory_limit_bytes=training.memory_limit_bytes,
            num_threads=reader_threads(training.threads_per_worker),
            loading=training.loading,
        )
        self._validation: DatasetIndex | None = None if request.validation is None else resolve_index(request.validation)
        self._model = build_model(
            request.model,
            input_shape=request.feature.shape,
            divisor=request.divisor,
            num_classes=request.num_classes,
            seed=training.seed,
        )
        self._optimizer = build_optimizer(training.optimizer, self._model)
        self._step = TrainStep(self._model, self._optimizer, world_size=ranks.world_size)
        self._evaluate = EvaluationStep(self._model)

    def run(self) -> TrainResult:
        counts, uri, notes = self._restore()
        first_epoch = counts.epoch + 1
        self._ranks.broadcast(self._state())
        weight_hash = self._ranks.same_hash(self._state(), where="at the start")
        for epoch in range(counts.epoch, self._request.training.epochs):
            counts.rows += tuple(self._train_epoch(epoch, counts))
            counts.rows += tuple(self._validate(epoch, counts))
            self._wait()
            weight_hash = self._ranks.same_hash(self._state(), where=f"after epoch {epoch + 1}")
            uri = self._save(counts)
            metrics = [row for row in counts.rows if row["epoch"] == epoch + 1]
            self._tell("epoch", epoch=epoch + 1, step=counts.step, metrics=metrics)
        return TrainResult(
            rows=counts.rows,
            weights=uri,
            weight_hash=weight_hash,
            num_steps=counts.step,
            num_rows_seen=counts.num_rows_seen,
            num_workers=self._ranks.world_size,
            first_epoch=first_epoch,
            notes=tuple(notes),
        )

    def _state(self) -> list[keras.Variable]:
        """Everything that a step changes."""
        return [*self._model.variables, *self._optimizer.variables]

    def _restore(self) -> tuple[_Counts, str, list[str]]:
        """Rank 0 chooses the checkpoint, and every rank takes its numbers from the same file."""
        choice: str | None = None
        notes: list[str] = []
        if self._ranks.rank == 0:
            directory, epochs = self._request.checkpoints, self._request.training.epochs
            remove_unfinished(directory)
            found, notes = newest_checkpoint(directory, self._fingerprint, max_epoch=epochs)
            for note in notes:
                self._tell("log", message=note)
            choice = found or ""
        uri = self._ranks.broadcast_text(choice)
        if not uri:
            return _Counts(), "", notes
        checkpoint = read_checkpoint(uri)
        assign(checkpoint.weights, self._model.variables, uri=uri)
        assign(checkpoint.optimizer, self._optimizer.variables, uri=uri)
        progress = checkpoint.progress
        return _Counts(progress.epoch, progress.step, progress.num_rows_seen, progress.rows), uri, notes

    def _train_epoch(self, epoch: int, counts: _Counts) -> list[dict[str, Value]]:
        feature, label = self._request.columns
        learning_rate = self._learning_rate()
        started = time.monotonic()
        total = Sums(0.0, 0.0, 0.0)
        for batch in self._reader.batches(epoch, beat=partial(self._tell, "load", epoch=epoch + 1)):
            where = f"step {batch.step + 1} of {self._plan.num_steps} in epoch {epoch + 1}"
            sums = self._step(batch.columns[feature.name], batch.columns[label.name], batch.weights, where=where)
            total = _add(total, sums)
            counts.step += 1
            counts.num_rows_seen += int(sums.weight)
            self._tell(
                "step",
                epoch=epoch + 1,
                step=counts.step,
                step_in_epoch=batch.step + 1,
                num_steps=self._plan.num_steps,
                loss=sums.loss / sums.weight,
                rows=int(total.weight),
                seconds=time.monotonic() - started,
                learning_rate=learning_rate,
            )
        counts.epoch = epoch + 1
        assert int(total.weight) == self._plan.num_rows, "the plan gives every row once"
        return _metric_rows("train", counts, total, learning_rate, time.monotonic() - started)

    def _validate(self, epoch: int, counts: _Counts) -> list[dict[str, Value]]:
        """Exact sums over all rows: each rank takes its share, and only sums are sent."""
        if self._validation is None or self._validation.num_rows == 0:
            return []
        feature, label = self._request.columns
        started = time.monotonic()
        own = Sums(0.0, 0.0, 0.0)
        self._tell("validation", epoch=epoch + 1, step=counts.step, rows=0)
        batches = read_in_order(
            self._validation,
            self._request.columns,
            _VALIDATION_ROWS,
            rank=self._ranks.rank,
            world_size=self._ranks.world_size,
            readers=self._reader.readers,
        )
        for batch in batches:
            own = _add(own, self._evaluate(batch.columns[feature.name], batch.columns[label.name], batch.weights))
            self._tell("validation", epoch=epoch + 1, step=counts.step, rows=int(own.weight))
        self._wait()
        total = Sums(*self._ranks.sum([own.loss, own.weight, own.correct], name="validation"))
        return _metric_rows("validation", counts, total, self._learning_rate(), time.monotonic() - started)

    def _save(self, counts: _Counts) -> str:
        uri: str | None = None
        if self._ranks.rank == 0:
            progress = Progress(
                fingerprint=self._fingerprint,
                epoch=counts.epoch,
                step=counts.step,
                num_rows_seen=counts.num_rows_seen,
                rows=counts.rows,
            )
            checkpoint = Checkpoint(
                progress=progress,
                weights=tuple(variable.numpy() for variable in self._model.variables),
                optimizer=tuple(variable.numpy() for variable in self._optimizer.variables),
            )
            beat = partial(self._tell, "checkpoint", epoch=counts.epoch)
            uri = write_checkpoint(self._request.checkpoints, checkpoint, beat=beat)
        else:
            self._wait()
        return self._ranks.broadcast_text(uri)

    def _learning_rate(self) -> float:
        return float(f"{float(self._optimizer.learning_rate):.7g}")  # as it was configured, without float32's tail

    def _wait(self) -> None:
        if self._ranks.world_size > 1:
            self._tell("wait")


def _add(total: Sums, more: Sums) -> Sums:
    return Sums(total.loss + more.loss, total.weight + more.weight, total.correct + more.correct)


def _metric_rows(split: str, counts: _Counts, sums: Sums, learning_rate: float, seconds: float) -> list[dict[str, Value]]:
    """Rows of metrics/epochs: loss and accuracy over all rows of the split."""
    values = {"loss": sums.loss / sums.weight, "accuracy": sums.correct / sums.weight}
    return [
        {
            "epoch": counts.epoch,
            "step": counts.step,
            "split": split,
            "metric": metric,
            "value": value,
            "learning_rate": learning_rate,
            "rows_per_second": sums.weight / max(seconds, 1e-9),
        }
        for metric, value in values.items()
    ]
