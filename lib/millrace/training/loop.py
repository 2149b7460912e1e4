"""The epochs of one rank: train, validate, agree, save."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

from millrace.loading.plan import PlanSpec
from millrace.loading.pool import reader_threads
from millrace.loading.reader import PlannedReader, read_in_order
from millrace.models.build import build_model
from millrace.models.target import STANDARD
from millrace.training.board import Point, is_shown
from millrace.training.checkpoint import Progress
from millrace.training.early_stop import Verdict, judge
from millrace.training.objective import means_of
from millrace.training.optimizers import build_optimizer
from millrace.training.parts import parts_for
from millrace.training.ranks import Ranks
from millrace.training.request import TrainRequest, TrainResult, Value, resolve_index, validation_of
from millrace.training.saving import Saver, Tell
from millrace.training.schedules import LearningRate
from millrace.training.step import EvaluationStep, StepOptions, Sums, TrainStep

_VALIDATION_ROWS = 1024  # rows of a validation batch on one rank


def silent(kind: str, **fields: Any) -> None:
    """A `Tell` for runs that nobody watches."""


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
        self._at = Progress(fingerprint=request.fingerprint(self._plan))
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
        self._changes = request.changes
        self._model = build_model(
            request.model,
            input_shape=request.feature.shape,
            divisor=request.divisor,
            num_classes=request.num_classes,
            seed=training.seed,
            precision=training.precision,
            target=None if request.target is None else STANDARD,  # standardised, as the loss is
        )
        self._rate = LearningRate(
            config=training.optimizer, batch_size=training.batch_size, num_steps=training.epochs * self._plan.num_steps
        )
        self._validation = validation_of(request)
        optimizer = build_optimizer(training.optimizer, self._model)
        parts = parts_for(self._model, training, num_rows=self._plan.max_local_rows(ranks.world_size))
        self._target = request.target or STANDARD
        options = StepOptions.of(training, request.class_weights, micro_batches=parts, target=self._target)
        self._step = TrainStep(self._model, optimizer, options, rank=ranks.rank, world_size=ranks.world_size, add=ranks.add)
        self._evaluate = EvaluationStep(self._model, options)
        self._saver = Saver(request, ranks, tell, self._at.fingerprint, self._model.weights, self._step.variables)

    def run(self) -> TrainResult:
        restored, notes = self._saver.restore()
        self._at = restored or self._at
        first_epoch, first_step = self._at.epoch + 1, self._at.step + 1
        if restored is not None and self._goes_on():
            self._remark(f"going on from {self._saver.uri}")
        saved = self._saver.agree()
        while self._goes_on():
            train_rows = self._train_epoch()
            rows = (*train_rows, *self._validate())
            self._end_epoch(rows)
            saved = self._saver.save(self._at, kept_epoch=self._verdict().kept_epoch)
            self._tell("epoch", epoch=self._at.epoch, step=self._at.step, metrics=rows)
        rows, verdict, last = self._at.rows, self._verdict(), self._at.epoch
        if verdict.kept_epoch != last:
            best, remarks = self._saver.go_back(verdict.kept_epoch)
            notes += remarks
            if best is not None:
                self._at, saved = best
        if last < self._request.training.epochs:
            since = last - verdict.best_epoch
            self._remark(f"no better for {since} epochs: the weights are those of epoch {self._at.epoch}")
        return TrainResult(
            rows=rows,
            weights=saved.uri,
            weight_hash=saved.weight_hash,
            epoch=self._at.epoch,
            num_steps=self._at.step,
            num_rows_seen=self._at.num_rows_seen,
            num_workers=self._ranks.world_size,
            first_epoch=first_epoch,
            first_step=first_step,
            notes=tuple(notes),
        )

    def _goes_on(self) -> bool:
        return self._at.epoch < self._request.training.epochs and not self._verdict().stops

    def _verdict(self) -> Verdict:
        """What early stopping says after the epochs so far; without it all epochs are done and the last one is kept."""
        config = self._request.training.early_stop
        if config is None:
            return Verdict(stops=False, best_epoch=self._at.epoch, kept_epoch=self._at.epoch)
        rows = [row for row in self._at.rows if (row["split"], row["metric"]) == ("validation", config.metric)]
        return judge(config, [float(row["value"]) for row in rows])

    def _train_epoch(self) -> list[dict[str, Value]]:
        """The rest of the epoch, saving on the way as asked for. Gives the epoch's rows of metrics/epochs."""
        feature, label = self._request.columns
        epoch = self._at.epoch + 1
        total, earlier_seconds, started = Sums(*self._at.sums), self._at.seconds, time.monotonic()
        beat = partial(self._tell, "load", epoch=epoch)
        batches = self._reader.batches(epoch - 1, first_step=self._at.step_in_epoch, beat=beat, changes=self._changes)
        for batch in batches:
            where = f"step {batch.step + 1} of {self._plan.num_steps} in epoch {epoch}"
            sums = self._step(
                batch.columns[feature.name],
                batch.columns[label.name],
                batch.weights,
                step=self._at.step,
                learning_rate=self._rate.at(self._at.step),
                where=where,
                wish=self._saver.wishes(),
            )
            total = _add(total, sums)
            seconds = earlier_seconds + time.monotonic() - started
            self._at = self._after_step(batch.step, sums, total, seconds)
            self._tell(
                "step",
                epoch=epoch,
                step=self._at.step,
                step_in_epoch=batch.step + 1,
                num_steps=self._plan.num_steps,
                loss=sums.loss / sums.weight,
                rows=int(total.weight),
                seconds=seconds,
                learning_rate=self._learning_rate(),
            )
            if self._saver.is_due(self._at, sums):
                self._saver.save(self._at, kept_epoch=self._verdict().kept_epoch)
                beat()  # it waits no more
        assert int(total.weight) == self._plan.num_rows, "the plan gives every row once"
        return self._metric_rows("train", total, self._at.seconds)

    def _after_step(self, step: int, sums: Sums, total: Sums, seconds: float) -> Progress:
        done, curve = self._at.step + 1, self._at.curve
        if is_shown(step, self._plan.num_steps):
            curve = (*curve, Point("step/loss", done, time.time(), sums.loss / sums.weight))
        return replace(
            self._at,
            step=done,
            step_in_epoch=step + 1,
            num_rows_seen=self._at.num_rows_seen + int(sums.weight),
            sums=(total.loss, total.weight, total.correct),
            seconds=seconds,
            curve=curve,
        )

    def _validate(self) -> list[dict[str, Value]]:
        """Exact sums over all rows: each rank takes its share, and only sums are sent."""
        if self._validation is None:
            return []
        feature, label = self._request.columns
        epoch, step, started = self._at.epoch + 1, self._at.step, time.monotonic()
        own = Sums(0.0, 0.0, 0.0)
        self._tell("validation", epoch=epoch, step=step, rows=0)
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
            self._tell("validation", epoch=epoch, step=step, rows=int(own.weight))
        self._wait()
        total = Sums(*self._ranks.sum([own.loss, own.weight, own.correct], name="validation"))
        return self._metric_rows("validation", total, time.monotonic() - started)

    def _metric_rows(self, split: str, sums: Sums, seconds: float) -> list[dict[str, Value]]:
        """Rows of metrics/epochs: loss and accuracy, or loss, mae and rmse, over all rows of the split."""
        values = means_of(self._request.training.loss, (sums.loss, sums.weight, sums.correct), target=self._target)
        return [
            {
                "epoch": self._at.epoch + 1,
                "step": self._at.step,
                "split": split,
                "metric": metric,
                "value": value,
                "learning_rate": self._learning_rate(),
                "rows_per_second": sums.weight / max(seconds, 1e-9),
            }
            for metric, value in values.items()
        ]

    def _end_epoch(self, rows: tuple[dict[str, Value], ...]) -> None:
        points = [Point(f"{row['split']}/{row['metric']}", self._at.step, time.time(), float(row["value"])) for row in rows]
        points.append(Point("learning_rate", self._at.step, time.time(), self._learning_rate()))
        self._at = replace(
            self._at,
            epoch=self._at.epoch + 1,
            step_in_epoch=0,
            sums=(0.0, 0.0, 0.0),
            seconds=0.0,
            rows=(*self._at.rows, *rows),
            curve=(*self._at.curve, *points),
        )

    def _remark(self, message: str) -> None:
        if self._ranks.rank == 0:
            self._tell("log", message=message, warns=False)

    def _learning_rate(self) -> float:
        """What the last step was taken with."""
        return self._rate.at(self._at.step - 1)

    def _wait(self) -> None:
        if self._ranks.world_size > 1:
            self._tell("wait")


def _add(total: Sums, more: Sums) -> Sums:
    return Sums(total.loss + more.loss, total.weight + more.weight, total.correct + more.correct)
