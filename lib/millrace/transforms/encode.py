"""The label of gold, and its order, which mixes classes whatever the order of the raw data was."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

LABEL = "label"


def no_label(label: str) -> str:
    """The rule that a row breaks whose label has no value."""
    return f"{label}_is_no_label"


def unseen_in_train(label: str) -> str:
    """The rule that a row breaks whose class the train split does not have."""
    return f"{label}_unseen_in_train"


def class_index(label: str, classes: Sequence[str]) -> Column:
    """The index of a row's class as int32; NULL for a class that the train split does not have."""
    position = F.array_position(F.array(*[F.lit(name) for name in classes]), F.col(label).cast("string")).cast("int")
    return F.when(position > 0, position - F.lit(1))


def in_hash_order(rows: DataFrame, *, seed: int, num_partitions: int) -> DataFrame:
    """The same rows, hash-partitioned and sorted by hash(seed, row_id): by one number, which Spark sorts without comparing.

    The hash is xxHash64 (Y. Collet): row_id is a cryptographic one already, and another costs more.
    """
    order = F.xxhash64(F.lit(seed), "row_id")
    ordered = rows.withColumn("_order", order).repartition(num_partitions, "_order")
    return ordered.sortWithinPartitions("_order").drop("_order")
