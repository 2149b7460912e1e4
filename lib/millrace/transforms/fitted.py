"""Clean steps that need statistics of the train split: which ones they need, and what they do once these are known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pyspark.sql import DataFrame

from millrace.config.cleaning import CleanStep, FillConfig, OutliersConfig, WinsorizeConfig
from millrace.errors import QualityError
from millrace.transforms.tabular import clip, drop_outside, fill_constant


@dataclass(frozen=True)
class Statistic:
    """One figure over the values of a column that are neither NULL nor NaN, in the kept rows of the train split."""

    column: str
    kind: Literal["mean", "deviation", "quantile", "mode"]
    """deviation: the standard deviation of the population; mode: the most frequent value, of equally frequent ones the least."""
    at: float | None = None
    """Which quantile, 0 to 1."""

    def __str__(self) -> str:
        return f"{self.kind}({self.column})" if self.at is None else f"quantile({self.column}, {self.at:g})"


def statistics_of(step: CleanStep) -> tuple[Statistic, ...]:
    """What a step needs to know before it can be applied; nothing for a step that is not fitted."""
    match step.options:
        case FillConfig(statistic=str() as kind, columns=columns):
            return tuple(_of_fill(name, kind) for name in columns)
        case WinsorizeConfig() as config:
            return tuple(Statistic(name, "quantile", at) for name in config.columns for at in (config.low, config.high))
        case OutliersConfig(method="iqr", columns=columns):
            return tuple(Statistic(name, "quantile", at) for name in columns for at in (0.25, 0.75))
        case OutliersConfig(columns=columns):
            kinds: tuple[Literal["mean", "deviation"], ...] = ("mean", "deviation")
            return tuple(Statistic(name, kind, None) for name in columns for kind in kinds)
        case _:
            return ()


def apply_fitted(rows: DataFrame, step: CleanStep, statistics: Mapping[Statistic, Any]) -> DataFrame:
    """The same rows after a fitted step, with the figures that `statistics_of` names.

    Raises QualityError where a figure is missing, or no finite number: the train split has no value in that column.
    """
    found = {each: _known(each, statistics) for each in statistics_of(step)}
    match step.options:
        case FillConfig(columns=columns, statistic=str() as kind):
            return fill_constant(rows, values={name: found[_of_fill(name, kind)] for name in columns})
        case WinsorizeConfig() as config:
            levels = (config.low, config.high)
            low, high = ({name: found[Statistic(name, "quantile", at)] for name in config.columns} for at in levels)
            return clip(rows, bounds={name: (low[name], high[name]) for name in config.columns})
        case OutliersConfig() as config:
            bounds = {name: bounds_of(name, config, found) for name in config.columns}
            there = {name: bound for name, bound in bounds.items() if bound is not None}
            return clip(rows, bounds=there) if config.action == "clip" else drop_outside(rows, bounds=there)
    raise AssertionError(f"{step.name} is not fitted")


def bounds_of(name: str, config: OutliersConfig, found: Mapping[Statistic, Any]) -> tuple[float, float] | None:
    """From where to where a column has no outliers; None where it has no spread, which says nothing about other values."""
    if config.method == "iqr":
        low, high = (found[Statistic(name, "quantile", at)] for at in (0.25, 0.75))
        spread = high - low
    else:
        low = high = found[Statistic(name, "mean")]
        spread = found[Statistic(name, "deviation")]
    return (low - config.limit * spread, high + config.limit * spread) if spread > 0.0 else None


def _of_fill(name: str, kind: str) -> Statistic:
    if kind == "median":
        return Statistic(name, "quantile", 0.5)
    return Statistic(name, "mean" if kind == "mean" else "mode")


def _known(each: Statistic, statistics: Mapping[Statistic, Any]) -> Any:
    value = statistics.get(each)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        raise QualityError(
            "clean",
            expected=f"{each} of the train split",
            found="no value" if value is None else f"{value}",
            remedy=f"{each.column} has no usable values there: take it out of the step, or mend the source.",
        )
    return value
