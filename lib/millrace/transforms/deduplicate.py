"""Of equal rows the earliest stays; the others are tagged, never lost."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from millrace.transforms.identity import encoded

DUPLICATE_KEY = "duplicate_key"
"""The rule by which a row that comes gives way to an earlier one with its key."""
SUPERSEDED = "superseded"
"""The rule by which a row that comes gives way to a newer one with its key."""
GAVE_WAY = "gave_way"
"""The rule by which a row that stood, and was counted as kept by an older night, gives way to one that comes."""


def tag_duplicates(
    rows: DataFrame,
    *,
    columns: Sequence[str],
    rule: str,
    tie_break: Sequence[str],
    standing: DataFrame | None = None,
    named: Sequence[str] = (),
) -> DataFrame:
    """The same rows; of those equal in `columns` all but the first are tagged as dropped by `rule`. `named` is what the reason
    calls the columns, where that is something else.

    First is the earliest by (_night, _source_file, row_id), then by the columns of `tie_break`, so that no chance decides. Rows
    that have a tag are passed over. A row that `standing` has already (rows of other nights) is a duplicate of it.
    """
    digest = F.sha2(encoded(rows.schema, columns), 256)
    hashed = rows.withColumn("_digest", F.coalesce(F.when(F.col("_rule").isNull(), digest), F.concat(F.lit("-"), "row_id")))
    order = Window.partitionBy("_digest").orderBy("_night", "_source_file", "row_id", *tie_break)
    is_later = F.col("_rule").isNull() & (F.row_number().over(order) > 1)
    if standing is not None:
        known = standing.select(F.sha2(encoded(standing.schema, columns), 256).alias("_digest")).distinct()
        hashed = hashed.join(known.withColumn("_known", F.lit(True)), on="_digest", how="left")
        is_later = is_later | F.col("_known").isNotNull()
    reason = f"equal to an earlier row in {', '.join(named or columns)}"
    tagged = hashed.withColumn("_later", is_later).withColumns(
        {
            "_rule": F.when(F.col("_later"), F.lit(rule)).otherwise(F.col("_rule")),
            "_reason": F.when(F.col("_later"), F.lit(reason)).otherwise(F.col("_reason")),
            "_action": F.when(F.col("_later"), F.lit("dropped")).otherwise(F.col("_action")),
        }
    )
    return tagged.select(*rows.columns)


def tag_superseded(rows: DataFrame, *, tie_break: Sequence[str], standing: DataFrame | None = None) -> DataFrame:
    """The same rows; of those with one row_id all but the newest are tagged as dropped by `superseded`.

    Newest is the latest by (_night, _source_file), then the last by the columns of `tie_break`. A row that is older than the one
    in `standing` (row_id, _night) is dropped too; one of the same night or a newer one is to take its place. Rows that have a tag
    are passed over.
    """
    order = [F.col(name).desc_nulls_last() for name in ("_night", "_source_file", *tie_break)]
    own = F.coalesce(F.when(F.col("_rule").isNull(), F.col("row_id")), F.concat(F.lit("-"), F.col("row_id")))
    place = F.row_number().over(Window.partitionBy("_own").orderBy(*order))
    ranked = rows.withColumn("_own", own).withColumn("_superseded", F.col("_rule").isNull() & (place > 1))
    reason = F.lit("the same night, or a newer one, has a later row with this key")
    if standing is not None:
        known = standing.select(F.col("row_id").alias("_own"), F.col("_night").alias("_known_night"))
        ranked = ranked.join(known, on="_own", how="left")
        is_older = F.coalesce(F.col("_known_night") > F.col("_night"), F.lit(False))
        reason = F.when(is_older, F.lit("a newer night has a row with this key")).otherwise(reason)
        ranked = ranked.withColumn("_superseded", F.col("_superseded") | (F.col("_rule").isNull() & is_older))
    tagged = ranked.withColumn("_why", reason).withColumns(
        {
            "_rule": F.when(F.col("_superseded"), F.lit(SUPERSEDED)).otherwise(F.col("_rule")),
            "_reason": F.when(F.col("_superseded"), F.col("_why")).otherwise(F.col("_reason")),
            "_action": F.when(F.col("_superseded"), F.lit("dropped")).otherwise(F.col("_action")),
        }
    )
    return tagged.select(*rows.columns)


def alike(standing: DataFrame, rows: DataFrame, columns: Sequence[str]) -> DataFrame:
    """The rows of `standing` that may equal one of `rows` in `columns`: all that do, and by chance a few others.

    Told by a hash that takes a hundredth of what a digest does. Where a night adds little, as a filter of what it is compared
    with; the hashes of `rows` go to every task.
    """
    key = F.xxhash64(*[F.col(name) for name in columns])
    keys = rows.select(key.alias("_key")).distinct()
    return standing.withColumn("_key", key).join(F.broadcast(keys), on="_key", how="left_semi").drop("_key")
