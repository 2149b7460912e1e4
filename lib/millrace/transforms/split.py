"""Which split a row belongs to: a function of the row alone, so that it never changes when rows are added."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import get_args

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from millrace.config.load import nearest
from millrace.config.splitting import (
    GivenSplit,
    GroupSplit,
    HashSplit,
    KFoldSplit,
    SplitConfig,
    SplitName,
    StratifiedSplit,
    TimeSplit,
)
from millrace.contracts.limits import range_condition
from millrace.contracts.spark import quoted
from millrace.contracts.table import TableContract
from millrace.contracts.types import EXACT, INTEGERS
from millrace.errors import ConfigError
from millrace.transforms.identity import encoded, hash_number, threshold

SPLITS = ("train", "validation", "test")
UNKNOWN = "split_is_unknown"
"""The rule that a row breaks for which the method has no split: it has no time, or a value that no split is given for."""


def split_of(schema: StructType, config: SplitConfig) -> Column:
    """train, validation or test: by the rules of `where` first, then by the method. NULL where the method has none for a row."""
    chosen = _by_method(schema, config)
    for name, rule in (("validation", config.validation), ("test", config.test)):
        if rule is not None:
            chosen = F.when(F.expr(rule.where), F.lit(name)).otherwise(chosen)
    return chosen


def check_split(config: SplitConfig, contract: TableContract) -> None:
    """Raises ConfigError for a column that the contract does not have, or that the method can do nothing with."""
    named = {"split.group" if isinstance(config, GroupSplit) else "split.key": config.key}
    if isinstance(config, StratifiedSplit | TimeSplit | GivenSplit):
        named["split.column"] = (config.column,)
    for where, names in named.items():
        for name in names:
            if name not in contract.columns:
                raise _error(where, f"columns of the contract {contract.name}", f"'{name}'", nearest(name, contract.columns))
            kind = contract.columns[name].type
            if kind not in EXACT and not isinstance(config, GivenSplit):
                raise _error(where, "columns with an exact text", f"{name} is a {kind}", "Take other columns.")
    if isinstance(config, TimeSplit):
        kind, is_number = contract.columns[config.column].type, all(isinstance(cut, int) for cut in config.cuts.values())
        legal = INTEGERS if is_number else ("date", "timestamp")
        if kind == "date" and any(isinstance(cut, datetime) for cut in config.cuts.values()):
            raise _error("split.cuts", "dates, as split.column is a date", "a timestamp", "Leave out the time of day.")
        if kind not in legal:
            wanted = "an integer, as split.cuts has numbers" if is_number else "a date or timestamp, as split.cuts has dates"
            raise _error("split.column", wanted, f"{config.column} is a {kind}", "Change one of them.")


def _error(where: str, expected: str, found: str, remedy: str) -> ConfigError:
    return ConfigError("config", expected=f"{where} to name {expected}", found=found, remedy=remedy)


def fold_of(schema: StructType, config: KFoldSplit) -> Column:
    """The fold of a row as int32, 0 to k - 1; the same whichever fold is held out. Rows of the test split have one as well."""
    return F.pmod(hash_number(encoded(schema, config.key), seed=config.seed), F.lit(config.k)).cast("int")


def tag_without_split(rows: DataFrame) -> DataFrame:
    """The same rows; one without a split is tagged as quarantined, rows with a tag are passed over."""
    now = F.col("_rule").isNull() & F.col("split").isNull()
    tags = {name: F.when(F.col("_now"), F.lit(text)).otherwise(F.col(name)) for name, text in _TAGS.items()}
    return rows.withColumn("_now", now).withColumns(tags).drop("_now")


_TAGS = {"_rule": UNKNOWN, "_reason": "its columns name no split, and split.otherwise gives none", "_action": "quarantined"}


def _by_method(schema: StructType, config: SplitConfig) -> Column:
    match config:
        case HashSplit() | GroupSplit():
            return _by_fractions(hash_number(encoded(schema, config.key), seed=config.seed), config.fractions)
        case StratifiedSplit():
            return _by_strata(schema, config)
        case KFoldSplit():
            return F.when(fold_of(schema, config) == config.fold, F.lit("validation")).otherwise(F.lit("train"))
        case TimeSplit():
            return _by_time(schema, config)
        case GivenSplit():
            chosen = F.lit(config.otherwise).cast("string")
            for name, values in config.names.items():
                chosen = F.when(F.col(config.column).cast("string").isin(list(values)), F.lit(name)).otherwise(chosen)
            return chosen


def _by_fractions(number: Column, fractions: Mapping[SplitName, float]) -> Column:
    names: list[SplitName] = [name for name in get_args(SplitName) if name in fractions]
    chosen, upper = F.lit(names[-1]), 1.0
    for name, after in zip(reversed(names[:-1]), reversed(names[1:]), strict=True):
        upper -= fractions[after]
        chosen = F.when(number < threshold(upper), F.lit(name)).otherwise(chosen)
    return chosen


def _by_strata(schema: StructType, config: StratifiedSplit) -> Column:
    number = hash_number(encoded(schema, [config.column, *config.key]), seed=config.seed)  # a draw of its own in each stratum
    chosen = _by_fractions(number, config.fractions)
    for value, fractions in config.strata.items():
        in_stratum = F.col(config.column).cast("string").eqNullSafe(value)
        chosen = F.when(in_stratum, _by_fractions(number, fractions)).otherwise(chosen)
    return chosen


def _by_time(schema: StructType, config: TimeSplit) -> Column:
    kind = schema[config.column].dataType.simpleString()
    chosen = F.lit("train")
    for name, cut in (("validation", config.cuts.get("validation")), ("test", config.cuts.get("test"))):
        if cut is not None:
            chosen = F.when(F.expr(range_condition(quoted(config.column), kind, cut, None)), F.lit(name)).otherwise(chosen)
    return F.when(F.col(config.column).isNull(), F.lit(config.otherwise).cast("string")).otherwise(chosen)
