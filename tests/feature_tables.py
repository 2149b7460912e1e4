"""Tables of awkward values for every encoder, and the features that take them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st
from pydantic import TypeAdapter

from millrace.config.models import FeatureConfig
from millrace.contracts.features import FittedFeatures
from millrace.contracts.inputs import NULL_INTEGER, NULL_TEXT, UNKNOWN_INTEGER, UNKNOWN_TEXT, kind_of
from millrace.contracts.table import TableContract
from millrace.fit.accumulate import statistics_of
from millrace.fit.features import fit_features, needs_of
from millrace.fit.statistics import Statistics, merge_needs
from tests.factories import make_contract

TYPES = {
    "x": "double",
    "y": "float",
    "n": "bigint",
    "small": "tinyint",
    "flag": "boolean",
    "text": "string",
    "other": "string",
    "day": "date",
    "moment": "timestamp",
}

TEXTS = [
    "a",
    "",
    " a",
    "a ",
    "\n",
    "a\nb",
    "é",
    "e\u0301",
    "😀",
    "👩‍👩‍👧",
    "日本語",
    "\x00",
    "a\x00",
    "[UNK]",
    "\ufffd",
    "\U0010ffff",
    "\\",
]
TEXTS += [NULL_TEXT, UNKNOWN_TEXT, "1", "-1", "true", "12345678", "x" * 7, "x" * 8, "x" * 9, "long " * 2000]
SURROGATES = ["\ud800", "a\udfff", "\ud83d\ude00"]
"""Spark holds them as three bytes each, which are no UTF-8."""
REALS = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    1e9,
    1e9 + 1e-3,
    1e300,
    -1e300,
    5e-324,
    float("nan"),
    float("inf"),
    float("-inf"),
    1.7976931348623157e308,
]
WHOLE = [0, 1, -1, 2**53 + 1, 2**63 - 1, NULL_INTEGER, UNKNOWN_INTEGER, UNKNOWN_INTEGER + 1, 10**18]

DAYS = [date(1, 1, 1), date(9999, 12, 31), date(1969, 12, 31), date(1970, 1, 1), date(2024, 2, 29), date(1900, 3, 1)]
MOMENTS = [
    datetime(1, 1, 3, tzinfo=UTC),
    datetime(9999, 12, 30, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2026, 3, 8, 6, 59, 59, tzinfo=UTC),  # the last second before New York's clocks go forward
    datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 11, 1, 5, 30, tzinfo=UTC),  # 1:30 there, for the first time
    datetime(2026, 11, 1, 6, 30, tzinfo=UTC),  # and again
    datetime(1883, 11, 18, 17, 0, tzinfo=UTC),  # when railway time came
]

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "x": st.sampled_from(REALS) | st.floats(),
    "y": st.floats(width=32),
    "n": st.sampled_from(WHOLE) | st.integers(NULL_INTEGER, 2**63 - 1),
    "small": st.integers(-128, 127),
    "flag": st.booleans(),
    "text": st.sampled_from(TEXTS) | st.text(st.characters(codec="utf-8"), max_size=20),
    "other": st.sampled_from(["a", "b", ""]),
    "day": st.dates(),
    "moment": st.datetimes(timezones=st.just(UTC)),
}
rows = st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()})
tables = st.lists(rows, min_size=1, max_size=30)
_WILD = VALUES["text"] | st.sampled_from(SURROGATES) | st.text(st.characters(), max_size=20)
wild_tables = st.lists(
    st.fixed_dictionaries({name: st.none() | values for name, values in {**VALUES, "text": _WILD}.items()}),
    min_size=1,
    max_size=30,
)
"""Also with texts that are no UTF-8."""

NUMBERS = ["x", "y", "n", "small", "flag"]
CATEGORIES = ["text", "other", "n", "small", "flag", "day", "moment"]
FEATURES = {
    "number": {"encode": "number", "columns": NUMBERS, "impute": -7.5, "indicator": True},
    "number, NaN kept": {"encode": "number", "columns": NUMBERS, "impute": "none", "indicator": True},
    "zscore": {"encode": "zscore", "columns": NUMBERS},
    "minmax": {"encode": "minmax", "columns": NUMBERS, "impute": "mode", "range": [-1, 1]},
    "robust": {"encode": "robust", "columns": NUMBERS, "indicator": True},
    "log": {"encode": "log", "columns": NUMBERS},
    "log only": {"encode": "log", "columns": NUMBERS, "then": "none", "impute": "mean"},
    "index": {"encode": "index", "columns": CATEGORIES, "min_count": 2},
    "one_hot": {"encode": "one_hot", "columns": CATEGORIES},
    "one_hot with slots": {"encode": "one_hot", "columns": CATEGORIES, "unknown": "slot", "missing": "zeros", "max_size": 3},
    "hash": {"encode": "hash", "columns": CATEGORIES, "buckets": 5, "seed": 3},
    "hash ids": {"encode": "hash", "columns": CATEGORIES, "buckets": 1_000_003, "output": "ids"},
    "cross": {"encode": "cross", "columns": ["text", "n"], "buckets": 7},
    "cross of many": {"encode": "cross", "columns": CATEGORIES, "buckets": 1_000_003, "output": "ids", "seed": 9},
    "datetime of days": {"encode": "datetime", "columns": ["day", "moment"], "parts": ["weekday", "day", "month", "year"]},
    "datetime": {"encode": "datetime", "column": "moment", "parts": ["hour", "month"]},
    "datetime of a zone": {
        "encode": "datetime",
        "column": "moment",
        "parts": ["year", "hour", "weekday", "day", "month"],
        "time_zone": "America/New_York",
    },
    "datetime of a zone without changes": {
        "encode": "datetime",
        "column": "moment",
        "parts": ["hour", "year"],
        "time_zone": "Etc/GMT-14",
    },
}

_ADAPTER: TypeAdapter[Any] = TypeAdapter(FeatureConfig)


def feature(**options: Any) -> Any:
    """One line of the features section."""
    return _ADAPTER.validate_python(options)


def contract_of(types: dict[str, str] | None = None) -> TableContract:
    """A contract of nullable columns of these types."""
    return make_contract({name: {"type": kind} for name, kind in (types or TYPES).items()})


def awkward() -> list[dict[str, Any]]:
    """Rows with every awkward text, float, whole number and time, and NULLs."""
    texts = [*TEXTS, *SURROGATES]
    num_rows = max(map(len, (texts, REALS, WHOLE))) + 1
    found = []
    for row in range(num_rows):
        text = texts[row] if row < len(texts) else None
        found.append({"text": text, "other": "ab"[row % 2], "x": REALS[row % len(REALS)]})
        found[-1] |= {"n": WHOLE[row % len(WHOLE)], "small": row - 9, "flag": row % 2 == 0, "y": row / 7}
        found[-1] |= {"day": [*DAYS, None][row % 7], "moment": [*MOMENTS, None][row % 9]}
    return [*found, *found[::2], dict.fromkeys(TYPES)]


def batch_of(found: Sequence[dict[str, Any]], contract: TableContract | None = None) -> pa.RecordBatch:
    """Rows as an Arrow batch of the contract's columns; a lone surrogate is three bytes, as Spark has it."""
    schema = (contract or contract_of()).arrow_schema
    arrays = []
    for field in schema:
        values = [row.get(field.name) for row in found]
        if field.type != pa.string():
            arrays.append(pa.array(values, field.type))
            continue
        data = pa.array([None if text is None else text.encode("utf-8", "surrogatepass") for text in values], pa.binary())
        arrays.append(pa.Array.from_buffers(pa.string(), len(data), data.buffers(), data.null_count))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def statistics_for(
    features: Sequence[Any], batches: Sequence[pa.RecordBatch], contract: TableContract | None = None
) -> Statistics:
    """What the features need, of rows in memory."""
    kinds = {name: kind_of(column.type) for name, column in (contract or contract_of()).columns.items()}
    return statistics_of(batches, merge_needs(needs_of(features)), kinds)


def fitted_on(features: Sequence[Any], batch: pa.RecordBatch, contract: TableContract | None = None) -> FittedFeatures:
    """Fitted on all rows of a batch."""
    return fit_features(features, statistics_for(features, [batch], contract), contract or contract_of())
