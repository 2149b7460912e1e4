"""What a pipeline and its contract must agree on before anything runs."""

from __future__ import annotations

from collections.abc import Iterable

from millrace.config.load import nearest
from millrace.config.models import PipelineConfig
from millrace.contracts.table import TableContract
from millrace.contracts.types import EXACT, FLOATS, INTEGERS
from millrace.errors import ConfigError
from millrace.training.objective import NUMBER_LOSSES
from millrace.transforms.encode import LABEL

RESERVED = ("row_id", "split")
LOSSES = {"class": ("cross_entropy",), "number": NUMBER_LOSSES}
STOP_METRICS = {"class": ("loss", "accuracy"), "number": ("loss", "mae", "rmse")}
DTYPES = {"scale": "uint8", "vector": "float32"}
"""What each way to encode a feature takes."""


def check_pipeline(config: PipelineConfig, contract: TableContract) -> None:
    """Raises ConfigError for a column that the contract does not have, or that cannot be what the pipeline takes it for."""
    reserved = [name for name in contract.columns if name.startswith("_") or name.lower() in RESERVED]
    if reserved:
        raise ConfigError(
            "contract",
            expected=f"columns of {contract.name} without a leading _ and none called {' or '.join(RESERVED)}",
            found=f"'{reserved[0]}'",
            remedy="These names are Millrace's own: rename the column.",
        )
    _check_reading(config, contract)
    named = {
        "contract.key": contract.key or tuple(contract.columns),
        "split.key": config.split.key,
        "clean.drop_duplicates": tuple(name for step in config.clean for name in step.drop_duplicates),
        "features.column": tuple(feature.column for feature in config.features),
        "label.column": (config.label.column,) if config.label else (),
    }
    for where, names in named.items():
        _check_columns(where, names, contract)
    for where in ("contract.key", "split.key", "clean.drop_duplicates"):
        for name in named[where]:
            if contract.columns[name].type not in EXACT:
                remedy = "Take other columns." if contract.key or where != "contract.key" else f"Give {contract.name} a key."
                raise _error(where, "columns with an exact text", f"{name} is a {contract.columns[name].type}", remedy)
    _check_features(config, contract)
    _check_label(config, contract)
    shards = config.training.virtual_shards
    if shards is not None and config.training.batch_size % shards:
        found = f"{config.training.batch_size} % {shards} = {config.training.batch_size % shards}"
        raise _error("training.virtual_shards", "a divisor of training.batch_size", found, "Change one of them.")


def _check_reading(config: PipelineConfig, contract: TableContract) -> None:
    if config.source.format != "csv":
        return
    for name, column in contract.columns.items():
        if column.data_type.inner:
            found = f"{name} is {column.type}"
            raise ConfigError(
                "contract", expected="simple types in csv", found=found, remedy="Make it a string, and parse it later."
            )


def _check_label(config: PipelineConfig, contract: TableContract) -> None:
    if config.label is None:
        return
    kind, found = config.label.kind, contract.columns[config.label.column].type
    if kind == "class" and found not in (*INTEGERS, "string"):
        raise _error("label", "a column of integers or texts", found, "Take another label.")
    if kind == "number" and found not in (*INTEGERS, *FLOATS):
        raise _error("label", "a column of numbers", found, "Take another label, or label.kind class.")
    if config.training.loss not in LOSSES[kind]:
        expected = f"{' or '.join(LOSSES[kind])}, since the label is a {kind}"
        raise _error("training.loss", expected, config.training.loss, "Change training.loss or label.kind.")
    if kind == "number" and config.training.class_weights is not None:
        raise _error("training.class_weights", "nothing, since the label is a number", "some", "Leave it out.")
    stop = config.training.early_stop
    if stop is not None and stop.metric not in STOP_METRICS[kind]:
        expected = f"{', '.join(STOP_METRICS[kind])}, since the label is a {kind}"
        raise _error("training.early_stop.metric", expected, stop.metric, "Take one of these.")


def _check_features(config: PipelineConfig, contract: TableContract) -> None:
    for feature in config.features:
        tensor, dtype = contract.columns[feature.column].tensor, DTYPES[feature.encode]
        if tensor is None or tensor.dtype != dtype:
            raise _error(
                "features", f"a column with a tensor of {dtype}", f"{feature.column} has none", f"Give it one in {contract.name}."
            )
        if feature.encode == "vector" and (len(feature.shape) != 1 or feature.divisor != 1.0):
            found = f"shape {list(feature.shape)} and divisor {feature.divisor:g}"
            raise _error("features", "a vector of shape [size] without a divisor", found, "Give its length, and scale it before.")
        if tensor.shape != feature.shape:
            raise _error(
                "features", f"the shape {list(tensor.shape)} of {feature.column}", f"{list(feature.shape)}", "Make them equal."
            )
        if config.label is not None and feature.column.lower() == LABEL:
            raise _error("features", f"a column that is not called {LABEL}", "it", "Gold has the class there: rename the column.")


def _check_columns(where: str, names: Iterable[str], contract: TableContract) -> None:
    for name in names:
        if name not in contract.columns:
            raise _error(where, f"columns of the contract {contract.name}", f"'{name}'", nearest(name, contract.columns))


def _error(where: str, expected: str, found: str, remedy: str) -> ConfigError:
    return ConfigError("config", expected=f"{where} to name {expected}", found=found, remedy=remedy)
