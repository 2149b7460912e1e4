"""weights -> exports, evaluation of each export on the test split, predictions, a row in the registry."""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import fsspec

from millrace import observe
from millrace.contracts.features import FittedFeatures
from millrace.errors import LakeError
from millrace.fit.state import FittedState
from millrace.flows import train
from millrace.flows.context import Context
from millrace.flows.evaluate import TestSplit, draw_confusion, evaluate, write_evaluation
from millrace.flows.scope import state_of
from millrace.lake import ledger as books
from millrace.lake import log, protocol, small
from millrace.lake.layout import EPOCHS, MODELS, gold
from millrace.transforms.encoders import Fit

if TYPE_CHECKING:
    import keras

    from millrace.exporting.predictor import Inputs
    from millrace.exporting.tokenizers import TextInput

STEP = "publish"


def step(context: Context) -> protocol.Step:
    """The step as the ledger runs it."""
    config = context.config
    return protocol.Step(
        name=STEP,
        lock=context.pipeline_lock,
        sections=[config.name, config.publish, config.model, config.training, config.features],
        find_inputs=lambda ledger: find_trained(context, ledger),
        work=lambda attempt: publish(context, attempt),
        keeps_inputs=True,
    )


def import_early() -> None:
    """Begins to import TensorFlow, which takes seconds, while the driver waits for the workers that train."""
    threading.Thread(target=importlib.import_module, args=("keras",), name="millrace-import", daemon=True).start()


def find_trained(context: Context, ledger: books.Ledger) -> books.Inputs:
    """Gold and the training on it that this config asks for. Raises LakeError where it has not been trained."""
    entry = protocol.plan_step(ledger, context.run, train.step(context)).done_by
    if entry is None:
        raise LakeError(
            STEP,
            expected=f"a finished training of {context.config.name} with this config",
            found="none",
            remedy="Run jobs/train.py first.",
        )
    version = entry.output(EPOCHS)
    assert version is not None
    return books.Inputs(tables=(*entry.inputs.tables, books.TableVersion(EPOCHS, version)))


def publish(context: Context, attempt: books.Attempt) -> books.Outcome:
    """Exports the model, evaluates each export, and registers it."""
    entry = training_of(attempt)
    gold_version = attempt.input_version(gold(context.config.name))
    assert gold_version is not None
    fitted = state_of(context, attempt.ledger, gold_version)
    classes = None if train.predicts_number(context) else fitted.classes
    model_version, stage = next_model_version(context)
    address = context.lake.artifacts(context.config.name, attempt.run.run_id, train.own_directory(context, attempt, "exports"))
    rows = TestSplit(context, gold_version, fitted)
    with export_directory(context, address) as directory:
        with observe.timed("publish/export"):
            served = make_serving_model(context, entry, gold_version, fitted)
            texts = texts_of(context, fitted)
            exports, takes_and_gives = export_all(context, served, directory, texts=texts, probe=rows.probe())
            beside = write_tokenizers(texts, directory)
        with observe.timed("publish/evaluate"):
            evaluated = evaluate(rows, exports, classes=classes)
        sums = checksums({**exports, **beside})
    written = write_evaluation(attempt, evaluated, classes=classes, model_version=model_version, dataset_version=gold_version)
    first = evaluated[context.config.publish.exports[0]]
    if classes is not None:
        draw_confusion(attempt, first, classes)
    row = {
        "pipeline": context.config.name,
        "version": model_version,
        "run_id": attempt.run.run_id,
        "stage": stage,
        "artifact": address,
        "sha256": sums,
        "signature": None,
        "lineage": {
            "dataset": gold(context.config.name),
            "dataset_version": str(gold_version),
            "train_run_id": entry.run.run_id,
            "config_hash": attempt.run.config_hash,
            "code_revision": attempt.run.code_revision,
            "inputs_and_outputs": takes_and_gives,
        },
        "metrics": first.headline(),
        "registered_at": datetime.now(UTC),
    }
    where = {"pipeline": context.config.name, "run_id": attempt.run.run_id}
    registered = books.TableVersion(MODELS, small.replace(context.lake, MODELS, [row], where=where, metadata=attempt.mark))
    return books.Outcome((*written, registered), books.Counts(first.num_rows, first.num_rows))


def training_of(attempt: books.Attempt) -> books.Entry:
    """The training whose metrics this publish was given as an input."""
    for entry in reversed(attempt.ledger.entries):
        if entry.step == train.STEP and entry.status == "succeeded" and entry.output(EPOCHS) == attempt.input_version(EPOCHS):
            return entry
    raise LakeError(
        STEP, expected="the training that this run publishes", found="none in metrics/runs", remedy="Run jobs/train.py first."
    )


def next_model_version(context: Context) -> tuple[int, str]:
    """The model's version, counted from 1 for each pipeline, and its stage.

    What they were, where this run has registered it before.
    """
    uri = context.lake.path(MODELS)
    rows = log.read_rows(uri, columns=["pipeline", "run_id", "version", "stage"]).to_pylist() if log.exists(uri) else []
    own = [row for row in rows if row["pipeline"] == context.config.name]
    for row in own:
        if row["run_id"] == context.run.run_id:
            return row["version"], row["stage"]
    return max((row["version"] for row in own), default=0) + 1, "candidate"


@contextmanager
def export_directory(context: Context, target: str) -> Iterator[Path]:
    """Where exports are written: in place in a local lake, else a directory that is copied to the lake when all are there."""
    if context.lake.is_local:
        yield Path(target)
        return
    directory = Path(tempfile.mkdtemp(prefix="millrace-exports-"))
    try:
        yield directory
        files, address = fsspec.core.url_to_fs(target)
        files.put(f"{directory}/", f"{address}/", recursive=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def make_serving_model(context: Context, entry: books.Entry, gold_version: int, fitted: FittedState) -> keras.Model:
    """The trained model as it leaves the pipeline: of silver's raw columns where features were fitted, else of gold's."""
    from millrace.exporting.serving_model import serving_model
    from millrace.models.build import build_model
    from millrace.training.checkpoint import load_weights

    config, feature = context.config, train.feature_spec(context, fitted)
    assert config.model is not None
    model = build_model(
        config.model,
        input_shape=feature.shape,
        divisor=train.divisor_of(context),
        num_classes=1 if train.predicts_number(context) else len(fitted.classes),
        seed=config.training.seed,
        input_name=feature.name,
        target=train.target_of(context, gold_version),
    )
    load_weights(train.load_result(context, entry).weights, model)
    front = None if fitted.features is None else front_of(fitted.features)
    return serving_model(model, front=front, kind="number" if train.predicts_number(context) else "class")


def front_of(features: FittedFeatures) -> keras.Model:
    """The graph that makes the model's input of silver's raw columns."""
    import keras

    from millrace.models.feature_graph import feature_graph

    graph = feature_graph(features)
    return keras.Model(dict(graph.inputs), graph.features, name="features")


def texts_of(context: Context, fitted: FittedState) -> dict[str, TextInput]:
    """By column of silver, how its texts become an input of the model."""
    from millrace.exporting.tokenizers import TextInput

    return {
        feature.column: TextInput(fitted.tokenizers[feature.column], Fit.of(feature)) for feature in context.config.token_features
    }


def write_tokenizers(texts: Mapping[str, TextInput], directory: Path) -> dict[str, Path]:
    """Brings the tokenizers of a model of texts beside its exports. Their path, as one more thing to keep the checksum of."""
    from millrace.exporting import tokenizers

    return {"tokenizers": tokenizers.write(texts, directory)} if texts else {}


def export_all(
    context: Context,
    served: keras.Model,
    directory: Path,
    *,
    texts: Mapping[str, TextInput] = MappingProxyType({}),
    probe: Inputs | None = None,
) -> tuple[dict[str, Path], str]:
    """Writes every export. Returns their paths by format, and what the model takes and gives as JSON.

    `texts`: the model's inputs that are made of texts. `probe` are a few raw rows to compare each export with the model on;
    without them they are made up.
    """
    from millrace.exporting.formats import export
    from millrace.exporting.serving_model import signature

    exports: dict[str, Path] = {}
    for name in context.config.publish.exports:
        observe.progress(f"exporting {name}")
        exports[name] = export(served, name, directory, texts=texts, probe=probe)
    return exports, json.dumps(signature(served), sort_keys=True)


def checksums(exports: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of each export."""
    from millrace.exporting.checksum import sha256_of

    return {name: sha256_of(path) for name, path in exports.items()}
