"""Fitted features as a graph of Keras' own layers and operations: silver's raw columns in, the two vectors out.

The twin of `transforms/encoding.py`: ids are equal, numbers within 1e-6 * max(1, |x|). Arithmetic is in float64 up to the one
cast to float32. Operations of `keras.ops`, unlike layers, never cast their input, and are saved as what they are: the graph
reloads in safe mode and without custom objects. B is the number of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from millrace.contracts.features import (
    CROSS_BINS,
    CROSS_KEY,
    FIRST_YEAR,
    PERIODS,
    YEARS,
    Block,
    CrossBlock,
    DatetimeBlock,
    FittedFeatures,
    HashBlock,
    NumberBlock,
    VocabularyBlock,
)
from millrace.contracts.inputs import GREATEST_REAL, NULL_INTEGER, NULL_TEXT, UNKNOWN_INTEGER, UNKNOWN_TEXT

_GREATEST = float(np.finfo(np.float32).max)
_DAY = 86_400_000_000

Tensor = Any
"""A symbolic tensor of Keras."""


@dataclass(frozen=True)
class FeatureGraph:
    """`inputs`: by raw column, (B,) each. `features`: (B, D) float32, `ids`: (B, K) int32; None where there are none."""

    inputs: Mapping[str, Tensor]
    features: Tensor | None
    ids: Tensor | None


def feature_graph(fitted: FittedFeatures) -> FeatureGraph:
    """Inputs and outputs to put before a trained model: `keras.Model(graph.inputs, trained(graph.features))`.

    NULL is NaN for floats, NULL_TEXT for texts, and NULL_INTEGER for all the others, which are int64: booleans 0 and 1, dates
    days and timestamps microseconds since 1970-01-01 (UTC).
    """
    inputs = {column.name: keras.Input((), dtype=column.dtype, name=column.name) for column in fitted.inputs}
    features: list[Tensor] = []
    ids: list[Tensor] = []
    for number, block in enumerate(fitted.blocks):
        if isinstance(block, NumberBlock):
            features.append(_numbers(inputs, block))
        elif isinstance(block, DatetimeBlock):
            features.append(_parts(inputs[block.columns[0]], block))
        else:
            found = _category_ids(inputs, block, f"block_{number}")
            if block.output == "ids":
                ids.append(ops.expand_dims(ops.cast(found, "int32"), -1))
            elif block.width:
                features.append(ops.one_hot(_places(found, block), block.width, dtype="float32"))
    return FeatureGraph(inputs, _joined(features), _joined(ids))


def _joined(parts: list[Tensor]) -> Tensor | None:
    if not parts:
        return None
    return ops.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]


def _numbers(inputs: Mapping[str, Tensor], block: NumberBlock) -> Tensor:
    x = ops.stack([_real(inputs[column]) for column in block.columns], axis=-1)  # (B, n) float64
    # False for NaN. Never negated: TensorFlow's optimiser makes `>` of `not <=`, which NaN is not either. GREATEST_REAL stands in
    # a list, as a saved config keeps the type of arrays, but not of single numbers.
    present = ops.less_equal(ops.absolute(x), np.array([GREATEST_REAL]))
    x = ops.where(present, x, np.array([fill or 0.0 for fill in block.fill]))
    if block.log:
        x = ops.multiply(ops.sign(x), ops.log1p(ops.absolute(x)))
    x = ops.divide(ops.subtract(x, np.array(block.offset)), np.array(block.scale))
    x = ops.cast(ops.clip(ops.add(x, np.array(block.shift)), -_GREATEST, _GREATEST), "float32")
    if None in block.fill:  # last: an optimised graph loses NaN on its way through clip
        has_fill = np.array([fill is not None for fill in block.fill])
        x = ops.where(ops.logical_or(present, has_fill), x, np.array(np.nan, np.float32))
    if not block.indicator:
        return x
    return ops.concatenate([x, ops.subtract(np.array([1.0], np.float32), ops.cast(present, "float32"))], axis=-1)


def _real(x: Tensor) -> Tensor:
    """(B,) float64, NaN where missing."""
    if x.dtype != "int64":
        return ops.cast(x, "float64")
    # NaN cannot be written into a config's JSON as a plain number everywhere: an array can.
    return ops.where(ops.equal(x, NULL_INTEGER), np.array(np.nan), ops.cast(x, "float64"))


def _category_ids(inputs: Mapping[str, Tensor], block: VocabularyBlock | HashBlock | CrossBlock, name: str) -> Tensor:
    if isinstance(block, VocabularyBlock):
        return _vocabulary_ids(inputs[block.columns[0]], block, name)
    if isinstance(block, HashBlock):
        return _hash_ids(inputs[block.columns[0]], block.buckets, (block.seed, 0), name)
    last = len(block.columns) - 1
    for place, column in enumerate(block.columns):
        each = _hash_ids(inputs[column], CROSS_BINS - 1, (block.seed, place), f"{name}_column_{place}")
        if place == 0:
            ids = each
            continue
        pairs = ops.add(ops.multiply(ids, CROSS_BINS), each)
        buckets = block.buckets if place == last else CROSS_BINS
        ids = keras.layers.Hashing(buckets, salt=(block.seed, CROSS_KEY + place), name=f"{name}_pair_{place}")(pairs)
    return ids


def _vocabulary_ids(x: Tensor, block: VocabularyBlock, name: str) -> Tensor:
    """(B,) int64: 0 missing, 1 unknown, 2 and up the vocabulary."""
    is_text = x.dtype == "string"
    if is_text:
        values = list(block.texts or (UNKNOWN_TEXT + "_",))
        lookup = keras.layers.StringLookup(vocabulary=values, mask_token=NULL_TEXT, oov_token=UNKNOWN_TEXT, name=name)
    else:
        known = list(block.integers or (UNKNOWN_INTEGER + 1,))
        lookup = keras.layers.IntegerLookup(vocabulary=known, mask_token=NULL_INTEGER, oov_token=UNKNOWN_INTEGER, name=name)
    ids = lookup(x)
    # A lookup must know a value; where the train split has none, the one made up here is as unknown as all others.
    return ids if block.values else ops.minimum(ids, 1)


def _hash_ids(x: Tensor, buckets: int, key: tuple[int, int], name: str) -> Tensor:
    """(B,) int64: 0 missing, 1 to buckets."""
    null = NULL_TEXT if x.dtype == "string" else NULL_INTEGER
    return keras.layers.Hashing(buckets + 1, mask_value=null, salt=key, name=name)(x)


def _places(ids: Tensor, block: Block) -> Tensor:
    """The place of each id's 1, -1 where all are 0."""
    if isinstance(block, VocabularyBlock):
        others = ops.where(ops.equal(ids, 1), block.unknown_place, block.missing_place)
        return ops.where(ops.greater_equal(ids, 2), ops.subtract(ids, 2), ops.cast(others, "int64"))
    return ops.subtract(ids, 1) if isinstance(block, HashBlock) else ids


def _parts(utc: Tensor, block: DatetimeBlock) -> Tensor:
    """(B, width) float32."""
    missing = ops.equal(utc, NULL_INTEGER)
    moments = _local(utc, block)
    days = moments if block.unit == "day" else ops.floor_divide(moments, _DAY)
    sides = []
    for part in block.parts:
        value = ops.cast(_hour(moments) if part == "hour" else _part_of_day(part, days), "float64")
        if part == "year":
            sides.append(ops.divide(ops.subtract(value, np.array(float(FIRST_YEAR))), np.array(float(YEARS))))
        else:
            angle = ops.multiply(value, np.array(2 * np.pi / PERIODS[part]))
            sides += [ops.sin(angle), ops.cos(angle)]
    return ops.cast(ops.stack([ops.where(missing, np.array(0.0), side) for side in sides], axis=-1), "float32")


def _local(utc: Tensor, block: DatetimeBlock) -> Tensor:
    """(B,) int64: what the zone's clock shows, as if that were UTC."""
    first = np.array(block.offsets[0], np.int64)
    if not block.changes:
        return ops.add(utc, first) if first else utc
    has_come = ops.greater_equal(ops.expand_dims(utc, -1), np.array(block.changes, np.int64))  # (B, changes)
    steps = ops.where(has_come, np.diff(np.array(block.offsets, np.int64)), np.array(0, np.int64))
    return ops.add(ops.add(utc, first), ops.sum(steps, axis=-1))


def _hour(moments: Tensor) -> Tensor:
    """float64, with minutes as a fraction."""
    rest = ops.subtract(moments, ops.multiply(ops.floor_divide(moments, _DAY), _DAY))
    return ops.divide(ops.cast(rest, "float64"), np.array(3_600_000_000.0))


def _part_of_day(part: str, days: Tensor) -> Tensor:
    """See `transforms/encoding.py`. int64, all but the year from 0."""
    if part == "weekday":
        return ops.mod(ops.add(days, 3), 7)
    since_era_0 = ops.add(days, 719_468)
    era_day = ops.mod(since_era_0, 146_097)
    leaps = ops.subtract(ops.floor_divide(era_day, 36_524), ops.floor_divide(era_day, 1460))
    year = ops.floor_divide(ops.subtract(ops.add(era_day, leaps), ops.floor_divide(era_day, 146_096)), 365)
    year_days = ops.subtract(ops.add(ops.multiply(year, 365), ops.floor_divide(year, 4)), ops.floor_divide(year, 100))
    year_day = ops.subtract(era_day, year_days)
    month = ops.floor_divide(ops.add(ops.multiply(year_day, 5), 2), 153)  # from March
    if part == "year":
        eras = ops.multiply(ops.floor_divide(since_era_0, 146_097), 400)
        return ops.add(ops.add(eras, year), ops.floor_divide(month, 10))
    if part == "month":
        return ops.mod(ops.add(month, 2), 12)
    return ops.subtract(year_day, ops.floor_divide(ops.add(ops.multiply(month, 153), 2), 5))
