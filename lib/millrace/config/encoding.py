"""The `features` section: how raw columns become the numbers that a model takes. One class for each `encode`.

Rules that hold for all of them: a number that is NULL, NaN, infinite or beyond 1e300 is missing; booleans are 0 and 1, dates
days and timestamps microseconds since 1970-01-01 (UTC). Numbers and one-hots go into one float32 vector, ids into one int32
vector, in the order of the section. What is fitted is fitted on the train split.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from millrace.config.section import Column, Positive, Section

Impute = Literal["mean", "median", "mode", "none"] | Annotated[float, Field(allow_inf_nan=False)]
Output = Literal["one_hot", "ids"]
Slot = Literal["slot", "zeros"]
Part = Literal["hour", "weekday", "day", "month", "year"]
_Share = Annotated[float, Field(ge=0.0, le=1.0)]


class ScaleFeature(Section):
    """A tensor of bytes: x / divisor, inside the model, so that the export takes the raw column."""

    column: Column
    encode: Literal["scale"]
    divisor: float = Field(default=1.0, gt=0.0)
    shape: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=1)


class _Columns(Section):
    """Columns that share their options. `column: a` is the same as `columns: [a]`."""

    columns: tuple[Column, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _one_or_several(cls, values: Any) -> Any:
        if isinstance(values, dict) and "column" in values:
            if "columns" in values:
                raise ValueError("give column or columns, not both")
            values = {**values, "columns": [values["column"]]}
            del values["column"]
        return values

    @model_validator(mode="after")
    def _columns_differ(self) -> _Columns:
        if len(set(self.columns)) < len(self.columns):
            raise ValueError(f"a column stands twice in {list(self.columns)}")
        return self


class _Number(_Columns):
    """One float32 for each column. A column whose deviation, width or range is below 1e-30 counts as constant."""

    impute: Impute = "mean"
    """What stands for a missing number: mean, median (within 0.1 %) or mode of the train split, or a number of your own. none: it
    stays NaN, for models that take it."""
    indicator: bool = False
    """One more 0 or 1 for each column, after the numbers: 1 where the number is missing."""


class NumberFeature(_Number):
    """The number as it is."""

    encode: Literal["number"]


class ZscoreFeature(_Number):
    """(x - mean) / standard deviation, of the whole train split (not n - 1); a constant column gives 0."""

    encode: Literal["zscore"]


class MinmaxFeature(_Number):
    """The smallest value of the train split becomes the lower end of `range`, the greatest the upper; others may lie outside."""

    encode: Literal["minmax"]
    range: tuple[float, float] = (0.0, 1.0)

    @model_validator(mode="after")
    def _range_goes_up(self) -> MinmaxFeature:
        if not self.range[0] < self.range[1]:
            raise ValueError(f"range goes from a smaller to a larger number, not from {self.range[0]} to {self.range[1]}")
        return self


class RobustFeature(_Number):
    """(x - median) / (upper quantile - lower quantile); quantiles are exact for some thousand different numbers, else within
    0.1 % of the value."""

    encode: Literal["robust"]
    impute: Impute = "median"
    quantiles: tuple[_Share, _Share] = (0.25, 0.75)

    @model_validator(mode="after")
    def _quantiles_go_up(self) -> RobustFeature:
        if not self.quantiles[0] < self.quantiles[1]:
            raise ValueError(
                f"quantiles go from a smaller to a larger share, not from {self.quantiles[0]} to {self.quantiles[1]}"
            )
        return self


class LogFeature(_Number):
    """sign(x) * log(1 + |x|): negative numbers keep their sign."""

    encode: Literal["log"]
    impute: Impute = "median"
    """Of the raw numbers, before the logarithm."""
    then: Literal["zscore", "none"] = "zscore"
    """zscore: of the logarithms; where they deviate by less than 1e-8 of their mean, the column counts as constant."""


class _Vocabulary(_Columns):
    """A vocabulary for each column: texts, integers, booleans or dates, the most frequent first, then by code point or size.

    The ids: 0 missing (NULL), 1 unknown (not in the vocabulary), 2 and up the values.
    """

    min_count: Positive = 1
    """Values that are rarer in the train split are unknown."""
    max_size: Positive = 10_000
    """Only so many of the most frequent values are known."""


class IndexFeature(_Vocabulary):
    """One id for each column."""

    encode: Literal["index"]


class OneHotFeature(_Vocabulary):
    """A 1 in the place of the value, 0 elsewhere: the values of the vocabulary, then the slots."""

    encode: Literal["one_hot"]
    unknown: Slot = "zeros"
    """slot: a place of its own, after the values. zeros: an unknown value is all 0."""
    missing: Slot = "slot"
    """slot: a place of its own, the last one, where the contract lets the column be NULL. zeros: NULL is all 0."""


class _Buckets(_Columns):
    buckets: int = Field(gt=0, le=2**30)
    seed: int = Field(default=0, ge=0, lt=2**31)
    output: Output = "one_hot"
    """one_hot: buckets numbers, of a hash all 0 for NULL. ids: one id, of a hash for each column."""


class HashFeature(_Buckets):
    """Each value falls into one of `buckets` by SipHash-2-4, without a vocabulary. The ids: 0 missing, 1 to buckets."""

    encode: Literal["hash"]


class CrossFeature(_Buckets):
    """The columns' values together fall into one of `buckets`; NULL is a value as any other. The ids: 0 to buckets - 1."""

    encode: Literal["cross"]
    columns: tuple[Column, ...] = Field(min_length=2)


class DatetimeFeature(_Columns):
    """Parts of dates and timestamps. What comes again is on a circle, as sine and cosine; all are 0 where the value is NULL."""

    encode: Literal["datetime"]
    parts: tuple[Part, ...] = Field(min_length=1)
    """hour: of 24, with its minutes as a fraction. weekday: of 7, from Monday. day: of 31. month: of 12. year: one number, the
    decades since 2000."""
    time_zone: str = "UTC"
    """Whose clock and calendar, for timestamps: a name such as Asia/Shanghai. Its changes from 1900 to 2100 are fixed when the
    feature is fitted; before and after, what they begin and end with goes on."""

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"no time zone is called '{name}'; take one such as Europe/Berlin") from None
        return name


NumberFeatures = NumberFeature | ZscoreFeature | MinmaxFeature | RobustFeature | LogFeature
FittableFeature = NumberFeatures | OneHotFeature | IndexFeature | HashFeature | CrossFeature | DatetimeFeature
