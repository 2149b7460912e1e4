"""Profiles of Arrow batches, and of Spark's rows: one pass, one action, a text of bounded size from each partition."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from millrace.contracts.packed import Packing
from millrace.contracts.types import FLOATS, INTEGERS
from millrace.quality.bins import bin_counts
from millrace.quality.profile import (
    MAX_VALUE_CHARACTERS,
    MAX_VALUES,
    NUM_HASHES,
    ColumnProfile,
    Profile,
    empty_column,
    merge,
    smallest,
)
from millrace.quality.sums import exact_sums


def profile(rows: DataFrame, *, kinds: Mapping[str, str], packing: Packing | None = None) -> Profile:
    """The profile of some columns, of types by Spark's simple names. One Spark job. `packing`: how some of them travel."""
    chosen = rows.select(*(packing.around(kinds) if packing else kinds))

    def parts(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        whole = map(packing.unpack, batches) if packing else batches
        found = reduce(merge, (profile_batch(batch, kinds) for batch in whole), empty(kinds))
        yield pa.record_batch([pa.array([found.to_json()])], names=["profile"])

    texts = chosen.mapInArrow(parts, "profile string").collect()
    return together((row["profile"] for row in texts), kinds)


def together(profiles: Iterable[str], kinds: Mapping[str, str]) -> Profile:
    """The profile of all rows, out of those of some, as JSON."""
    return reduce(merge, map(Profile.from_json, profiles), empty(kinds))


def empty(kinds: Mapping[str, str]) -> Profile:
    """The profile of no rows, of columns with these types."""
    return Profile({name: empty_column(kind) for name, kind in kinds.items()})


def profile_batch(batch: pa.RecordBatch, kinds: Mapping[str, str]) -> Profile:
    """The profile of a batch with fewer than 2**26 rows."""
    return Profile({name: profile_array(batch.column(name), kind) for name, kind in kinds.items()})


def profile_array(array: pa.Array, kind: str) -> ColumnProfile:
    """The profile of one column's values, of a type by Spark's simple name."""
    none = empty_column(kind)
    counts = {"num_rows": len(array), "num_nulls": array.null_count}
    present = array.drop_null()
    if none.hashes is None or not len(present):
        return ColumnProfile(**{**none.__dict__, **counts})
    if kind in ("string", "binary", "boolean"):
        return _of_values(present, none, counts)
    # Each distinct number of the batch is looked at once: most columns have few, and Arrow finds them without sorting.
    encoded = pa.array(_numbers(present, kind)).dictionary_encode()
    numbers = encoded.dictionary.to_numpy()
    repeats = np.bincount(encoded.indices.to_numpy(), minlength=len(numbers))
    finite, times = numbers, repeats
    if kind in FLOATS:
        is_finite = np.isfinite(numbers)
        finite, times = numbers[is_finite], repeats[is_finite]
        counts["num_nans"] = int(repeats[np.isnan(numbers)].sum())
    counts["num_infinite"] = len(present) - int(times.sum()) - counts.get("num_nans", 0)
    total, squares = exact_sums(finite, times)
    is_listed = none.values is not None and len(finite) <= MAX_VALUES
    return ColumnProfile(
        kind,
        **counts,
        low=finite.min().item() if len(finite) else None,
        high=finite.max().item() if len(finite) else None,
        total=total,
        squares=squares,
        bins=bin_counts(finite.astype(np.float64), times, bits=none.bits),
        values=_listed(pa.array(finite), times.tolist(), kind) if is_listed else None,
        hashes=_hash_numbers(numbers),
    )


def _numbers(present: pa.Array, kind: str) -> npt.NDArray[np.float64] | npt.NDArray[np.int64]:
    if kind in FLOATS:
        floats: npt.NDArray[np.float64] = present.to_numpy(zero_copy_only=False).astype(np.float64)
        return floats + 0.0  # there is one zero
    if kind not in INTEGERS:
        present = present.cast(pa.int32()) if kind == "date" else present.cast(pa.timestamp("us")).cast(pa.int64())
    integers: npt.NDArray[np.int64] = present.to_numpy(zero_copy_only=False).astype(np.int64)
    return integers


def _of_values(present: pa.Array, none: ColumnProfile, counts: Mapping[str, int]) -> ColumnProfile:
    """Texts, bytes and booleans: each distinct one of the batch is looked at once."""
    encoded = present.dictionary_encode()
    repeats = np.bincount(encoded.indices.to_numpy(zero_copy_only=False), minlength=len(encoded.dictionary))
    distinct = encoded.dictionary
    fields = {**none.__dict__, **counts, "hashes": smallest({_hash_value(value) for value in distinct.to_pylist()})}
    if none.type == "boolean":
        names = [str(value).lower() for value in distinct.to_pylist()]
        fields["values"] = dict(sorted(zip(names, repeats.tolist(), strict=True)))
        return ColumnProfile(**fields)
    measure = pc.utf8_length if none.type == "string" else pc.binary_length
    lengths = measure(distinct).to_numpy(zero_copy_only=False).astype(np.int64)
    fields["total"], fields["squares"] = exact_sums(lengths, repeats)
    fields["bins"] = bin_counts(lengths.astype(np.float64), repeats)
    if none.type == "string":
        bounds = pc.min_max(distinct)
        fields["low"], fields["high"] = (bounds[name].as_py()[:MAX_VALUE_CHARACTERS] for name in ("min", "max"))
        few_and_short = len(distinct) <= MAX_VALUES and int(lengths.max()) <= MAX_VALUE_CHARACTERS
        fields["values"] = _listed(distinct, repeats.tolist(), "string") if few_and_short else None
    return ColumnProfile(**fields)


def _listed(distinct: pa.Array, repeats: Sequence[int], kind: str) -> dict[str, int]:
    values = distinct.cast(pa.int32()).cast(pa.date32()) if kind == "date" else distinct
    texts = values.to_pylist() if kind == "string" else values.cast(pa.string()).to_pylist()
    return dict(sorted(zip(texts, repeats, strict=True)))


def _hash_value(value: str | bytes | bool) -> int:
    data = value if isinstance(value, bytes) else str(value).encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def _hash_numbers(numbers: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> tuple[int, ...]:
    """The smallest of distinct numbers' hashes (splitmix64's finaliser, a bijection, of their 64 bits); all NaNs are one."""
    bits = np.where(np.isnan(numbers), np.nan, numbers) if numbers.dtype.kind == "f" else numbers
    mixed = bits.view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return smallest(set((np.partition(mixed, NUM_HASHES)[:NUM_HASHES] if len(mixed) > NUM_HASHES else mixed).tolist()))
