"""What a column's values are to an encoder, the same for statistics, Spark and the exported graph.

A column is one of three kinds. `text`: strings. `integer`: booleans (0, 1), whole numbers, dates (days since 1970-01-01) and
timestamps (microseconds since then, UTC), all as int64. `real`: floats, as float64. A graph has no NULL, so a value stands for
it: NULL_TEXT, NULL_INTEGER or NaN. These values mean NULL everywhere, in Spark too, so that both sides agree on every row.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.contracts.types import FLOATS, INTEGERS
from millrace.errors import ContractError

NULL_TEXT = "\\N"
"""Two characters, as PostgreSQL and Hive write NULL; one NUL character would be cut off by NumPy's texts."""
NULL_INTEGER = -(2**63)
GREATEST_REAL = 1e300
"""Numbers beyond it are missing, as infinities are. TensorFlow may divide by a constant by multiplying with its reciprocal, and
takes the reciprocals of greater ones for 0."""
UNKNOWN_TEXT = "\\O"
"""A graph's vocabulary keeps this text for itself, so it is never a known value; nor is UNKNOWN_INTEGER."""
UNKNOWN_INTEGER = NULL_INTEGER + 1
Kind = Literal["text", "integer", "real"]
InputType = Literal["string", "int64", "float32", "float64"]

Reals = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_INPUTS: dict[str, InputType] = {
    "string": "string",
    "float": "float32",
    "double": "float64",
    **dict.fromkeys(("boolean", *INTEGERS, "date", "timestamp"), "int64"),
}


def input_type(column: str, type_name: str) -> InputType:
    """The type of a graph's input for a contract's type. Raises ContractError for types that no encoder takes."""
    if type_name not in _INPUTS:
        raise ContractError(
            "features",
            expected=f"a text, number, boolean, date or timestamp in column {column}",
            found=f"a {type_name}",
            remedy="Take the column out of features, or cast it.",
        )
    return _INPUTS[type_name]


def kind_of(type_name: str) -> Kind:
    """The kind of a contract's type."""
    return "text" if type_name == "string" else "real" if type_name in FLOATS else "integer"


def kind_of_arrow(data_type: pa.DataType) -> Kind:
    """The kind of an Arrow type."""
    if pa.types.is_string(data_type) or pa.types.is_large_string(data_type):
        return "text"
    return "real" if pa.types.is_floating(data_type) else "integer"


def as_texts(values: pa.Array) -> pa.Array:
    """Arrow strings, NULL where the text is NULL_TEXT."""
    texts = values.cast(pa.string()) if not pa.types.is_string(values.type) else values
    is_null = pc.equal(texts, NULL_TEXT)
    return pc.if_else(is_null, pa.scalar(None, pa.string()), texts) if pc.any(is_null).as_py() else texts


def as_integers(values: pa.Array) -> Integers:
    """(rows,) int64, NULL_INTEGER where NULL."""
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp("us", tz=values.type.tz)).cast(pa.int64())
    elif pa.types.is_date(values.type):
        values = values.cast(pa.date32()).cast(pa.int32())
    whole = values if pa.types.is_int64(values.type) else values.cast(pa.int64())
    numbers: Integers = (pc.fill_null(whole, NULL_INTEGER) if whole.null_count else whole).to_numpy(zero_copy_only=False)
    return numbers


def as_reals(values: pa.Array) -> Reals:
    """(rows,) float64, NaN where NULL or beyond GREATEST_REAL. Integers beyond 2^53 are rounded to the nearest float."""
    if pa.types.is_floating(values.type):
        numbers: Reals = values.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
        finite = np.abs(numbers) <= GREATEST_REAL
        return numbers if finite.all() else np.where(finite, numbers, np.nan)
    whole = as_integers(values)
    missing = whole == NULL_INTEGER
    return np.where(missing, np.nan, whole.astype(np.float64)) if missing.any() else whole.astype(np.float64)


def as_input(values: pa.Array, dtype: InputType) -> npt.NDArray[Any]:
    """(rows,) as a graph's input of this type takes them: NULL becomes the value that stands for it.

    Texts are Python's str; all are their bytes where one of them is no UTF-8, which Spark's strings and TensorFlow's may be.
    """
    if dtype == "string":
        texts = pc.fill_null(values, NULL_TEXT)
        try:
            return np.array(texts.to_pylist(), dtype=object)
        except UnicodeDecodeError:
            return np.array(texts.cast(pa.binary()).to_pylist(), dtype=object)
    if dtype == "int64":
        return as_integers(values)
    numbers: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    return numbers
