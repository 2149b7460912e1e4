"""What a pipeline and its contract must agree on before anything runs."""

from __future__ import annotations

from collections.abc import Iterable

from millrace.config.cleaning import looks_at_other_rows
from millrace.config.encoding import ScaleFeature
from millrace.config.load import nearest
from millrace.config.models import FeatureConfig, PipelineConfig
from millrace.config.sources import MixedSource
from millrace.config.splitting import KFoldSplit
from millrace.config.tokens import TokenFeature
from millrace.contracts.table import ColumnContract, TableContract
from millrace.contracts.types import EXACT, FLOATS, INTEGERS
from millrace.errors import ConfigError
from millrace.fit.features import checked_type
from millrace.flows.check_augment import check_augment
from millrace.flows.check_gold import check_gold_alone, may_be_torn
from millrace.quality.across import across_rules
from millrace.quality.rules import rules_of
from millrace.training.objective import NUMBER_LOSSES
from millrace.transforms.check_cleaning import check_steps, writes
from millrace.transforms.cleaning import num_before_split
from millrace.transforms.deduplicate import DUPLICATE_KEY, GAVE_WAY, SUPERSEDED
from millrace.transforms.encode import LABEL, no_label, unseen_in_train
from millrace.transforms.features import FEATURES, IDS
from millrace.transforms.split import UNKNOWN, check_split

FOLD = "fold"
"""The column of silver that a split by k_fold adds."""
CONTENT = "_content"
"""The column of silver that tells equal rows of text formats: SHA-256 of the raw row. It is there where a pipeline names it."""
RESERVED = ("row_id", "split")
LOSSES = {"class": ("cross_entropy",), "number": NUMBER_LOSSES}
TEXTS = ("csv", "jsonl", "json", "text", "files", "mixed")
"""Formats whose raw values are texts, so that a row without a key is told by them, whatever their types come to be."""
UNNAMED = ("text", "files", "images", "idx", "warc", "wet", "ts")
"""Formats whose columns are always the same, so that a contract's evolution cannot be about them."""
STOP_METRICS = {"class": ("loss", "accuracy"), "number": ("loss", "mae", "rmse")}


def check_pipeline(config: PipelineConfig, contract: TableContract) -> None:
    """Raises ConfigError for a column that the contract does not have, or that cannot be what the pipeline takes it for."""
    own = (*RESERVED, FOLD) if isinstance(config.split, KFoldSplit) else RESERVED
    reserved = [name for name in contract.columns if name.startswith("_") or name.lower() in own]
    if reserved:
        raise ConfigError(
            "contract",
            expected=f"columns of {contract.name} without a leading _ and none called {' or '.join(own)}",
            found=f"'{reserved[0]}'",
            remedy="These names are Millrace's own: rename the column.",
        )
    _check_reading(config, contract)
    silver = silver_contract(config, contract)
    named = {
        "contract.key": contract.key or tuple(contract.columns),
        "label.column": (config.label.column,) if config.label else (),
        **_columns_of_gold(config),
    }
    for where, names in named.items():
        _check_columns(where, names, silver)
    for name in named["contract.key"]:
        if contract.columns[name].type not in EXACT and not contract.key and config.source.format not in TEXTS:
            found = f"{name} is a {contract.columns[name].type}"
            raise _error("contract.key", "columns with an exact text", found, f"Give {contract.name} a key.")
    check_gold_alone(config, contract)
    check_split(config.split, silver)
    _check_rules(config, contract)
    _check_order(config, contract)
    _check_features(config, silver)
    _check_label(config, silver)
    check_augment(config)
    shards = config.training.virtual_shards
    if shards is not None and config.training.batch_size % shards:
        found = f"{config.training.batch_size} % {shards} = {config.training.batch_size % shards}"
        raise _error("training.virtual_shards", "a divisor of training.batch_size", found, "Change one of them.")


def _check_reading(config: PipelineConfig, contract: TableContract) -> None:
    if config.source.format in UNNAMED:
        _check_evolution(config.source.format, contract)
    if config.source.format not in ("csv", "json", "jsonl", "mixed"):
        return
    for name, column in contract.columns.items():
        if column.data_type.inner:
            found = f"{name} is {column.type}"
            raise ConfigError(
                "contract",
                expected=f"simple types in {config.source.format}",
                found=found,
                remedy="Make it a string, and parse it later.",
            )
    if isinstance(config.source, MixedSource):
        _check_parts(config.source, contract)


def _check_parts(source: MixedSource, contract: TableContract) -> None:
    needed = [name for name, column in contract.columns.items() if not column.nullable]
    for part in source.parts:
        filled = [name for name in part.mapping.values() if name is not None]
        _check_columns(f"source.parts, {part.format}", filled, contract)
        missing = [name for name in needed if name not in filled]
        if missing:
            raise _error(
                f"source.parts, {part.format}",
                f"all columns of {contract.name} that cannot be NULL",
                f"no {', '.join(missing)}",
                f"Name them in its mapping, or let {contract.name} make them nullable.",
            )


def _check_evolution(form: str, contract: TableContract) -> None:
    """Files that name no columns have none too many, and none too few: a policy that nothing would ever read is refused."""
    policies = {"added": contract.evolution.added, "missing": contract.evolution.missing}
    idle = {"added": ("evolve",), "missing": ("null", "quarantine")}
    for name, policy in policies.items():
        if policy in idle[name]:
            raise ConfigError(
                "contract",
                expected=f"evolution.{name} of {contract.name} to be refuse{' or quarantine' if name == 'added' else ''}, since "
                f"{form} files name no columns",
                found=policy,
                remedy="Leave it out.",
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


def silver_contract(config: PipelineConfig, contract: TableContract) -> TableContract:
    """The contract of the columns that silver has of a row: the raw ones, and those that cleaning and splitting add.

    Raises ConfigError for a step of `clean` that does not fit them.
    """
    if uses_content(config) and config.source.format not in TEXTS:
        found, remedy = f"the format {config.source.format}", "Name columns with an exact text, or give the contract a key."
        raise ConfigError("config", expected=f"{CONTENT} with {', '.join(TEXTS)}", found=found, remedy=remedy)
    contract = with_content(config, contract)
    added = check_steps(config.clean, contract)
    if isinstance(config.split, KFoldSplit):
        added = {**added, FOLD: "int"}
    columns = {**contract.columns, **{name: ColumnContract(type=kind) for name, kind in added.items()}}
    return contract.model_copy(update={"columns": columns})


def with_content(config: PipelineConfig, contract: TableContract) -> TableContract:
    """The contract, and CONTENT where the pipeline names it."""
    if not uses_content(config):
        return contract
    return contract.model_copy(update={"columns": {**contract.columns, CONTENT: ColumnContract(type="string")}})


def uses_content(config: PipelineConfig) -> bool:
    """Whether a pipeline tells rows by all that is in them."""
    return CONTENT in (*config.split.key, *(name for step in config.clean for name in step.drop_duplicates))


def columns_of(feature: FeatureConfig) -> tuple[str, ...]:
    """The columns of silver that a feature takes."""
    return (feature.column,) if isinstance(feature, ScaleFeature | TokenFeature) else feature.columns


def _columns_of_gold(config: PipelineConfig) -> dict[str, tuple[str, ...]]:
    blocks, windows = config.blocks, config.windows
    return {
        "features": tuple(name for feature in config.features for name in columns_of(feature)),
        "blocks.order_by": blocks.order_by if blocks else (),
        "blocks.group_by": blocks.group_by if blocks else (),
        "windows": (*windows.by, windows.time, *windows.inputs, windows.target) if windows else (),
    }


def _check_order(config: PipelineConfig, contract: TableContract) -> None:
    """Duplicates go before the split, and so before anything that is fitted on the train split. And what is looked at in silver,
    to see that a rule of the split tears nothing apart, is what was split by."""
    first = num_before_split(config.clean)
    late = [step for step in config.clean[first:] if looks_at_other_rows(step)]
    if late:
        found = f"{late[0].name} after {config.clean[first].name}, which looks at the train split"
        raise ConfigError("config", expected="clean to drop duplicates first", found=found, remedy="Put it before that step.")
    torn = may_be_torn(config, contract)
    for step in config.clean[first:]:
        changed = next((name for name in writes(step) if name in torn), None)
        if changed is not None:
            raise ConfigError(
                "config",
                expected="a split by rules and columns that clean does not change after it",
                found=f"{step.name} of {changed}, after the split",
                remedy="Split by a copy of the column, which a step of clean with `into` makes.",
            )


def _check_name(config: PipelineConfig, column: str) -> None:
    """Gold keeps tensors and token ids under the name of what they are made of, beside columns of its own."""
    others = {LABEL: "the class"} if config.label is not None else {}
    others |= {IDS: "the fitted ids"} if config.id_features else {}
    others |= {FEATURES: "the fitted numbers"} if len(config.id_features) < len(config.fitted_features) else {}
    if column.lower() in others:
        name, what = column.lower(), others[column.lower()]
        raise _error("features", f"a column that is not called {name}", "it", f"Gold has {what} there: rename the column.")


def _check_rules(config: PipelineConfig, contract: TableContract) -> None:
    """What a rule has rejected is counted under its name."""
    label = {no_label(config.label.column), unseen_in_train(config.label.column)} if config.label else set()
    own = {DUPLICATE_KEY, SUPERSEDED, GAVE_WAY, UNKNOWN, *label}
    others = {rule.name for rule in rules_of(contract)} | set(across_rules(contract)) | own
    for step in config.clean:
        if step.filter is not None and step.filter.rule in others:
            found = f"{step.filter.rule}, which is another rule's name"
            raise _error("clean.filter.rule", "a name of its own", found, "Give it another one.")


def _check_features(config: PipelineConfig, silver: TableContract) -> None:
    for feature in config.features:
        if isinstance(feature, ScaleFeature):
            _check_tensor(feature, silver, trains=config.trains)
        elif isinstance(feature, TokenFeature):
            if silver.columns[feature.column].type != "string":
                found = f"{feature.column} is a {silver.columns[feature.column].type}"
                raise _error("features", "a column of texts", found, "Take another column.")
        else:
            for column in feature.columns:
                checked_type(feature, column, silver)
        if isinstance(feature, ScaleFeature | TokenFeature):
            _check_name(config, feature.column)
    if config.windows is not None:
        for name in (*config.windows.inputs, config.windows.target):
            if silver.columns[name].type not in (*INTEGERS, *FLOATS):
                raise _error("windows", "columns of numbers", f"{name} is a {silver.columns[name].type}", "Take other columns.")


def _check_tensor(feature: ScaleFeature, silver: TableContract, *, trains: bool) -> None:
    tensor = silver.columns[feature.column].tensor
    if tensor is None or (trains and tensor.dtype != "uint8"):
        what = "uint8" if trains else "any type"
        raise _error(
            "features", f"a column with a tensor of {what}", f"{feature.column} has none", f"Give it one in {silver.name}."
        )
    if tensor.shape != feature.shape:
        raise _error(
            "features", f"the shape {list(tensor.shape)} of {feature.column}", f"{list(feature.shape)}", "Make them equal."
        )


def _check_columns(where: str, names: Iterable[str], contract: TableContract) -> None:
    for name in names:
        if name not in contract.columns:
            raise _error(where, f"columns of the contract {contract.name}", f"'{name}'", nearest(name, contract.columns))


def _error(where: str, expected: str, found: str, remedy: str) -> ConfigError:
    return ConfigError("config", expected=f"{where} to name {expected}", found=found, remedy=remedy)
