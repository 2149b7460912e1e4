"""What is known of the train split's columns: frozen, JSON, mergeable.

Merging is exact for all but values beyond MAX_VALUES: associative, commutative, and bit-equal to one pass over all the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from millrace.contracts.inputs import Kind
from millrace.errors import ConfigError
from millrace.fit.exact import Moments
from millrace.fit.quantiles import Sketch

Value = str | int | float

MAX_VALUES = 100_000
"""Of a column with more distinct values the most frequent are kept."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """What somebody wants to know of a column, beyond rows, missing ones and the range of numbers."""

    column: str
    moments: bool = False
    log_moments: bool = False
    """Moments of sign(x) log(1 + |x|)."""
    quantiles: bool = False
    values: bool = False
    """How often each value occurs; also for the mode."""


def merge_needs(needs: Iterable[Need]) -> tuple[Need, ...]:
    """One need a column, in the order in which the columns come first."""
    merged: dict[str, Need] = {}
    for need in needs:
        known = merged.get(need.column, Need(column=need.column))
        merged[need.column] = replace(
            known,
            moments=known.moments or need.moments,
            log_moments=known.log_moments or need.log_moments,
            quantiles=known.quantiles or need.quantiles,
            values=known.values or need.values,
        )
    return tuple(merged.values())


@dataclass(frozen=True)
class ValueCounts:
    """(value, count), the most frequent first, then by code point or size. `complete`: no value was left out for MAX_VALUES."""

    counts: tuple[tuple[Value, int], ...] = ()
    complete: bool = True

    @classmethod
    def of(cls, counts: Mapping[Value, int], *, complete: bool = True) -> ValueCounts:
        """In order, cut after MAX_VALUES."""
        ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return cls(tuple(ordered[:MAX_VALUES]), complete and len(ordered) <= MAX_VALUES)

    def __add__(self, other: ValueCounts) -> ValueCounts:
        counts = dict(self.counts)
        for value, count in other.counts:
            counts[value] = counts.get(value, 0) + count
        return ValueCounts.of(counts, complete=self.complete and other.complete)


@dataclass(frozen=True, kw_only=True)
class ColumnStatistics:
    """`num_missing`: NULL, and of numbers NaN, infinities and what is beyond 1e300.

    The rest is of the other rows; None where nobody asked for it.
    """

    kind: Kind
    num_rows: int = 0
    num_missing: int = 0
    minimum: float | None = None
    maximum: float | None = None
    moments: Moments | None = None
    log_moments: Moments | None = None
    quantiles: Sketch | None = None
    values: ValueCounts | None = None

    def __add__(self, other: ColumnStatistics) -> ColumnStatistics:
        assert self.kind == other.kind
        lows = [each for each in (self.minimum, other.minimum) if each is not None]
        highs = [each for each in (self.maximum, other.maximum) if each is not None]
        return ColumnStatistics(
            kind=self.kind,
            num_rows=self.num_rows + other.num_rows,
            num_missing=self.num_missing + other.num_missing,
            minimum=min(lows, default=None),
            maximum=max(highs, default=None),
            moments=_sum(self.moments, other.moments),
            log_moments=_sum(self.log_moments, other.log_moments),
            quantiles=_sum(self.quantiles, other.quantiles),
            values=_sum(self.values, other.values),
        )

    @property
    def mode(self) -> Value | None:
        """The most frequent value; of equally frequent ones the first by code point or size. None without any."""
        assert self.values is not None, "nobody asked for values"
        return self.values.counts[0][0] if self.values.counts else None

    def quantile(self, share: float) -> float:
        """Exact for some thousand different numbers, else within 0.1 % of the value; 0 without numbers."""
        assert self.quantiles is not None, "nobody asked for quantiles"
        if self.minimum is None or self.maximum is None:
            return 0.0
        return min(max(self.quantiles.quantile(share), self.minimum), self.maximum)


@dataclass(frozen=True)
class Statistics:
    """By column."""

    columns: Mapping[str, ColumnStatistics]

    def __getitem__(self, column: str) -> ColumnStatistics:
        if column not in self.columns:
            raise ConfigError(
                "fit",
                expected=f"statistics of column {column}",
                found=f"those of {', '.join(self.columns) or 'no column'}",
                remedy="Fit again (fit.refit): the column is new in features or clean.",
            )
        return self.columns[column]

    def __add__(self, other: Statistics) -> Statistics:
        """Of both sets of rows. Columns that only one of them knows are left out: half a column's rows say nothing."""
        both = [name for name in self.columns if name in other.columns]
        return Statistics({name: self.columns[name] + other.columns[name] for name in both})

    def to_json(self) -> str:
        """Equal statistics give the same text."""
        return json.dumps({name: column_to_json(each) for name, each in sorted(self.columns.items())}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Statistics:
        """What `to_json` wrote."""
        return cls({name: column_from_json(found) for name, found in json.loads(text).items()})


def column_to_json(column: ColumnStatistics) -> dict[str, Any]:
    """Plain values."""
    return {
        "kind": column.kind,
        "num_rows": column.num_rows,
        "num_missing": column.num_missing,
        "minimum": column.minimum,
        "maximum": column.maximum,
        "moments": column.moments.to_json() if column.moments else None,
        "log_moments": column.log_moments.to_json() if column.log_moments else None,
        "quantiles": column.quantiles.to_json() if column.quantiles else None,
        "values": [column.values.counts, column.values.complete] if column.values else None,
    }


def column_from_json(found: Mapping[str, Any]) -> ColumnStatistics:
    """What `column_to_json` gave, also by way of a JSON text."""
    values = found["values"]
    return ColumnStatistics(
        kind=found["kind"],
        num_rows=found["num_rows"],
        num_missing=found["num_missing"],
        minimum=found["minimum"],
        maximum=found["maximum"],
        moments=Moments.from_json(found["moments"]) if found["moments"] else None,
        log_moments=Moments.from_json(found["log_moments"]) if found["log_moments"] else None,
        quantiles=Sketch.from_json(found["quantiles"]) if found["quantiles"] is not None else None,
        values=ValueCounts(_pairs(values[0]), values[1]) if values is not None else None,
    )


def _sum(one: Any, other: Any) -> Any:
    return None if one is None or other is None else one + other


def _pairs(found: Iterable[Iterable[Any]]) -> tuple[Any, ...]:
    return tuple(tuple(pair) for pair in found)
