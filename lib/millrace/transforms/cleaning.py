"""The `clean` list on Spark.

The steps run in their order, each on what the one before it left. A row that a step drops keeps its place and gets a tag (_rule,
_reason, _action = dropped); later steps pass tagged rows over: they do not change them, and do not count, order or compare them.
Columns keep the contract's types. A step writes into columns of the contract or adds new ones, which later steps may use.
`drop_duplicates` looks at other rows and belongs to transforms/deduplicate.py; steps that need statistics of the train split go
through `apply_fitted`. Neighbouring text steps share one pass through Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from pyspark.sql import DataFrame

from millrace.config.cleaning import (
    CastConfig,
    CleanStep,
    ClipConfig,
    CoalesceConfig,
    FillConfig,
    FilterConfig,
    ForwardConfig,
    MapConfig,
    OutliersConfig,
)
from millrace.config.near_duplicates import NearDuplicatesConfig
from millrace.config.texts import LanguageConfig, MaskConfig, TextConfig, TextQualityConfig
from millrace.transforms import tabular
from millrace.transforms.fitted import Statistic, apply_fitted, statistics_of
from millrace.transforms.forward import fill_forward
from millrace.transforms.text_pass import apply_text, rules_of_text

__all__ = ["Statistic", "apply_clean", "apply_fitted", "apply_run", "rules_of_clean", "statistics_of"]


def apply_clean(rows: DataFrame, step: CleanStep, *, tie_break: Sequence[str] = (), older: DataFrame | None = None) -> DataFrame:
    """The same rows after one step that needs no statistics; `tie_break` orders rows of equal time, file and row_id, `older` is
    what stands of older nights, whose values may be carried forward.

    Rows have row_id, _night, _source_file, _rule, _reason and _action besides the contract's columns.
    """
    match step.options:
        case FillConfig(forward=None) as config:
            done = tabular.fill_constant(rows, values=dict.fromkeys(config.columns, config.value))
        case FillConfig(forward=ForwardConfig() as forward, columns=columns):
            order = [name for name in tie_break if name != forward.time]
            done = fill_forward(rows, columns=columns, time=forward.time, group=forward.group, tie_break=order, older=older)
        case CoalesceConfig() as config:
            done = tabular.coalesce(rows, columns=config.columns, into=config.into)
        case CastConfig() as config:
            drop = config.failed == "drop"
            done = tabular.cast_into(rows, column=config.column, type=config.type, into=config.into, drop_failed=drop)
        case MapConfig() as config:
            done = tabular.map_values(rows, column=config.column, values=config.values, keep_others=config.others == "keep")
        case ClipConfig() as config:
            done = tabular.clip(rows, bounds=dict.fromkeys(config.columns, (config.low, config.high)))
        case FilterConfig() as config:
            done = tabular.keep_where(rows, where=config.where, rule=config.rule)
        case tuple() as columns if step.name in ("dropna", "trim"):
            done = tabular.dropna(rows, columns=columns) if step.dropna else tabular.trim(rows, columns=columns)
        case config:
            assert is_text_step(step), f"{step.name} looks at other rows or needs statistics"
            done = apply_text(rows, [config])
    return done


def apply_run(
    rows: DataFrame, steps: Sequence[CleanStep], *, tie_break: Sequence[str] = (), older: DataFrame | None = None
) -> DataFrame:
    """`apply_clean` for a run of steps that need no statistics; neighbouring text steps share one pass through Python."""
    for is_text, run in groupby(steps, key=is_text_step):
        if is_text:
            rows = apply_text(rows, [step.options for step in run])
        else:
            for step in run:
                rows = apply_clean(rows, step, tie_break=tie_break, older=older)
    return rows


def is_text_step(step: CleanStep) -> bool:
    """Whether a step works on texts in Python."""
    return isinstance(step.options, TextConfig | LanguageConfig | TextQualityConfig | MaskConfig)


def num_before_split(steps: Sequence[CleanStep]) -> int:
    """How many steps are done before rows are split: up to the first that looks at the train split."""
    return next((number for number, step in enumerate(steps) if statistics_of(step)), len(steps))


def rules_of_clean(step: CleanStep) -> tuple[str, ...]:
    """The rules by which a step may drop rows, as they stand in _rule."""
    rules: tuple[str, ...] = ()
    match step.options:
        case FilterConfig(rule=rule):
            rules = (rule,)
        case CastConfig(failed="drop", column=column):
            rules = (f"cast({column})",)
        case OutliersConfig(action="drop", columns=columns):
            rules = tuple(f"outliers({name})" for name in columns)
        case TextConfig() | LanguageConfig() | TextQualityConfig() | MaskConfig() as config:
            rules = rules_of_text(config)
        case NearDuplicatesConfig() as config:
            rules = (config.rule,)
        case tuple() as columns if step.name == "dropna":
            rules = tuple(f"dropna({name})" for name in columns)
        case tuple() as columns if step.name == "drop_duplicates":
            rules = (f"drop_duplicates({', '.join(columns)})",)
    return rules
