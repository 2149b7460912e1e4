"""Windows over time series: input_length rows of the inputs, and the target in the horizon rows that follow.

A window is dropped, as a tagged row that is counted, by the first of these rules that it breaks:

    window_straddles_splits       its rows are of more than one split, so that one would learn from another
    window_has_a_gap              two neighbours are not every_seconds apart (with every_seconds)
    window_has_a_repeated_time    two neighbours have the same time, or one has none (without every_seconds)
    window_has_a_missing_value    an input or the target is NULL or no finite number
    series_is_too_short           the whole series has fewer rows than a window
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numpy.lib.stride_tricks import sliding_window_view
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import DateType, IntegralType, StructType, TimestampNTZType, TimestampType

from millrace.config.tokens import WindowsConfig
from millrace.errors import ContractError
from millrace.transforms.identity import python_row_id
from millrace.transforms.runs import Key, runs

STRADDLES, GAP, REPEATED, MISSING, SHORT = RULES = (
    "window_straddles_splits",
    "window_has_a_gap",
    "window_has_a_repeated_time",
    "window_has_a_missing_value",
    "series_is_too_short",
)
REASONS = {
    STRADDLES: "its rows are of more than one split",
    GAP: "two of its rows are not every_seconds apart",
    REPEATED: "two of its rows have the same time, or one has none",
    MISSING: "an input or the target is NULL or no finite number",
    SHORT: "the series has fewer rows than a window",
}
_BYTES_AT_ONCE = 16 * 1024**2
_TAGS = StructType().add("_rule", "string").add("_reason", "string").add("_action", "string")

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Series:
    """The rows of one series in the order of their times. All arrays are (rows, ...)."""

    row_ids: Sequence[str]
    inputs: Floats
    """(rows, inputs); NaN where missing."""
    target: Floats
    """(rows,); NaN where missing."""
    is_regular: Bools
    """Whether a row lies as far behind the one before it as it must; what it says of the first row means nothing."""
    splits: Sequence[Any]


def first_broken(series: Series, config: WindowsConfig) -> list[str | None]:
    """The rule that each window breaks, None where it is kept; for windows from row 0, stride, 2 * stride, ..."""
    span = config.input_length + config.horizon
    starts = np.arange(0, len(series.row_ids) - span + 1, config.stride)

    def any_in(bad: Bools, first: int, last: int) -> Bools:
        """Whether a row from start + first up to start + last is bad, for every start."""
        sums = np.concatenate([[0], np.cumsum(bad)])
        return np.asarray(sums[starts + last] > sums[starts + first])

    changes = np.array([False] + [a != b for a, b in zip(series.splits, series.splits[1:], strict=False)], dtype=bool)
    broken = [
        (STRADDLES, any_in(changes[: len(series.row_ids)], 1, span)),
        (GAP if config.every_seconds else REPEATED, any_in(~series.is_regular, 1, span)),
        (
            MISSING,
            any_in(~np.isfinite(series.inputs).all(axis=1), 0, config.input_length)
            | any_in(~np.isfinite(series.target), config.input_length, span),
        ),
    ]
    rules: list[str | None] = [None] * len(starts)
    for name, which in reversed(broken):
        for number in np.flatnonzero(which):
            rules[number] = name
    return rules


def make_windows(rows: DataFrame, *, config: WindowsConfig) -> DataFrame:
    """One row per window: row_id, inputs, target, the columns of `by`, the time of the first row to predict, split, _night, tags.

    inputs is (input_length, inputs) and target (horizon,), float32 as bytes, NULL in a tagged window. split and _night come from
    `rows` where they are there: a window has the split of its rows, and the last night of one of them. Rows of one time are in
    the order of row_id. A series is held in memory as a whole. Raises ContractError where the time is no time.
    """
    kind = rows.schema[config.time].dataType
    if not isinstance(kind, IntegralType | DateType | TimestampType | TimestampNTZType):
        raise ContractError(
            "windows",
            expected="a time column of integers, dates or timestamps",
            found=f"{config.time} of type {kind.simpleString()}",
            remedy="Cast it in the contract.",
        )
    others = [name for name in ("split", "_night") if name in rows.columns]
    values = list(dict.fromkeys([*config.inputs, config.target]))
    unit = _units_per_second(kind)
    number = F.unix_micros(F.col(config.time).cast("timestamp")) if unit == 1_000_000 else F.col(config.time)
    number = F.unix_date(config.time).cast("bigint") * F.lit(86_400) if isinstance(kind, DateType) else number
    chosen = rows.select(
        *config.by,
        F.col(config.time).alias("_time"),
        number.cast("bigint").alias("_number"),
        "row_id",
        *others,
        *[F.col(name).cast("double").alias(f"_value_{name}") for name in values],
    )
    keys = list(config.by)
    together = chosen.repartition(*keys) if keys else chosen.repartition(1)
    ordered = together.sortWithinPartitions(*keys, "_number", "row_id")
    made = StructType().add("row_id", "string").add("inputs", "binary").add("target", "binary")
    schema = StructType([*made.fields, *[rows.schema[name] for name in (*config.by, config.time, *others)], *_TAGS.fields])
    arrow = to_arrow_schema(schema)

    def cut(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for key, table in _whole(batches, keys):
            yield from _windows_of(key, table, config, unit, arrow)

    return ordered.mapInArrow(cut, schema)


def _units_per_second(kind: object) -> int:
    return 1_000_000 if isinstance(kind, TimestampType | TimestampNTZType) else 1


def _whole(batches: Iterable[pa.RecordBatch], keys: Sequence[str]) -> Iterator[tuple[Key, pa.Table]]:
    """All rows of a key at once."""
    held: list[pa.RecordBatch] = []
    current: Key | None = None
    for key, part in runs(batches, keys):
        if held and key != current:
            yield current or (), pa.Table.from_batches(held)
            held = []
        current = key
        held.append(part)
    if held:
        yield current or (), pa.Table.from_batches(held)


def _series(table: pa.Table, config: WindowsConfig, unit: int) -> Series:
    def floats(name: str) -> Floats:
        with np.errstate(over="ignore"):  # too large for float32 is not finite, and so missing
            return np.asarray(table.column(f"_value_{name}").to_numpy()).astype(np.float32)

    times = table.column("_number")
    numbers = times.fill_null(0).to_numpy()
    steps = np.diff(numbers, prepend=numbers[:1])
    known = ~np.asarray(times.is_null().to_numpy())
    regular = steps > 0 if config.every_seconds is None else steps == round(config.every_seconds * unit)
    regular &= known & np.concatenate([[True], known[:-1]])
    return Series(
        row_ids=table.column("row_id").to_pylist(),
        inputs=np.stack([floats(name) for name in config.inputs], axis=1),
        target=floats(config.target),
        is_regular=regular,
        splits=table.column("split").to_pylist() if "split" in table.column_names else [None] * table.num_rows,
    )


def _windows_of(key: Key, table: pa.Table, config: WindowsConfig, unit: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    series = _series(table, config, unit)
    span = config.input_length + config.horizon
    rules = first_broken(series, config) if len(series.row_ids) >= span else [SHORT]
    span = min(span, len(series.row_ids))
    inputs = sliding_window_view(series.inputs, min(config.input_length, span), axis=0)  # (windows, inputs, input_length)
    targets = sliding_window_view(series.target, span)[:, config.input_length :]  # (windows, horizon)
    nights = table.column("_night").to_pylist() if "_night" in table.column_names else []
    times = table.column("_time")
    at_once = max(1, _BYTES_AT_ONCE // (4 * config.input_length * len(config.inputs)))
    for begin in range(0, len(rules), at_once):
        chosen = rules[begin : begin + at_once]
        starts = np.arange(begin, begin + len(chosen)) * config.stride
        columns: dict[str, Any] = {
            "row_id": [python_row_id([series.row_ids[at], config.input_length, config.horizon]) for at in starts],
            "inputs": [None if rule else inputs[at].T.tobytes() for at, rule in zip(starts, chosen, strict=True)],
            "target": [None if rule else targets[at].tobytes() for at, rule in zip(starts, chosen, strict=True)],
            **{name: [value] * len(chosen) for name, value in zip(config.by, key, strict=True)},
            config.time: times.take(pa.array(np.minimum(starts + config.input_length, len(series.row_ids) - 1))).combine_chunks(),
            "split": [series.splits[at + span - 1] for at in starts],
            "_night": [max(nights[at : at + span]) for at in starts] if nights else None,
            "_rule": chosen,
            "_reason": [REASONS[rule] if rule else None for rule in chosen],
            "_action": ["dropped" if rule else None for rule in chosen],
        }
        arrays = [_array(columns[field.name], field.type) for field in schema]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)
