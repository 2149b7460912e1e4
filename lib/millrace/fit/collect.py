"""Statistics on Spark: one pass over the rows; each partition sends its counters, and values are added up by a groupBy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from millrace.contracts.inputs import Kind, input_type, kind_of
from millrace.fit.accumulate import Accumulator, value_of, with_values
from millrace.fit.statistics import (
    MAX_VALUES,
    Need,
    Statistics,
    Value,
    column_from_json,
    column_to_json,
    merge_needs,
)

PARTIAL = "column string, value binary, num long, state string"
"""What a partition gives: values of a column with their counts, and one row for each column with its counters as JSON."""
_ARROW = pa.schema([("column", pa.string()), ("value", pa.binary()), ("num", pa.int64()), ("state", pa.string())])


def collect_statistics(rows: DataFrame, *, needs: Iterable[Need]) -> Statistics:
    """What `needs` ask for, of these rows (the train split, and nothing else). An action: one job.

    The same rows give the same statistics, bit for bit, whatever their order and partitioning. Raises ContractError for a
    column of a type that no encoder takes.
    """
    wanted = merge_needs(needs)
    if not wanted:
        return Statistics({})
    kinds = kinds_of(rows.schema, [need.column for need in wanted])
    return add_up(rows.select(*[need.column for need in wanted]).mapInArrow(_partials(wanted, kinds), PARTIAL), wanted, kinds)


def add_up(partial: DataFrame, needs: Sequence[Need], kinds: Mapping[str, Kind]) -> Statistics:
    """The statistics out of rows of PARTIAL. An action."""
    total = dict(Accumulator(needs, kinds).statistics().columns)
    counts: dict[str, dict[Value, int]] = {}
    incomplete = set()
    for row in _add_up(partial).collect():
        for state in row["states"]:
            total[row["column"]] += column_from_json(json.loads(state))
        if row["value"] is None:
            continue
        if row["num_distinct"] > MAX_VALUES:
            incomplete.add(row["column"])
        value = value_of(bytes(row["value"]), kinds[row["column"]])
        if value is not None:
            counts.setdefault(row["column"], {})[value] = row["num"]
    return with_values(Statistics(total), counts, frozenset(incomplete))


def statistics_of_train(silver: DataFrame, *, needs: Iterable[Need]) -> Statistics:
    """The statistics of the rows whose `split` is train: the only ones that anything may be fitted on."""
    return collect_statistics(silver.filter(F.col("split") == "train"), needs=needs)


def kinds_of(schema: StructType, columns: Sequence[str]) -> dict[str, Kind]:
    """The kind of each column. Raises ContractError for types that no encoder takes."""
    kinds: dict[str, Kind] = {}
    for name in columns:
        type_name = schema[name].dataType.simpleString()
        input_type(name, type_name)
        kinds[name] = kind_of(type_name)
    return kinds


def _partials(needs: Sequence[Need], kinds: dict[str, Kind]) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """A partition's batches -> rows of PARTIAL."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        accumulator = Accumulator(needs, kinds)
        for batch in batches:
            accumulator.add(batch)
            if accumulator.is_full:
                yield values_batch(accumulator)
        yield values_batch(accumulator)
        yield counters_batch(accumulator)

    return run


def values_batch(accumulator: Accumulator) -> pa.RecordBatch:
    """The values that are held, as PARTIAL; they are then forgotten."""
    found = list(accumulator.take_values())
    columns, values, counts = zip(*found, strict=True) if found else ((), (), ())
    arrays = [pa.array(columns, pa.string()), pa.array(values, pa.binary()), pa.array(counts, pa.int64())]
    return pa.RecordBatch.from_arrays([*arrays, pa.nulls(len(found), pa.string())], schema=_ARROW)


def counters_batch(accumulator: Accumulator) -> pa.RecordBatch:
    """The counters of each column, as PARTIAL."""
    states = accumulator.statistics().columns
    nothing = [None] * len(states)
    found = [list(states), nothing, nothing, [json.dumps(column_to_json(each)) for each in states.values()]]
    return pa.RecordBatch.from_arrays(
        [pa.array(each, field.type) for each, field in zip(found, _ARROW, strict=True)], schema=_ARROW
    )


def _add_up(partial: DataFrame) -> DataFrame:
    """One row per distinct value, of each column the MAX_VALUES most frequent; one row per column with its counters."""
    groups = partial.groupBy("column", "value").agg(F.sum("num").alias("num"), F.collect_list("state").alias("states"))
    by_column = Window.partitionBy("column")
    by_count = by_column.orderBy(F.desc("num"), "value")
    ranked = groups.withColumns({"num_distinct": F.count("value").over(by_column), "_rank": F.row_number().over(by_count)})
    return ranked.filter(F.col("value").isNull() | (F.col("_rank") <= MAX_VALUES)).drop("_rank")
