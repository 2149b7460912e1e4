"""One pass over tagged rows for all that has to be known before they are encoded, in a table of bounded size.

Each partition gives: statistics of its train rows, a profile of those that are kept, counts by rule, counts by split and class,
hashes of keys, and the rows that are not kept. What it gives is kept in memory while the step asks about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from millrace.contracts.inputs import Kind
from millrace.contracts.packed import PACKED, Packing
from millrace.fit.accumulate import Accumulator
from millrace.fit.collect import PARTIAL, add_up, counters_batch, kinds_of, values_batch
from millrace.fit.statistics import Need, Statistics, merge_needs
from millrace.flows.ingest import cached
from millrace.flows.raw_rows import KEY_HASH
from millrace.flows.rejects import Tally
from millrace.quality.profile import Profile, merge
from millrace.quality.profiling import empty, profile_batch, together

STATISTICS, PROFILE, RULE, LABEL, TEXT, KEYS, REJECT = "statistics", "profile", "rule", "label", "text", "keys", "reject"
"""The kinds of a survey's rows.

profile state is the profile of rows that are kept; none where nobody asked for it
rule    column is the action, state the rule, num the rows; NULL both for rows that are kept
label   column is the split, state the class (NULL: none), num the rows that are kept
text    num rows that are kept and came as text (contracts.texts); none where no column is packed
keys    num is the bucket, value some of its hashes (int64)
reject  a row that is not kept, in the columns of _REJECTED
"""
_REJECT = "_reject"
"""A row's values of _REJECTED; NULL in rows that are kept. One column, since Spark writes each column of each row."""
_REJECTED = ("row_id", "_record", "_source_file", "_rule", "_reason", "_action", "_night")
_SCHEMA = ", ".join(["kind string", PARTIAL, *[f"{name} string" for name in _REJECTED]])
_PARTIAL = ("column", "value", "num", "state")
_ARROW = pa.schema(
    [
        ("kind", pa.string()),
        *zip(_PARTIAL, (pa.string(), pa.binary(), pa.int64(), pa.string()), strict=True),
        *[(name, pa.string()) for name in _REJECTED],
    ]
)
_NUM_BUCKETS = 256

Rows = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class Survey:
    """What was found."""

    found: DataFrame
    needs: Sequence[Need]
    kinds: Mapping[str, Kind]
    profiled: Mapping[str, str] | None = None
    """The columns of the profile, with their types by Spark's simple names."""

    def statistics(self) -> Statistics:
        """Of the train rows that are kept and have a class, where there are classes."""
        return add_up(self._of(STATISTICS).select(*_PARTIAL), self.needs, self.kinds)

    def profile(self) -> Profile | None:
        """Of the rows that are kept; None where nobody asked for it."""
        if self.profiled is None:
            return None
        return together((row["state"] for row in self._of(PROFILE).select("state").collect()), self.profiled)

    def tally(self) -> Tally:
        """Rows by rule."""
        by_action: dict[str, dict[str, int]] = {"quarantined": {}, "dropped": {}}
        total = 0
        for action, rule, num in self._counted[RULE]:
            total += num
            if rule is not None:
                assert action is not None
                by_action[action][rule] = num
        return Tally(total, by_action["quarantined"], by_action["dropped"])

    def classes(self) -> list[tuple[str, str | None, int]]:
        """(split, class, rows)."""
        return [(str(split), name, num) for split, name, num in self._counted[LABEL]]

    @property
    def num_kept_texts(self) -> int | None:
        """Rows that are kept and came as text; None where they were not counted."""
        counted = self._counted[TEXT]
        return sum(num for _, _, num in counted) if counted else None

    def rejected(self) -> DataFrame:
        """The rows that are not kept."""
        return self._of(REJECT).select(*_REJECTED)

    def has_equal_keys(self, standing: DataFrame | None) -> bool:
        """Whether two rows may have one key, or one may have that of a row that stands (KEY_HASH). Exact but for one chance in
        2^64 for each pair, on which nothing but time depends."""
        keys = self._of(KEYS).select("num", "value")
        if standing is not None:
            keys = keys.unionByName(standing.mapInArrow(_pack_keys, "num long, value binary"))
        spread = keys.repartition("num").sortWithinPartitions("num")
        return not spread.mapInArrow(_equal_keys, "num long").isEmpty()

    @cached_property
    def _counted(self) -> Mapping[str, Sequence[tuple[str | None, str | None, int]]]:
        """(column, state, num) of each kind that counts, in one job."""
        counts = self.found.filter(F.col("kind").isin(RULE, LABEL, TEXT))
        found: dict[str, list[tuple[str | None, str | None, int]]] = {RULE: [], LABEL: [], TEXT: []}
        for row in counts.groupBy("kind", "column", "state").agg(F.sum("num").alias("num")).collect():
            found[row["kind"]].append((row["column"], row["state"], row["num"]))
        return found

    def _of(self, kind: str) -> DataFrame:
        return self.found.filter(F.col("kind") == kind).drop("kind")


@contextmanager
def surveyed(
    rows: DataFrame,
    *,
    schema: StructType,
    needs: Iterable[Need],
    label: str | None,
    packing: Packing | None = None,
    profiled: Mapping[str, str] | None = None,
) -> Iterator[Survey]:
    """Looks at tagged rows (`Rows.tagged`), with KEY_HASH where keys are to be compared. `label`: the column of classes;
    `packing`: which of the columns are packed; `schema`: theirs when they are not; `profiled`: see `Survey`."""
    wanted = merge_needs(needs)
    columns = [need.column for need in wanted]
    kinds = kinds_of(schema, columns)
    columns = list(dict.fromkeys([*columns, *(profiled or ())]))
    seen = packing.around(columns) if packing else columns
    others = [
        F.col("split").alias("_split"),
        (F.lit(None) if label is None else F.col(label)).cast("string").alias("_label"),
        (F.col(KEY_HASH) if KEY_HASH in rows.columns else F.lit(None).cast("bigint")).alias(KEY_HASH),
        F.when(F.col("_rule").isNotNull(), F.array(*_REJECTED)).alias(_REJECT),
    ]
    packing = packing if packing and PACKED in seen else None
    look = _look(seen, wanted, kinds, has_classes=label is not None, packing=packing, profiled=profiled)
    with cached(rows.select(*seen, *others).mapInArrow(look, _SCHEMA)) as found:
        yield Survey(found, wanted, kinds, profiled)


def _look(
    seen: Sequence[str],
    needs: Sequence[Need],
    kinds: dict[str, Kind],
    *,
    has_classes: bool,
    packing: Packing | None,
    profiled: Mapping[str, str] | None,
) -> Rows:
    unpack = packing.unpack if packing else lambda rows: rows

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        accumulator = Accumulator(needs, kinds)
        profile = None if profiled is None else empty(profiled)
        rules: Counter[tuple[str | None, str | None]] = Counter()
        labels: Counter[tuple[str | None, str | None]] = Counter()
        hashes: list[npt.NDArray[np.int64]] = []
        num_texts = 0
        for batch in batches:
            kept = pc.is_null(batch.column(_REJECT))
            num_texts += _num_true(pc.and_(kept, pc.is_null(batch.column(PACKED)))) if packing else 0
            if batch.column(KEY_HASH).null_count < batch.num_rows:
                hashes.append(batch.column(KEY_HASH).drop_null().to_numpy())
            rules[None, None] += _num_true(kept)
            rejected = _rejected(batch.column(_REJECT).drop_null())
            if rejected.num_rows:
                rules.update(_counts(rejected.column("_action"), rejected.column("_rule")))
                yield _as(REJECT, rejected)
            counts = pc.and_kleene(kept, pc.equal(batch.column("_split"), "train"))
            if has_classes:
                split, label = (batch.column(name).filter(kept) for name in ("_split", "_label"))
                labels.update(_counts(split, label))
                counts = pc.and_kleene(counts, pc.is_valid(batch.column("_label")))
            wanted = batch.select(seen)
            if profiled is not None and profile is not None:
                whole = unpack(wanted.filter(kept))
                profile = merge(profile, profile_batch(whole, profiled))
                accumulator.add(whole.filter(counts.filter(kept)))
            else:
                accumulator.add(unpack(wanted.filter(counts)))
            if accumulator.is_full:
                yield _as(STATISTICS, values_batch(accumulator))
        yield _as(STATISTICS, values_batch(accumulator))
        yield _as(STATISTICS, counters_batch(accumulator))
        if profile is not None:
            yield _as(PROFILE, _batch({"num": [None], "state": [profile.to_json()]}))
        texts: Counter[tuple[str | None, str | None]] = Counter({(None, None): num_texts} if packing else {})
        for kind, counted in ((RULE, rules), (LABEL, labels), (TEXT, texts)):
            pairs, nums = list(counted), list(counted.values())
            partial: dict[str, list[Any]] = {
                "column": [pair[0] for pair in pairs],
                "num": nums,
                "state": [pair[1] for pair in pairs],
            }
            yield _as(kind, _batch(partial))
        yield from (_as(KEYS, _batch(keys)) for keys in _buckets(hashes))

    return run


def _pack_keys(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    hashes = [batch.column(0).to_numpy() for batch in batches]
    for keys in _buckets(hashes):
        yield pa.record_batch([pa.array(keys["num"], pa.int64()), pa.array(keys["value"], pa.binary())], names=["num", "value"])


def _buckets(hashes: Sequence[npt.NDArray[np.int64]]) -> Iterator[dict[str, list[Any]]]:
    """Hashes by bucket, each bucket's as bytes."""
    if not hashes:
        return
    ordered = np.sort(np.concatenate(hashes))
    buckets = (ordered >> 56) + _NUM_BUCKETS // 2
    ends = np.searchsorted(buckets, np.arange(_NUM_BUCKETS + 1))
    found = [(number, ordered[ends[number] : ends[number + 1]].tobytes()) for number in range(_NUM_BUCKETS)]
    there = [(number, data) for number, data in found if data]
    yield {"num": [number for number, _ in there], "value": [data for _, data in there]}


def _equal_keys(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Buckets in their order -> those that have a hash twice."""
    last: int | None = None
    parts: list[npt.NDArray[np.int64]] = []
    for batch in batches:
        for bucket, data in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
            if bucket != last:
                yield from _if_twice(last, parts)
                last, parts = bucket, []
            parts.append(np.frombuffer(data, np.int64))
    yield from _if_twice(last, parts)


def _if_twice(bucket: int | None, parts: Sequence[npt.NDArray[np.int64]]) -> Iterator[pa.RecordBatch]:
    hashes = np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)
    if (hashes[1:] == hashes[:-1]).any():
        yield pa.record_batch([pa.array([bucket], pa.int64())], names=["num"])


def _rejected(values: pa.ListArray) -> pa.RecordBatch:
    """The columns of _REJECTED out of each row's list of them."""
    return pa.RecordBatch.from_pydict({name: pc.list_element(values, place) for place, name in enumerate(_REJECTED)})


def _num_true(mask: pa.Array) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _counts(one: pa.Array, other: pa.Array) -> dict[tuple[str | None, str | None], int]:
    """How often each pair of texts occurs."""
    coded = [column.dictionary_encode() for column in (one, other)]
    names = [[*each.dictionary.to_pylist(), None] for each in coded]
    places = [pc.fill_null(each.indices, len(each.dictionary)).to_numpy() for each in coded]
    width = len(names[1])
    counts = np.bincount(places[0].astype(np.int64) * width + places[1])
    return {(names[0][code // width], names[1][code % width]): int(counts[code]) for code in np.flatnonzero(counts)}


def _batch(partial: Mapping[str, Sequence[Any]]) -> pa.RecordBatch:
    num_rows = len(partial["num"])
    fields = [_ARROW.field(name) for name in _PARTIAL]
    arrays = [
        pa.array(partial[field.name], field.type) if field.name in partial else pa.nulls(num_rows, field.type) for field in fields
    ]
    return pa.record_batch(arrays, schema=pa.schema(fields))


def _as(kind: str, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Some columns of a survey's rows, with the others."""
    names = set(batch.schema.names)
    arrays = [
        pa.repeat(kind, batch.num_rows)
        if field.name == "kind"
        else batch.column(field.name)
        if field.name in names
        else pa.nulls(batch.num_rows, field.type)
        for field in _ARROW
    ]
    return pa.record_batch(arrays, schema=_ARROW)
