"""What a pipeline and its contract must agree on before anything runs."""

from __future__ import annotations

from collections.abc import Iterable

from millrace.config.load import nearest
from millrace.config.models import PipelineConfig
from millrace.contracts.table import TableContract
from millrace.contracts.types import FLOATS, INTEGERS
from millrace.errors import ConfigError

RESERVED = ("row_id", "split")


def check_pipeline(config: PipelineConfig, contract: TableContract) -> None:
    """Raises ConfigError for a column that the contract does not have, or that cannot be what the pipeline takes it for."""
    reserved = [name for name in contract.columns if name.startswith("_") or name in RESERVED]
    if reserved:
        raise ConfigError(
            "contract",
            expected=f"columns of {contract.name} without a leading _ and none called {' or '.join(RESERVED)}",
            found=f"'{reserved[0]}'",
            remedy="These names are Millrace's own: rename the column.",
        )
    named = {
        "split.key": config.split.key,
        "clean.drop_duplicates": tuple(name for step in config.clean for name in step.drop_duplicates),
        "features.column": tuple(feature.column for feature in config.features),
        "label.column": (config.label.column,) if config.label else (),
    }
    for where, names in named.items():
        _check_columns(where, names, contract)
    for where in ("split.key", "clean.drop_duplicates"):
        for name in named[where]:
            if contract.columns[name].type in FLOATS:
                raise _error(
                    where, "columns with an exact text", f"{name} is a {contract.columns[name].type}", "Take other columns."
                )
    for feature in config.features:
        tensor = contract.columns[feature.column].tensor
        if tensor is None or tensor.dtype != "uint8":
            raise _error(
                "features", "a column with a tensor of uint8", f"{feature.column} has none", f"Give it one in {contract.name}."
            )
        if tensor.shape != feature.shape:
            raise _error(
                "features", f"the shape {list(tensor.shape)} of {feature.column}", f"{list(feature.shape)}", "Make them equal."
            )
    if config.label is not None and contract.columns[config.label.column].type not in (*INTEGERS, "string"):
        raise _error("label", "a column of integers or texts", contract.columns[config.label.column].type, "Take another label.")
    shards = config.training.virtual_shards
    if shards is not None and config.training.batch_size % shards:
        found = f"{config.training.batch_size} % {shards} = {config.training.batch_size % shards}"
        raise _error("training.virtual_shards", "a divisor of training.batch_size", found, "Change one of them.")


def _check_columns(where: str, names: Iterable[str], contract: TableContract) -> None:
    for name in names:
        if name not in contract.columns:
            raise _error(where, f"columns of the contract {contract.name}", f"'{name}'", nearest(name, contract.columns))


def _error(where: str, expected: str, found: str, remedy: str) -> ConfigError:
    return ConfigError("config", expected=f"{where} to name {expected}", found=found, remedy=remedy)
