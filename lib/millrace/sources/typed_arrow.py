"""Values that come with a type, matched to a contract's type. Which columns of a file may be is told by contracts.evolution."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

_FITS = {
    "integer": {"integer", "float", "string"},
    "float": {"integer", "float"},  # a float's text differs between versions
    "decimal": {"integer", "float", "string"},
    "string": {"integer", "float", "string", "binary", "boolean", "date", "timestamp"},
    "binary": {"string", "binary"},
    "boolean": {"boolean", "string"},
    "date": {"date", "timestamp", "string"},
    "timestamp": {"timestamp"},
    "null": {"integer", "float", "string", "binary", "boolean", "date", "timestamp", "nested"},
    "nested": {"nested"},
}
"""From which kind of type to which a value may go. Each cast is exact, or fails; only a double may lose digits to a float."""
_YEARS = (-62_135_596_800, 253_402_300_800)
"""Seconds from 1970-01-01 to the first moment of the year 1 and of the year 10000."""
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def fit(stored: pa.Array, wanted: pa.DataType) -> tuple[pa.Array, list[int]]:
    """A column in the contract's type, and the rows whose value is none of it, which are NULL there."""
    if stored.type == wanted and not types.is_temporal(wanted):
        return stored, []
    if types.is_dictionary(stored.type):
        return fit(stored.cast(stored.type.value_type), wanted)
    if _kind(wanted) not in _FITS.get(_kind(stored.type), set()):
        return pa.nulls(len(stored), wanted), _known(stored)
    try:
        return _cast(stored, wanted), []
    except pa.ArrowNotImplementedError:
        return pa.nulls(len(stored), wanted), _known(stored)
    except pa.ArrowInvalid:
        pass
    parts, unfit = [], []
    for row in range(len(stored)):
        try:
            # taken, not sliced: of a slice Arrow casts the neighbours' elements too
            parts.append(_cast(stored.take(pa.array([row])), wanted))
        except pa.ArrowInvalid:
            parts.append(pa.nulls(1, wanted))
            unfit.append(row)
    return pa.concat_arrays(parts), unfit


def _cast(stored: pa.Array, wanted: pa.DataType) -> pa.Array:
    if types.is_string(stored.type) and not types.is_string(wanted) and not types.is_binary(wanted):
        stored = pc.utf8_trim_whitespace(stored)
    if types.is_date(stored.type) and types.is_string(wanted):
        _refuse_strange_years(stored)
    narrows = types.is_float64(stored.type) and types.is_float32(wanted)
    # what is finer than a microsecond is cut off
    is_finer = types.is_timestamp(stored.type) and stored.type.unit == "ns" and types.is_timestamp(wanted)
    values = stored.cast(wanted, safe=not narrows and not is_finer)
    if narrows and pc.any(pc.and_(pc.is_inf(values), pc.is_finite(stored))).as_py():
        raise pa.ArrowInvalid("a double that no float holds")
    if types.is_date(wanted) or types.is_timestamp(wanted):
        _refuse_strange_years(values)
    return values


def _refuse_strange_years(stored: pa.Array) -> None:
    """SQL and Python have the years 1 to 9999 alone."""
    if types.is_date(stored.type):
        stored = stored.cast(pa.timestamp("s"), safe=False)
    first, end = (seconds * _PER_SECOND[stored.type.unit] for seconds in _YEARS)
    moments = stored.cast(pa.int64())
    if pc.any(pc.or_(pc.less(moments, first), pc.greater_equal(moments, end))).as_py():
        raise pa.ArrowInvalid("a date before the year 1 or after 9999")


def _known(stored: pa.Array) -> list[int]:
    return [row for row, valid in enumerate(stored.is_valid().to_pylist()) if valid]


def _kind(kind: pa.DataType) -> str:
    tests = {
        "null": types.is_null,
        "boolean": types.is_boolean,
        "integer": types.is_integer,
        "float": types.is_floating,
        "decimal": types.is_decimal,
        "date": types.is_date,
        "timestamp": types.is_timestamp,
        "nested": types.is_nested,
    }
    found = next((name for name, test in tests.items() if test(kind)), None)
    if found is not None:
        return found
    if types.is_string(kind) or types.is_large_string(kind):
        return "string"
    is_bytes = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    return "binary" if is_bytes else "other"
