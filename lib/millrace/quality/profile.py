"""What a version of a table looks like, column by column: counts, range, moments, quantiles, values. Profiles add up.

A profile of some rows and one of others give that of both, exactly: whatever the partitions, the profile is the same. So a night
adds its rows' profile to the one that stands. Pure but for Arrow; Spark's part is `profiling.py`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from millrace.contracts.types import FLOATS, INTEGERS
from millrace.quality import bins, sums

MAX_VALUES = 1000
"""Distinct values that are counted one by one; of a column with more, none is."""
MAX_VALUE_CHARACTERS = 200
"""A column with a longer text is no column of values."""
NUM_HASHES = 1024
"""The smallest hashes that are kept, from which the number of distinct values is estimated (Bar-Yossef et al., 2002): exact below
this number, within about 3 % above."""
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
NUM_TOP = 20
TIMES = ("date", "timestamp")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Bound = int | float | str


@dataclass(frozen=True)
class ColumnProfile:
    """One column. A text's or a binary's numbers are its lengths (characters, bytes); a date's are days and a timestamp's
    microseconds since 1970; a NaN or an infinity is counted and is no number."""

    type: str
    num_rows: int = 0
    num_nulls: int = 0
    num_nans: int = 0
    num_infinite: int = 0
    low: Bound | None = None
    high: Bound | None = None
    """The smallest and the largest value; of texts the first 200 characters. None of binary and nested types."""
    total: int = 0
    squares: int = 0
    """Exact sums of the numbers, in the units of `sums`."""
    bins: Mapping[int, int] | None = None
    """Bin -> numbers in it; None of a type without numbers."""
    values: Mapping[str, int] | None = None
    """Value as text -> rows; None where there are too many or too long ones, or the type has none to list."""
    hashes: tuple[int, ...] | None = None
    """The smallest hashes of values; None of nested types."""

    @property
    def bits(self) -> int:
        """Bits of the fraction that `bins` keep."""
        return bins.TIME_BITS if self.type in TIMES else bins.BITS

    @property
    def num_numbers(self) -> int:
        """Rows with a finite number, or a length."""
        return sum((self.bins or {}).values())

    @property
    def num_distinct(self) -> int | None:
        """Distinct values, NULL aside; an estimate from NUM_HASHES on."""
        if self.values is not None:
            return len(self.values)
        if self.hashes is None or len(self.hashes) < NUM_HASHES:
            return None if self.hashes is None else len(self.hashes)
        return round((NUM_HASHES - 1) * 2**64 / self.hashes[-1])

    @property
    def mean(self) -> float | None:
        """Of the numbers."""
        return sums.mean_of(self.total, self.num_numbers)

    @property
    def stddev(self) -> float | None:
        """Of the numbers, with n - 1."""
        return sums.deviation_of(self.total, self.squares, self.num_numbers)

    def quantile(self, share: float) -> float | None:
        """The number that has `share` of the numbers at or below it, within 1/128 of its size (days and microseconds: 1/8192)."""
        if not self.bins:
            return None
        found = bins.quantile(self.bins, share, whole=self.type not in FLOATS, bits=self.bits)
        if isinstance(self.low, str) or self.low is None or isinstance(self.high, str) or self.high is None:
            return found
        return float(min(max(found, self.low), self.high))

    def top(self, count: int = NUM_TOP) -> list[tuple[str, int]]:
        """The most frequent values, then by code point."""
        return sorted((self.values or {}).items(), key=lambda item: (-item[1], item[0]))[:count]


@dataclass(frozen=True)
class Profile:
    """The columns of some rows."""

    columns: Mapping[str, ColumnProfile]

    def to_json(self) -> str:
        """As text, the same for equal profiles."""
        columns = {name: _plain(column) for name, column in self.columns.items()}
        return json.dumps(columns, ensure_ascii=True, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Profile:
        """What `to_json` has written."""
        return cls({name: _from_plain(fields) for name, fields in json.loads(text).items()})


def empty_column(kind: str) -> ColumnProfile:
    """The profile of no rows of a type (Spark's simple name)."""
    is_number = kind in (*INTEGERS, *FLOATS, *TIMES, "string", "binary")
    lists_values = kind in (*INTEGERS, "string", "boolean", "date")
    return ColumnProfile(
        kind,
        bins={} if is_number else None,
        values={} if lists_values else None,
        hashes=() if is_number or kind == "boolean" else None,
    )


def merge(first: Profile, second: Profile) -> Profile:
    """The profile of both profiles' rows. A column that one of them does not have is NULL there, as it is in the table."""
    rows = [max((column.num_rows for column in each.columns.values()), default=0) for each in (first, second)]
    merged = {}
    for name in [*first.columns, *(name for name in second.columns if name not in first.columns)]:
        kind = (first.columns.get(name) or second.columns[name]).type
        pair = []
        for each, num_rows in zip((first, second), rows, strict=True):
            column = each.columns.get(name)
            absent = ColumnProfile(**{**empty_column(kind).__dict__, "num_rows": num_rows, "num_nulls": num_rows})
            pair.append(absent if column is None else column)
        merged[name] = merge_columns(*pair)
    return Profile(merged)


def merge_columns(first: ColumnProfile, second: ColumnProfile) -> ColumnProfile:
    """The profile of one column over both profiles' rows."""
    assert first.type == second.type
    lows = [each.low for each in (first, second) if each.low is not None]
    highs = [each.high for each in (first, second) if each.high is not None]
    return ColumnProfile(
        first.type,
        first.num_rows + second.num_rows,
        first.num_nulls + second.num_nulls,
        first.num_nans + second.num_nans,
        first.num_infinite + second.num_infinite,
        min(lows, default=None),
        max(highs, default=None),
        first.total + second.total,
        first.squares + second.squares,
        None if first.bins is None or second.bins is None else _added(first.bins, second.bins),
        _values(first.values, second.values),
        None if first.hashes is None or second.hashes is None else smallest({*first.hashes, *second.hashes}),
    )


def smallest(hashes: set[int]) -> tuple[int, ...]:
    """The NUM_HASHES smallest, in order."""
    return tuple(sorted(hashes)[:NUM_HASHES])


def as_rows(profile: Profile) -> Iterator[dict[str, Any]]:
    """One row per column and statistic, as metrics/profiles has them: column, statistic, value, text."""
    for name, column in profile.columns.items():
        for statistic, value, text in _statistics(column):
            yield {"column": name, "statistic": statistic, "value": None if value is None else float(value), "text": text}


def _statistics(column: ColumnProfile) -> Iterator[tuple[str, float | None, str | None]]:
    for name in ("num_rows", "num_nulls", "num_nans", "num_infinite"):
        yield name, getattr(column, name), None
    if column.num_distinct is not None:
        yield "num_distinct", column.num_distinct, None
    for name, bound in (("min", column.low), ("max", column.high)):
        if bound is not None:
            yield name, None if isinstance(bound, str) else bound, _bound_text(column.type, bound)
    about = "length_" if column.type in ("string", "binary") else ""
    numbers = {"mean": column.mean, "stddev": column.stddev}
    numbers |= {f"quantile_{share:g}": column.quantile(share) for share in QUANTILES}
    yield from ((f"{about}{name}", number, None) for name, number in numbers.items() if number is not None)
    yield from ((f"top_{rank}", count, value) for rank, (value, count) in enumerate(column.top(), 1))


def _bound_text(kind: str, bound: Bound) -> str | None:
    try:
        if kind == "date":
            return (date(1970, 1, 1) + timedelta(days=int(bound))).isoformat()
        if kind == "timestamp":
            return (_EPOCH + timedelta(microseconds=int(bound))).isoformat()
    except OverflowError:  # a year that Python has no date for
        return None
    return bound if isinstance(bound, str) else None


def _added(first: Mapping[int, int], second: Mapping[int, int]) -> dict[int, int]:
    return dict(sorted((Counter(first) + Counter(second)).items()))


def _values(first: Mapping[str, int] | None, second: Mapping[str, int] | None) -> dict[str, int] | None:
    if first is None or second is None:
        return None
    both = Counter(first) + Counter(second)
    return dict(sorted(both.items())) if len(both) <= MAX_VALUES else None


def _plain(column: ColumnProfile) -> dict[str, Any]:
    fields = asdict(column)
    pairs: Sequence[tuple[int, int]] = sorted((column.bins or {}).items())
    return {
        **fields,
        "total": hex(column.total),
        "squares": hex(column.squares),
        "bins": None if column.bins is None else [list(pair) for pair in pairs],
        "values": None if column.values is None else dict(sorted(column.values.items())),
    }


def _from_plain(fields: Mapping[str, Any]) -> ColumnProfile:
    return ColumnProfile(
        **{
            **fields,
            "total": int(fields["total"], 16),
            "squares": int(fields["squares"], 16),
            "bins": None if fields["bins"] is None else {int(number): int(count) for number, count in fields["bins"]},
            "hashes": None if fields["hashes"] is None else tuple(fields["hashes"]),
        }
    )
