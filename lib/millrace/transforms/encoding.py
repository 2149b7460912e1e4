"""Fitted features applied to Arrow batches with NumPy, without Spark: the twin of the exported graph.

B is the number of rows, D the width of `features`, K the number of ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

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
from millrace.contracts.inputs import NULL_INTEGER, as_input, as_integers, as_reals, as_texts, kind_of_arrow
from millrace.transforms.siphash import siphash

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]
Wide = npt.NDArray[np.int64]

_GREATEST = float(np.finfo(np.float32).max)
DAY = 86_400_000_000
"""Microseconds."""


def encode_batch(batch: pa.RecordBatch, fitted: FittedFeatures) -> tuple[Floats, Ids]:
    """features (B, D) float32 and ids (B, K) int32 of a batch that has the raw columns."""
    features = np.zeros((batch.num_rows, fitted.width), np.float32)
    ids = np.zeros((batch.num_rows, len(fitted.id_names)), np.int32)
    place = id_place = 0
    for block in fitted.blocks:
        width, num_ids = block.width, len(block.id_names)
        if isinstance(block, NumberBlock):
            _numbers(batch, block, features[:, place : place + width])
        elif isinstance(block, DatetimeBlock):
            _parts(batch, block, features[:, place : place + width])
        else:
            found = _category_ids(batch, block)
            if num_ids:
                ids[:, id_place] = found
            else:
                _set_ones(features[:, place : place + width], places_of(found, block))
        place, id_place = place + width, id_place + num_ids
    return features, ids


def graph_inputs(batch: pa.RecordBatch, fitted: FittedFeatures) -> Mapping[str, npt.NDArray[Any]]:
    """The raw columns as the exported graph takes them, (B,) each: NULL becomes NULL_TEXT, NULL_INTEGER or NaN."""
    return {column.name: as_input(batch.column(column.name), column.dtype) for column in fitted.inputs}


def _numbers(batch: pa.RecordBatch, block: NumberBlock, out: Floats) -> None:
    """out: (B, n), or (B, 2 n) with indicators."""
    constants = zip(block.columns, block.fill, block.offset, block.scale, block.shift, strict=True)
    for place, (column, fill, offset, scale, shift) in enumerate(constants):
        numbers = as_reals(batch.column(column))
        missing = np.isnan(numbers)
        if missing.any():
            numbers = np.where(missing, np.nan if fill is None else fill, numbers)
            if block.indicator:
                out[:, place + len(block.columns)] = missing
        if block.log:
            numbers = np.sign(numbers) * np.log1p(np.abs(numbers))
        with np.errstate(over="ignore"):
            out[:, place] = np.clip((numbers - offset) / scale + shift, -_GREATEST, _GREATEST)


def _category_ids(batch: pa.RecordBatch, block: VocabularyBlock | HashBlock | CrossBlock) -> Wide:
    if isinstance(block, VocabularyBlock):
        return _vocabulary_ids(batch.column(block.columns[0]), block)
    if isinstance(block, HashBlock):
        return _hash_ids(batch.column(block.columns[0]), block.buckets, (block.seed, 0))
    return _cross_ids(batch, block)


def _vocabulary_ids(values: pa.Array, block: VocabularyBlock) -> Wide:
    """(B,): 0 missing, 1 unknown, 2 and up the vocabulary."""
    if kind_of_arrow(values.type) == "text":
        texts = as_texts(values)
        places = pc.index_in(texts, value_set=pa.array(block.texts, pa.string()))
        ids = pc.fill_null(places, -1).to_numpy(zero_copy_only=False).astype(np.int64) + 2
        return np.where(texts.is_null().to_numpy(zero_copy_only=False), 0, ids)
    numbers = as_integers(values)
    places = pc.index_in(pa.array(numbers), value_set=pa.array(block.integers, pa.int64()))
    ids = pc.fill_null(places, -1).to_numpy(zero_copy_only=False).astype(np.int64) + 2
    return np.where(numbers == NULL_INTEGER, 0, ids)


def _hash_ids(values: pa.Array, buckets: int, key: tuple[int, int]) -> Wide:
    """(B,): 0 for NULL, else 1 + hash modulo buckets. Each distinct value is hashed once."""
    if kind_of_arrow(values.type) == "text":
        coded = as_texts(values).dictionary_encode()
    else:
        numbers = as_integers(values)
        coded = pa.array(numbers, mask=numbers == NULL_INTEGER).dictionary_encode()
    ids = _buckets(coded.dictionary.cast(pa.string()), buckets, key) + 1
    # Place -1 is the last: NULL.
    found: Wide = np.append(ids, 0)[pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)]
    return found


def _cross_ids(batch: pa.RecordBatch, block: CrossBlock) -> Wide:
    """(B,), see CrossBlock."""
    last = len(block.columns) - 1
    for place, column in enumerate(block.columns):
        each = _hash_ids(batch.column(column), CROSS_BINS - 1, (block.seed, place))
        if place == 0:
            ids = each
            continue
        pairs = pa.array(ids * CROSS_BINS + each).dictionary_encode()
        buckets = block.buckets if place == last else CROSS_BINS
        hashed = _buckets(pairs.dictionary.cast(pa.string()), buckets, (block.seed, CROSS_KEY + place))
        ids = hashed[pairs.indices.to_numpy()]
    return ids


def _buckets(texts: pa.Array, buckets: int, key: tuple[int, int]) -> Wide:
    return (siphash(texts, key) % np.uint64(buckets)).astype(np.int64)


def places_of(ids: Wide, block: Block) -> Wide:
    """The place of each id's 1 in a one-hot, -1 where all are 0."""
    if isinstance(block, VocabularyBlock):
        return np.where(ids >= 2, ids - 2, np.where(ids == 1, block.unknown_place, block.missing_place))
    return ids - 1 if isinstance(block, HashBlock) else ids


def _set_ones(out: Floats, places: Wide) -> None:
    rows = np.flatnonzero(places >= 0)
    out[rows, places[rows]] = 1.0


def _parts(batch: pa.RecordBatch, block: DatetimeBlock, out: Floats) -> None:
    """out: (B, width)."""
    utc = as_integers(batch.column(block.columns[0]))
    missing = utc == NULL_INTEGER
    moments = utc + np.array(block.offsets)[np.searchsorted(np.array(block.changes, np.int64), utc, side="right")]
    days = moments if block.unit == "day" else moments // DAY
    place = 0
    for part in block.parts:
        value = part_of(part, days, moments - days * DAY if part == "hour" else days)
        if part == "year":
            sides = [(value - FIRST_YEAR) / YEARS]
        else:
            angle = value * (2 * np.pi / PERIODS[part])
            sides = [np.sin(angle), np.cos(angle)]
        for side in sides:
            out[:, place] = np.where(missing, 0.0, side)
            place += 1


def part_of(part: str, days: Wide, rest: Wide) -> Wide | npt.NDArray[np.float64]:
    """A part of days since 1970-01-01, a Thursday, and of the microseconds since midnight; all but the year count from 0.

    Years, months and days by Howard Hinnant's civil_from_days algorithm (2013): years begin in March, 400 of them, an era, have
    146,097 days.
    """
    if part == "hour":
        hours: npt.NDArray[np.float64] = rest.astype(np.float64) / 3_600_000_000
        return hours
    if part == "weekday":
        return (days + 3) % 7
    day_of_era = (days + 719_468) % 146_097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    if part == "year":
        year: Wide = (days + 719_468) // 146_097 * 400 + year_of_era + month_from_march // 10
        return year
    if part == "month":
        month: Wide = (month_from_march + 2) % 12
        return month
    day_of_month: Wide = day_of_year - (153 * month_from_march + 2) // 5
    return day_of_month
