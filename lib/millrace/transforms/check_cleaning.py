"""What the `clean` list and the contract must agree on before anything runs."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from millrace.config.cleaning import (
    CastConfig,
    CleanStep,
    ClipConfig,
    CoalesceConfig,
    FillConfig,
    MapConfig,
    OutliersConfig,
    WinsorizeConfig,
    fills_forward,
)
from millrace.config.load import nearest
from millrace.config.near_duplicates import NearDuplicatesConfig
from millrace.config.texts import LanguageConfig, MaskConfig, TextConfig, TextQualityConfig
from millrace.contracts.table import TableContract
from millrace.contracts.types import EXACT, FLOATS, INTEGERS
from millrace.errors import ConfigError
from millrace.transforms.text_pass import TextStep, written

_NUMBERS = (*INTEGERS, *FLOATS)
_TIMES = ("date", "timestamp", *_NUMBERS)
_SIMPLE = ("boolean", *_NUMBERS, "string", "date", "timestamp", "binary")
Kinds = Mapping[str, str]


def check_steps(steps: Sequence[CleanStep], contract: TableContract) -> dict[str, str]:
    """Checks a whole list; returns the columns that it adds to the contract's, with their types."""
    added: dict[str, str] = {}
    for number, step in enumerate(steps):
        added |= check_clean(step, contract, added)
        if fills_forward(step):
            _check_forward(step.options, steps[number + 1 :], contract)
        if step.name == "drop_duplicates":
            _check_duplicates(step.drop_duplicates, steps[number + 1 :])
    return added


def check_clean(step: CleanStep, contract: TableContract, added: Kinds | None = None) -> dict[str, str]:
    """Raises ConfigError where a step names a column that is not there, or one that cannot be what the step takes it for.

    `added` are columns of earlier steps, by type. Returns those that this step adds.
    """
    kinds = {name: column.type for name, column in contract.columns.items()} | dict(added or {})
    known = _Known(kinds, contract.name)
    match step.options:
        case FillConfig() as config:
            _check_fill(config, known)
        case NearDuplicatesConfig() as config:
            known.need("clean.near_duplicates.column", [config.column], ("string",))
        case CastConfig() | CoalesceConfig() as config:
            return _check_into(config, known)
        case MapConfig() as config:
            known.need("clean.map.column", [config.column], ("boolean", *_NUMBERS, "string"))
            known.fit("clean.map.values", config.column, [*config.values, *config.values.values()])
        case ClipConfig() as config:
            known.need("clean.clip.columns", config.columns, _NUMBERS)
            for name in config.columns:
                known.fit("clean.clip", name, [config.low, config.high])
        case WinsorizeConfig() | OutliersConfig() as config:
            known.need(f"clean.{step.name}.columns", config.columns, _NUMBERS)
        case TextConfig() | LanguageConfig() | TextQualityConfig() | MaskConfig() as config:
            known.need(f"clean.{step.name}.column", [config.column], ("string",))
            _check_text(config)
            return known.write(f"clean.{step.name}.into", written(config))
    types = {"trim": ("string",), "dropna": None, "drop_duplicates": EXACT}
    if step.name in types:
        columns: tuple[str, ...] = getattr(step, step.name)
        known.need(f"clean.{step.name}", columns, types[step.name])
    return {}


def _check_fill(config: FillConfig, known: _Known) -> None:
    if config.forward is not None:
        known.need("clean.fillna.columns", config.columns, None)
        known.need("clean.fillna.forward.time", [config.forward.time], _TIMES)
        known.need("clean.fillna.forward.group", config.forward.group, (*EXACT, "boolean"))
        return
    kinds = ("boolean", *_NUMBERS, "string") if config.statistic in (None, "mode") else _NUMBERS
    known.need("clean.fillna.columns", config.columns, kinds)
    if config.value is not None:
        for name in config.columns:
            known.fit("clean.fillna.value", name, [config.value])


def _check_forward(config: FillConfig, later: Sequence[CleanStep], contract: TableContract) -> None:
    """Of older nights the step sees what silver has: that must be what it left."""
    assert config.forward is not None
    if contract.upsert:
        expected = f"clean.fillna.forward without upsert in {contract.name}: a row that gives way takes its values with it"
        raise ConfigError("config", expected=expected, found="both", remedy="Leave one of them out.")
    for step in later:
        # what these have done they do again without another change
        stays = step.trim or isinstance(step.options, ClipConfig | WinsorizeConfig | OutliersConfig)
        kept = {config.forward.time, *config.forward.group, *(() if stays else config.columns)}
        _refuse_change(step, kept, "the columns of fillna.forward before it, for it reads them again in silver")


def _check_duplicates(columns: Sequence[str], later: Sequence[CleanStep]) -> None:
    """Rows of other nights are compared by what silver has."""
    for step in later:
        _refuse_change(step, columns, "the columns of drop_duplicates before it, for it reads those of older nights in silver")


def _refuse_change(step: CleanStep, columns: Collection[str], what: str) -> None:
    """Raises ConfigError where a later step writes one of `columns`; `what` says which they are, and why they must not change."""
    changed = next((name for name in writes(step) if name in columns), None)
    if changed is not None:
        found = f"{step.name} of {changed} after it"
        raise ConfigError("config", expected=f"clean to change {what}", found=found, remedy="Put that step first.")


def writes(step: CleanStep) -> tuple[str, ...]:
    """The columns that a step changes."""
    match step.options:
        case FillConfig(columns=columns) | ClipConfig(columns=columns) | WinsorizeConfig(columns=columns):
            return columns
        case OutliersConfig(columns=columns, action="clip"):
            return columns
        case CastConfig(into=name) | CoalesceConfig(into=name) | MapConfig(column=name):
            return (name,)
        case TextConfig() | LanguageConfig() | TextQualityConfig() | MaskConfig() as config:
            return tuple(written(config))
    return step.trim


def _check_into(config: CastConfig | CoalesceConfig, known: _Known) -> dict[str, str]:
    if isinstance(config, CastConfig):
        known.need("clean.cast.column", [config.column], _SIMPLE)
        return known.write("clean.cast.into", {config.into: config.type})
    known.need("clean.coalesce.columns", config.columns, None)
    kind = known.kinds[config.columns[0]]
    known.need("clean.coalesce.columns", config.columns, (kind,))
    return known.write("clean.coalesce.into", {config.into: kind})


def _check_text(config: TextStep) -> None:
    if isinstance(config, LanguageConfig) and config.languages:
        from millrace.transforms.language import UNDETERMINED, known_languages

        codes = (*known_languages(), UNDETERMINED)
        for code in config.languages:
            if code not in codes:
                found = f"'{code}'"
                raise ConfigError(
                    "config", expected="codes that the model knows in clean.language", found=found, remedy=nearest(code, codes)
                )
    if isinstance(config, MaskConfig) and config.region is not None:
        from millrace.transforms.private import known_regions

        if config.region not in known_regions():
            hint = nearest(config.region, known_regions())
            raise ConfigError("config", expected="clean.mask.region to be a country", found=f"'{config.region}'", remedy=hint)


class _Known:
    """The columns that are there, by type."""

    def __init__(self, kinds: Kinds, contract: str) -> None:
        self.kinds = kinds
        self.contract = contract

    def need(self, where: str, names: Iterable[str], wanted: Sequence[str] | None) -> None:
        """Each name is a column, and of one of the wanted types."""
        for name in names:
            if name not in self.kinds:
                expected = f"{where} to name columns of the contract {self.contract}"
                raise ConfigError("config", expected=expected, found=f"'{name}'", remedy=nearest(name, self.kinds))
            if wanted is not None and self.kinds[name] not in wanted:
                expected = f"{where} to name columns of type {', '.join(wanted)}"
                found = f"{name} is a {self.kinds[name]}"
                raise ConfigError("config", expected=expected, found=found, remedy="Take other columns, or another step.")

    def write(self, where: str, columns: Kinds) -> dict[str, str]:
        """Columns that a step writes: new ones, which are returned, or old ones of the same type."""
        by_name = {name.lower(): name for name in self.kinds}
        new = {}
        for name, kind in columns.items():
            old = by_name.get(name.lower())
            if old is None and not name.startswith("_") and name.lower() not in ("row_id", "split"):
                new[name] = kind
            elif old is None:
                found = f"'{name}', which is Millrace's own"
                raise ConfigError("config", expected=f"{where} to name a column", found=found, remedy="Take another name.")
            elif old != name or self.kinds[old] != kind:
                found = f"{old} is a {self.kinds[old]}"
                expected = f"{where} to name a new column, or one of type {kind} as it is written"
                raise ConfigError("config", expected=expected, found=found, remedy="Take another name.")
        return new

    def fit(self, where: str, name: str, values: Iterable[Any]) -> None:
        """Each value is one of the column's type, or None."""
        for value in values:
            if value is not None and not _is_a(value, self.kinds[name]):
                expected = f"{where} to have values of {name}'s type, {self.kinds[name]}"
                raise ConfigError("config", expected=expected, found=repr(value), remedy="Mend the value.")


def _is_a(value: Any, kind: str) -> bool:
    if kind in INTEGERS:
        bits = INTEGERS[kind]
        return type(value) is int and -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)
    if kind in FLOATS:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is {"string": str, "boolean": bool}.get(kind)
