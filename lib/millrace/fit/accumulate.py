"""Statistics of Arrow batches, one after the other, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.contracts.inputs import NULL_INTEGER, Kind, Reals, as_integers, as_reals, as_texts, kind_of_arrow
from millrace.fit.exact import Moments
from millrace.fit.quantiles import SketchBuilder
from millrace.fit.statistics import ColumnStatistics, Need, Statistics, Value, ValueCounts

_MAX_HELD = 50_000
"""Distinct values of all columns that a partition holds before it hands them on."""


def signed_log(numbers: Reals) -> Reals:
    """sign(x) log(1 + |x|)."""
    logarithms: Reals = np.sign(numbers) * np.log1p(np.abs(numbers))
    return logarithms


class _Column:
    """One column's counters."""

    def __init__(self, need: Need) -> None:
        self.need = need
        self.kind: Kind | None = None
        self.num_rows = 0
        self.num_missing = 0
        self.minimum: float | None = None
        self.maximum: float | None = None
        self.moments = Moments()
        self.log_moments = Moments()
        self.sketch = SketchBuilder()
        self.values: Counter[bytes] = Counter()

    def add(self, array: pa.Array) -> None:
        self.kind = kind_of_arrow(array.type)
        self.num_rows += len(array)
        if self.kind == "text":
            texts = as_texts(array)
            self.num_missing += texts.null_count
        else:
            self._add_numbers(as_reals(array))
        if self.need.values:
            self.values.update(_counted(texts if self.kind == "text" else array, self.kind))

    def _add_numbers(self, numbers: Reals) -> None:
        missing = np.isnan(numbers)
        num_missing = int(missing.sum())
        self.num_missing += num_missing
        if num_missing:
            numbers = numbers[~missing]
        if len(numbers) == 0:
            return
        low, high = float(numbers.min()) + 0.0, float(numbers.max()) + 0.0  # + 0.0: -0.0 becomes 0.0
        self.minimum = low if self.minimum is None else min(self.minimum, low)
        self.maximum = high if self.maximum is None else max(self.maximum, high)
        if self.need.moments:
            self.moments += Moments.of(numbers)
        if self.need.log_moments:
            self.log_moments += Moments.of(signed_log(numbers))
        if self.need.quantiles:
            self.sketch.add(numbers)

    def statistics(self, kind: Kind) -> ColumnStatistics:
        """All but the values."""
        return ColumnStatistics(
            kind=self.kind or kind,
            num_rows=self.num_rows,
            num_missing=self.num_missing,
            minimum=self.minimum,
            maximum=self.maximum,
            moments=self.moments if self.need.moments else None,
            log_moments=self.log_moments if self.need.log_moments else None,
            quantiles=self.sketch.sketch() if self.need.quantiles else None,
            values=ValueCounts() if self.need.values else None,
        )


class Accumulator:
    """Counts batches that have the columns of `needs`, whose kinds are `kinds`."""

    def __init__(self, needs: Sequence[Need], kinds: Mapping[str, Kind]) -> None:
        self._columns = {need.column: _Column(need) for need in needs}
        self._kinds = kinds

    def add(self, batch: pa.RecordBatch) -> None:
        """One batch."""
        for name, column in self._columns.items():
            column.add(batch.column(name))

    @property
    def is_full(self) -> bool:
        """Whether values have to be taken out."""
        return sum(len(column.values) for column in self._columns.values()) > _MAX_HELD

    def take_values(self) -> Iterator[tuple[str, bytes, int]]:
        """(column, value, count) of the values held, which are then forgotten."""
        for name, column in self._columns.items():
            for value, count in column.values.items():
                yield name, value, count
            column.values = Counter()

    def statistics(self) -> Statistics:
        """Without values."""
        return Statistics({name: column.statistics(self._kinds[name]) for name, column in self._columns.items()})


def value_of(data: bytes, kind: Kind) -> Value | None:
    """A value from its bytes. None for bytes that are no UTF-8, and for text with a NUL, which NumPy cuts off: never known."""
    if kind == "text":
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return None
        return None if "\0" in text else text
    return int(data) if kind == "integer" else float.fromhex(data.decode())


def statistics_of(batches: Sequence[pa.RecordBatch], needs: Sequence[Need], kinds: Mapping[str, Kind]) -> Statistics:
    """The statistics of rows in memory, values and all."""
    accumulator = Accumulator(needs, kinds)
    for batch in batches:
        accumulator.add(batch)
    counts: dict[str, dict[Value, int]] = {}
    for name, data, count in accumulator.take_values():
        value = value_of(data, kinds[name])
        if value is not None:
            counts.setdefault(name, {})[value] = count
    return with_values(accumulator.statistics(), counts)


def with_values(
    statistics: Statistics, counts: Mapping[str, Mapping[Value, int]], incomplete: frozenset[str] = frozenset()
) -> Statistics:
    """The same with counts of values; in `incomplete` columns there are more values than these."""
    columns = dict(statistics.columns)
    for name, each in counts.items():
        columns[name] = replace(columns[name], values=ValueCounts.of(each, complete=name not in incomplete))
    return Statistics(columns)


def _counted(array: pa.Array, kind: Kind) -> dict[bytes, int]:
    """How often each value occurs: texts by their bytes, integers by their digits, floats by their hexadecimal form."""
    if kind == "text":
        pairs = pc.value_counts(array.cast(pa.binary()))
        found = zip(pairs.field("values").to_pylist(), pairs.field("counts").to_pylist(), strict=True)
        return {value: count for value, count in found if value is not None}
    if kind == "integer":
        numbers, counts = np.unique(as_integers(array), return_counts=True)
        whole = zip(numbers.tolist(), counts.tolist(), strict=True)
        return {b"%d" % number: count for number, count in whole if number != NULL_INTEGER}
    reals = as_reals(array)
    numbers, counts = np.unique(reals[~np.isnan(reals)] + 0.0, return_counts=True)
    return {number.hex().encode(): count for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)}
