"""gold -> weights: a pinned version, its row groups listed once, Horovod workers on Spark, metrics of each epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy.typing as npt
import pyarrow.dataset as ds
from pyspark.sql import functions as F

from millrace import observe
from millrace.config.load import hash_of
from millrace.errors import LakeError, QualityError
from millrace.fit.state import FittedState
from millrace.flows.check_augment import image_spec, vector_spec
from millrace.flows.context import Context
from millrace.flows.scope import deciding, standing_state, state_of
from millrace.lake import artifacts, log, protocol, small
from millrace.lake import ledger as books
from millrace.lake.layout import EPOCHS, gold
from millrace.lake.read import read_version
from millrace.loading.columns import ColumnSpec
from millrace.loading.index import DatasetIndex, build_index
from millrace.models.target import STANDARD, Target, fit_target
from millrace.training.checkpoint import directory_of
from millrace.training.class_weights import balanced_weights, named_weights
from millrace.training.request import TrainRequest, TrainResult, resolve_index
from millrace.transforms.encode import LABEL

STEP = "train"
CHECKPOINTS = "checkpoints"


def step(context: Context) -> protocol.Step:
    """The step as the ledger runs it."""
    config = context.config
    return protocol.Step(
        name=STEP,
        lock=context.pipeline_lock,
        sections=[config.name, config.model, config.training, config.features, config.label],
        find_inputs=lambda ledger: find_gold(context, ledger),
        work=lambda attempt: train(context, attempt),
        keeps_inputs=True,
        prepare=context.spark,
    )


def find_gold(context: Context, ledger: books.Ledger) -> books.Inputs:
    """Gold as the newest succeeded preprocess left it. Raises LakeError where there is none, or it is of another config."""
    table = gold(context.config.name)
    version = ledger.version_of(table)
    state = standing_state(context, ledger)
    if version is None or state is None or state.sections_hash != hash_of(deciding(context)):
        raise LakeError(STEP, expected=f"rows in {table} by this config", found="none", remedy="Run jobs/preprocess.py first.")
    return books.Inputs(tables=(books.TableVersion(table, version),))


def train(context: Context, attempt: books.Attempt) -> books.Outcome:
    """Trains on all of gold at the pinned version, from the last checkpoint where a killed run has left one."""
    from millrace.training.launch import train_on_spark

    request = make_request(context, attempt)
    remove_superseded(context, attempt, request)
    show = Progress(request.training.epochs)
    spark = context.spark()
    with observe.quiet_progress(), observe.timed("train/workers"):
        result = train_on_spark(spark, request, on_event=show)
        show.finish()
    common = {"pipeline": attempt.run.pipeline, "run_id": attempt.run.run_id, "_night": attempt.run.night}
    rows = [{**common, **row} for row in result.rows]
    version = small.replace(context.lake, EPOCHS, rows, where={"run_id": attempt.run.run_id}, metadata=attempt.mark)
    keep_result(context, attempt, result)
    num_rows = sum(index.num_rows for index in (request.train, request.validation) if isinstance(index, DatasetIndex))
    return books.Outcome((books.TableVersion(EPOCHS, version),), books.Counts(num_rows, num_rows))


def make_request(context: Context, attempt: books.Attempt) -> TrainRequest:
    """What the workers are asked to do. Raises QualityError where the train split has no rows."""
    config, table = context.config, gold(context.config.name)
    assert config.model is not None
    version = attempt.input_version(table)
    assert version is not None
    state = state_of(context, attempt.ledger, version)
    train_rows, validation_rows = (index_of(context, version, split) for split in ("train", "validation"))
    if not train_rows.num_rows:
        raise QualityError(STEP, expected=f"rows of the train split in {table}", found="none", remedy="Look at split.fractions.")
    return TrainRequest(
        train=train_rows,
        validation=validation_rows,
        feature=feature_spec(context, state),
        divisor=divisor_of(context),
        label=LABEL,
        num_classes=1 if predicts_number(context) else len(state.classes),
        model=config.model,
        training=config.training,
        checkpoints=context.lake.artifacts(config.name, attempt.run.run_id, own_directory(context, attempt, CHECKPOINTS)),
        class_weights=class_weights(context, version, state.classes),
        board=context.lake.artifacts(config.name, attempt.run.run_id, own_directory(context, attempt, "tensorboard")),
        target=target_of(context, version),
        places=None if config.image_features or state.features is None else state.features.number_places,
    )


def predicts_number(context: Context) -> bool:
    """Whether the model gives a number, and not a class."""
    return context.config.label is not None and context.config.label.kind == "number"


def target_of(context: Context, version: int) -> Target | None:
    """What a number's model calls 0 and 1: fitted on the train split of a version of gold; None where the label is a class."""
    label = context.config.label
    if label is None or label.kind != "number":
        return None
    if not label.standardize:
        return STANDARD
    rows = log.open_table(context.lake.path(gold(context.config.name)), version).to_pyarrow_dataset()

    def batches() -> Iterator[npt.NDArray[Any]]:
        for batch in rows.to_batches(columns=[LABEL], filter=ds.field("split") == "train"):
            yield batch.column(LABEL).to_numpy(zero_copy_only=False)

    with observe.timed("train/target"):
        return fit_target(batches, label=label.column)


def class_weights(context: Context, version: int, classes: Sequence[str]) -> tuple[float, ...] | None:
    """What a row of each class counts in the loss; None where all count the same. Raises ConfigError for an unknown class."""
    setting = context.config.training.class_weights
    if setting is None:
        return None
    if setting != "balanced":
        return named_weights(setting, classes)
    rows = read_version(context.spark(), context.lake, gold(context.config.name), version)
    found = rows.filter(F.col("split") == "train").groupBy(LABEL).count().collect()
    counts = {row[LABEL]: row["count"] for row in found}
    return balanced_weights([counts.get(index, 0) for index in range(len(classes))])


def feature_spec(context: Context, state: FittedState) -> ColumnSpec:
    """The model's input as the loader reads it: an image's bytes, or the vector of all numbers and one-hots."""
    images = context.config.image_features
    if images:
        return image_spec(images[0])
    assert state.features is not None
    return vector_spec(state.features.width)


def divisor_of(context: Context) -> float | None:
    """What the model divides its input by; None where that is float32 and taken as it is."""
    images = context.config.image_features
    return images[0].divisor if images else None


def index_of(context: Context, version: int, split: str) -> DatasetIndex:
    """The row groups of one split of gold, read once and kept in the pipeline's artifacts."""
    uri = context.lake.path(gold(context.config.name))
    # a table that was made anew counts its versions from 0 again
    table = log.open_table(uri, version).metadata().id
    kept = context.lake.path("artifacts", context.config.name, "indexes", f"gold-{table}-{version}-{split}.json")
    files = context.lake.storage()
    if files.exists(kept):
        index = DatasetIndex.from_json(files.cat_file(kept).decode())
        if index.uri == uri:  # a lake that was moved or copied has its files elsewhere
            return index
    with observe.timed("train/index"):
        index = build_index(uri, version=version, partitions={"split": split})
    artifacts.write_text(kept, index.to_json())
    return index


def result_address(context: Context, run_id: str, step_key: str) -> str:
    """Where a training's result lies."""
    return context.lake.artifacts(context.config.name, run_id, f"train-{step_key[:16]}.json")


def keep_result(context: Context, attempt: books.Attempt, result: TrainResult) -> None:
    """Writes a training's result, its weights by their place in the lake: a lake may move."""
    moving = replace(result, weights=result.weights.removeprefix(context.lake.path("")))
    artifacts.write_text(result_address(context, attempt.run.run_id, attempt.step_key), moving.to_json())


def load_result(context: Context, entry: books.Entry) -> TrainResult:
    """The result of a succeeded training. Raises LakeError where it is gone."""
    result = TrainResult.from_json(artifacts.read_text(result_address(context, entry.run.run_id, entry.step_key)))
    whole = result.weights.startswith("/") or "://" in result.weights  # as it was written once
    return result if whole else replace(result, weights=context.lake.path(result.weights))


def remove_superseded(context: Context, attempt: books.Attempt, request: TrainRequest) -> None:
    """Removes the run's checkpoints of other trainings than this one and the one that stands, on earlier gold or forced: nobody
    comes back to them."""
    directory = context.lake.artifacts(context.config.name, attempt.run.run_id)
    fingerprint = request.fingerprint(request.plan(resolve_index(request.train)))
    needed = {directory_of(request.checkpoints, fingerprint), directory_of(f"{directory}/{CHECKPOINTS}", fingerprint)}
    standing = attempt.ledger.succeeded(step=STEP, run_id=attempt.run.run_id)
    if standing is not None:
        with suppress(LakeError):  # without its result nobody finds its weights
            needed.add(load_result(context, standing).weights.rpartition("/")[0])
    try:
        places = [f"{directory}/{name}" for name in artifacts.names(directory) if name.partition("-")[0] == CHECKPOINTS]
        found = {f"{place}/{name}" for place in places for name in artifacts.names(place) if not name.endswith(".ckpt")}
        for superseded in sorted(found - needed):
            artifacts.remove_directory(superseded)
    except OSError as error:
        observe.warn(f"old checkpoints could not be removed: {error}")


def own_directory(context: Context, attempt: books.Attempt, name: str) -> str:
    """`name`; for a forced attempt one of its own, so that what stands stays whole until the attempt has succeeded."""
    return f"{name}-{attempt.number}" if context.force else name


class Progress:
    """Turns what rank 0 says into a progress line: epoch, step, loss, rows per second, time left."""

    def __init__(self, num_epochs: int) -> None:
        self._num_epochs = num_epochs
        self._shown_at = 0.0
        self._began_at = time.monotonic()
        self._first_step_at: float | None = None
        self._last_epoch_at = self._began_at
        observe.progress("starting the workers")

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["kind"] == "step" and self._first_step_at is None:
            self._first_step_at = time.monotonic()
            observe.note("timing", name="train/start", seconds=round(self._first_step_at - self._began_at, 4))
        if event["kind"] == "step" and time.monotonic() - self._shown_at > 0.2:
            self._shown_at = time.monotonic()
            observe.progress(self._line(event))
        elif event["kind"] == "epoch" and event["rank"] == 0:
            self._last_epoch_at = time.monotonic()
            self._say_epoch(event)
            if event["epoch"] == self._num_epochs:
                observe.progress("ending the workers")
        elif event["kind"] == "log":
            (observe.warn if event["warns"] else observe.say)(event["message"])

    def finish(self) -> None:
        """Notes how long it took to end the workers after the last epoch."""
        observe.note("timing", name="train/end", seconds=round(time.monotonic() - self._last_epoch_at, 4))

    def _line(self, event: Mapping[str, Any]) -> str:
        seconds, done, steps = event["seconds"], event["step_in_epoch"], event["num_steps"]
        rate = event["rows"] / seconds if seconds else 0.0
        steps_left = (self._num_epochs - event["epoch"] + 1) * steps - done
        left = steps_left * seconds / done
        return (
            f"epoch {event['epoch']}/{self._num_epochs}  step {done}/{steps}  loss {event['loss']:.4f}  "
            f"{rate:,.0f} rows/s  {left:.0f} s left"
        )

    def _say_epoch(self, event: Mapping[str, Any]) -> None:
        parts = [f"{row['split']} {row['metric']} {row['value']:.4f}" for row in event["metrics"]]
        rate = next((row["rows_per_second"] for row in event["metrics"] if row["split"] == "train"), 0.0)
        observe.say(f"epoch {event['epoch']}/{self._num_epochs}: {', '.join(parts)} ({rate:,.0f} rows/s)", epoch=event["epoch"])
