"""The `clean` section: a list of steps, each a mapping with one key that names it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    StringConstraints,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core.core_schema import SerializerFunctionWrapHandler

from millrace.config.conditions import Condition
from millrace.config.near_duplicates import NearDuplicatesConfig
from millrace.config.section import Column, Fraction, Name, Section
from millrace.config.texts import LanguageConfig, MaskConfig, TextConfig, TextQualityConfig

Columns = Annotated[tuple[Column, ...], Field(min_length=1)]
Value = StrictBool | StrictInt | StrictFloat | Annotated[StrictStr, StringConstraints(strip_whitespace=False)]
"""A value as YAML gives it; it has to fit the type of the column."""


class ForwardConfig(Section):
    """A gap takes the last value before it in time: of its own night, or of what silver has of an older one, which is then read
    anew in these columns. Put steps that drop rows before it: silver has not what they drop. A night that comes late has all
    nights done again."""

    time: Column
    """Rows are ordered by it; equal times by source file and row_id. A row without a time neither takes nor gives."""
    group: tuple[Column, ...] = ()
    """Values stay within rows that are equal in these columns. Without any all rows are one series, which one task sorts."""


class FillConfig(Section):
    """Gaps (NULL, and NaN in floats) of columns are filled."""

    columns: Columns
    value: Value | None = None
    """This value."""
    statistic: Literal["mean", "median", "mode"] | None = None
    """What the train split has: its mean, its median, its most frequent value. Integers take the nearest one, halves to even."""
    forward: ForwardConfig | None = None
    """The last value before it in time."""

    @model_validator(mode="after")
    def _one_way(self) -> FillConfig:
        given = [name for name in ("value", "statistic", "forward") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"fillna takes one of value, statistic and forward, not {' and '.join(given) or 'none'}")
        return self


class CoalesceConfig(Section):
    """The first of several columns that has a value (NULL, and NaN in floats, are none)."""

    columns: tuple[Column, ...] = Field(min_length=2)
    """Columns of one type, in the order in which they are asked."""
    into: Column
    """The column that gets it: a new one, or one of the contract's, also one of these."""


class CastConfig(Section):
    """Another column that has a column's values in another type."""

    column: Column
    type: Literal["boolean", "tinyint", "smallint", "int", "bigint", "float", "double", "string", "date", "timestamp"]
    into: Column
    """A new column, or one of the contract's that has this type."""
    failed: Literal["drop", "null"] = "drop"
    """What happens where the type has no such value (integers have no 1.7): the row is dropped by rule cast(COLUMN), or the new
    value is NULL."""


class MapConfig(Section):
    """Values are replaced one by one."""

    column: Column
    values: dict[Value, Value | None] = Field(min_length=1)
    """Old value: new value; null makes it NULL."""
    others: Literal["keep", "null"] = "keep"
    """What happens to values that are not listed."""


class ClipConfig(Section):
    """Numbers beyond a bound become the bound; NULL and NaN stay."""

    columns: Columns
    low: float | int | None = None
    high: float | int | None = None

    @model_validator(mode="after")
    def _bounds_bound(self) -> ClipConfig:
        bounds = [bound for bound in (self.low, self.high) if bound is not None]
        if not bounds or not all(math.isfinite(bound) for bound in bounds):
            raise ValueError("clip takes low, high or both, as finite numbers")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"clip goes from a smaller to a larger number, not from {self.low:g} to {self.high:g}")
        return self


class WinsorizeConfig(Section):
    """Numbers beyond a quantile of the train split become that quantile; NULL and NaN stay."""

    columns: Columns
    low: Fraction = 0.01
    high: Fraction = 0.99

    @model_validator(mode="after")
    def _quantiles_bound(self) -> WinsorizeConfig:
        if self.low >= self.high:
            raise ValueError(f"winsorize goes from a smaller to a larger quantile, not from {self.low:g} to {self.high:g}")
        return self


class OutliersConfig(Section):
    """Numbers far from the rest of the train split; NULL and NaN are none."""

    columns: Columns
    method: Literal["iqr", "z"] = "iqr"
    """iqr: beyond limit * (q3 - q1) below q1 or above q3 (Tukey, 1977); z: beyond limit deviations from the mean."""
    limit: float = Field(default=1.5, gt=0.0, allow_inf_nan=False)
    """Where none is given, 1.5 for iqr and 3 for z."""
    action: Literal["drop", "clip"] = "drop"
    """The row is dropped by rule outliers(COLUMN), or the number becomes the bound."""

    @model_validator(mode="before")
    @classmethod
    def _limit_is_the_methods(cls, values: Any) -> Any:
        return {"limit": 3.0, **values} if isinstance(values, dict) and values.get("method") == "z" else values


class FilterConfig(Section):
    """Rows stay where a condition is true; where it is false or NULL they are dropped."""

    where: Condition
    """A Spark SQL condition over the columns."""
    rule: Name
    """The name under which rows are dropped."""


class CleanStep(Section):
    """One cleaning step; exactly one key is set."""

    drop_duplicates: tuple[Column, ...] = Field(default=(), min_length=1)
    """Of rows that are equal in these columns the earliest (file, row_id) stays."""
    dropna: tuple[Column, ...] = Field(default=(), min_length=1)
    """Rows with NULL, or NaN in floats, in one of these columns are dropped by rule dropna(COLUMN)."""
    fillna: FillConfig | None = None
    coalesce: CoalesceConfig | None = None
    cast: CastConfig | None = None
    trim: tuple[Column, ...] = Field(default=(), min_length=1)
    """White space (Unicode's) at both ends of these texts goes."""
    map: MapConfig | None = None
    clip: ClipConfig | None = None
    winsorize: WinsorizeConfig | None = None
    outliers: OutliersConfig | None = None
    filter: FilterConfig | None = None
    text: TextConfig | None = None
    language: LanguageConfig | None = None
    quality: TextQualityConfig | None = None
    mask: MaskConfig | None = None
    near_duplicates: NearDuplicatesConfig | None = None

    @model_validator(mode="after")
    def _one_key(self) -> CleanStep:
        if len(self.model_fields_set) != 1:
            given = " and ".join(name for name in type(self).model_fields if name in self.model_fields_set) or "none"
            raise ValueError(f"a step of clean has one key that names it, not {given}; give each step its own line")
        if not self.options:
            raise ValueError(f"{self.name} says nothing")
        return self

    @field_validator("*", mode="before")
    @classmethod
    def _said(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("the step says nothing after its name")
        return value

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, inner: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A new kind of step must not change the hash of the pipelines that do not have it."""
        return {name: value for name, value in inner(self).items() if name in self.model_fields_set}

    @property
    def name(self) -> str:
        """The key that is set."""
        return next(iter(self.model_fields_set))

    @property
    def options(self) -> Any:
        """What stands under it."""
        return getattr(self, self.name)


def fills_forward(step: CleanStep) -> bool:
    """Whether a step carries values from row to row, and so from night to night."""
    return isinstance(step.options, FillConfig) and step.options.forward is not None


def changes_values(steps: Sequence[CleanStep]) -> bool:
    """Whether one of the steps may make another value of one: where none does, who met the contract's rules before them does so
    after them."""
    return any(step.name not in ("drop_duplicates", "near_duplicates", "dropna", "filter") for step in steps)


def looks_at_other_rows(step: CleanStep) -> bool:
    """Whether a step drops a row because of another one, which may be of another night."""
    return step.name in ("drop_duplicates", "near_duplicates")
