"""Of equal rows the earliest stays; the others are tagged, never lost."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from millrace.transforms.identity import encoded


def tag_duplicates(
    rows: DataFrame, *, columns: Sequence[str], rule: str, tie_break: Sequence[str], standing: DataFrame | None = None
) -> DataFrame:
    """The same rows; of those equal in `columns` all but the first are tagged as dropped by `rule`.

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
    reason = f"equal to an earlier row in {', '.join(columns)}"
    tagged = hashed.withColumn("_later", is_later).withColumns(
        {
            "_rule": F.when(F.col("_later"), F.lit(rule)).otherwise(F.col("_rule")),
            "_reason": F.when(F.col("_later"), F.lit(reason)).otherwise(F.col("_reason")),
            "_action": F.when(F.col("_later"), F.lit("dropped")).otherwise(F.col("_action")),
        }
    )
    return tagged.select(*rows.columns)
