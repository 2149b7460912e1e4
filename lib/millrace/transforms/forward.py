"""Gaps that take the last value before them in time, of their own night or of an older one.

A night never takes a value from a newer one, so that it comes out the same whether it is done when it comes or long after. A gap
that was filled counts as a value for those behind it, as it does in silver, where nobody can tell it from others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from millrace.transforms.tabular import is_missing

_TAKES, _OWN = "_takes", "_own"


class Last:
    """Where the last value before a row is, for a row of any night. Places are numbers of rows.

    Of two places the later is better for every night that may see both, so that one of an older night ends all of newer nights
    before it: what is left grows in night and in time.
    """

    def __init__(self) -> None:
        self.nights: list[str] = []
        self.places: list[int] = []

    def give(self, night: str, place: int) -> None:
        """A value, later than all before."""
        while self.nights and self.nights[-1] >= night:
            self.nights.pop()
            self.places.pop()
        self.nights.append(night)
        self.places.append(place)

    def before(self, night: str) -> int | None:
        """The place of the value that a row of the night takes."""
        number = bisect_right(self.nights, night)
        return self.places[number - 1] if number else None


class Filler:
    """Fills one column, batch by batch, of rows in the order of group and time. Holds a value for each night at most."""

    def __init__(self, kind: pa.DataType) -> None:
        self._last, self._held = Last(), pa.array([], kind)

    def fill(self, column: pa.Array, starts: Sequence[bool], nights: Sequence[str], takes_part: Sequence[bool]) -> pa.Array:
        """The column of a batch, filled. `starts`: whether a row is the first of its group. All are (rows,)."""
        both = pa.concat_arrays([self._held, column])
        num_held = len(self._held)
        sources = np.arange(num_held, len(both))
        missing = pc.is_null(column, nan_is_null=True).to_pylist()
        for row, (begins, night, takes) in enumerate(zip(starts, nights, takes_part, strict=True)):
            if begins:
                self._last = Last()
            if not takes:
                continue
            place = self._last.before(night) if missing[row] else num_held + row
            if place is not None:
                sources[row] = place
                self._last.give(night, place)
        filled = both.take(pa.array(sources))
        self._held = both.take(pa.array(self._last.places, pa.int64()))
        self._last.places = list(range(len(self._held)))
        return filled


def fill_forward(
    rows: DataFrame,
    *,
    columns: Sequence[str],
    time: str,
    group: Sequence[str] = (),
    tie_break: Sequence[str] = (),
    older: DataFrame | None = None,
) -> DataFrame:
    """Gaps become the last value before them in time, among kept rows of the same and of older nights that are equal in `group`
    (NULLs are equal). `older`: rows of nights that stand as they are, which give values only.

    Equal times are ordered by (_night, _source_file, row_id, tie_break), so that no chance decides. A row without a time neither
    takes nor gives a value.
    """
    marked = rows.withColumns({_OWN: F.lit(True), _TAKES: F.col("_rule").isNull() & ~is_missing(rows, time)})
    if older is not None:
        giving = older.filter(~is_missing(older, time)).select(*dict.fromkeys([*group, time, *columns, "_night", "row_id"]))
        marked = marked.unionByName(giving.withColumns({_OWN: F.lit(False), _TAKES: F.lit(True)}), allowMissingColumns=True)
    together = marked.repartition(*group) if group else marked.repartition(1)
    ordered = together.sortWithinPartitions(*group, time, "_night", "_source_file", "row_id", *tie_break)
    schema = to_arrow_schema(rows.schema)

    def fill(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        fillers = {name: Filler(schema.field(name).type) for name in columns}
        before: object = None  # the key of the row before
        for batch in batches:
            keys = list(zip(*[batch.column(name).to_pylist() for name in group], strict=True)) or [()] * batch.num_rows
            starts = [key != last for key, last in zip(keys, [before, *keys], strict=False)]
            before = keys[-1] if keys else before
            nights, takes_part = batch.column("_night").to_pylist(), batch.column(_TAKES).to_pylist()
            found = {name: fillers[name].fill(batch.column(name), starts, nights, takes_part) for name in columns}
            arrays = [found[name] if name in found else batch.column(name) for name in schema.names]
            yield pa.record_batch(arrays, schema=schema).filter(batch.column(_OWN))

    return ordered.mapInArrow(fill, rows.schema)
