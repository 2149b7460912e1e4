"""No key and no group on two sides of a split."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace.errors import QualityError

_NUM_SHOWN = 3


def straddling(rows: DataFrame, *, columns: Sequence[str]) -> DataFrame:
    """One row per value of `columns` that more than one split has: the columns, and _splits, the splits' names in order."""
    by_value = rows.select(*columns, "split").distinct().groupBy(*columns)
    return by_value.agg(F.sort_array(F.collect_set("split")).alias("_splits")).filter(F.size("_splits") > 1)


def check_disjoint(rows: DataFrame, *, columns: Sequence[str], stage: str) -> None:
    """Raises QualityError, with a few of them, where a value of `columns` (a key or a group) is in more than one split.

    `rows` have the column split. One Spark job, a second where it raises.
    """
    found = straddling(rows, columns=columns)
    shown = found.orderBy(*columns).limit(_NUM_SHOWN).collect()
    if not shown:
        return
    listed = "; ".join(
        f"{', '.join(f'{name}={row[name]}' for name in columns)} in {' and '.join(row['_splits'])}" for row in shown
    )
    raise QualityError(
        stage,
        expected=f"each {', '.join(columns)} in one split",
        found=f"{found.count()} in more than one ({listed})",
        remedy="Drop duplicates of it in clean, split by something else, or mend the rules of split.test and split.validation.",
    )
