"""Ranges: of numbers, dates and timestamps, with one end open or none."""

from __future__ import annotations

import math
from datetime import date, datetime

from millrace.config.moments import moment
from millrace.contracts.types import FLOATS, INTEGERS

End = float | int | date | datetime | None
"""One end of a range; None is open. A timestamp without a zone is UTC's, a date among timestamps its midnight in UTC."""


def check_range(kind: str, low: End, high: End) -> None:
    """Raises ValueError where `low` and `high` are no range for a column of type `kind`."""
    ends = [end for end in (low, high) if end is not None]
    if kind not in (*INTEGERS, *FLOATS, "date", "timestamp"):
        raise ValueError(f"range goes with a number, date or timestamp, not {kind}")
    legal = {"date": (date,), "timestamp": (date, datetime)}.get(kind, (int, float))
    strange = next((end for end in ends if type(end) not in legal), None)
    if strange is not None:
        raise ValueError(f"range of a {kind} has ends of its type, and {strange} is none")
    if not ends:
        raise ValueError("range has at least one end")
    places = [_place(end) for end in ends]
    if not -math.inf < places[0] <= places[-1] < math.inf:
        what = "a smaller to a larger number" if kind in (*INTEGERS, *FLOATS) else f"an earlier to a later {kind}"
        raise ValueError(f"range goes from {what}, not from {low} to {high}")


def range_condition(column: str, kind: str, low: End, high: End) -> str:
    """SQL that is true for a value in the range; NaN, which Spark takes for larger than all numbers, is in none."""
    if low is not None and high is not None:
        return f"{column} BETWEEN {_literal(kind, low)} AND {_literal(kind, high)}"
    if high is not None:
        return f"{column} <= {_literal(kind, high)}"
    assert low is not None
    at_least = f"{column} >= {_literal(kind, low)}"
    return f"{at_least} AND NOT isnan({column})" if kind in FLOATS else at_least


def _literal(kind: str, end: float | date) -> str:
    if kind == "timestamp" and isinstance(end, date):
        return f"TIMESTAMP'{moment(end).strftime('%Y-%m-%d %H:%M:%S.%f')}Z'"
    return f"DATE'{end.isoformat()}'" if isinstance(end, date) else repr(end)


def _place(end: float | date) -> float:
    return moment(end).timestamp() if isinstance(end, date) else end
