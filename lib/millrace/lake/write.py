"""Writing big tables by Spark so that doing it twice, or after a crash, gives the same table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from delta.tables import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, DataFrameWriter
from pyspark.sql import functions as F

from millrace import observe
from millrace.errors import ContractError, in_short
from millrace.lake import log
from millrace.lake.ledger import Attempt, TableVersion
from millrace.lake.versions import USER_METADATA

_STATISTICS = {"delta.dataSkippingNumIndexedCols": "-1"}
"""Of all columns: by default the log knows the least and greatest values of 32, and nights are told by those of the last."""

_LOG = {"delta.enableExpiredLogCleanup": "false"}
"""A version that a model names can be read as long as `maintain` keeps its files: the log of 30 days would not have it."""

PLAIN = {
    **_STATISTICS,
    **_LOG,
    "delta.enableDeletionVectors": "false",
    "delta.columnMapping.mode": "none",
    "delta.checkpointInterval": "20",
    "delta.minReaderVersion": "1",
}
"""Set, not left to defaults. Deletion vectors stay off: whole files of a night are replaced, so there is nothing that they would
save, and neither Petastorm nor deltalake reads a table that has them."""

UPDATED = {
    **_STATISTICS,
    **_LOG,
    "delta.enableDeletionVectors": "true",
    "delta.columnMapping.mode": "none",
    "delta.checkpointInterval": "20",
}
"""Of a table whose rows are replaced one by one: a merge that touches one row in a hundred then copies none. For Spark only."""

_OPEN_FILES = ("spark.sql.maxConcurrentOutputFileWriters", "8")
"""Of a partitioned write: with fewer open than partitions Spark sorts rows by partition, and their own order goes."""


def write_nights(
    attempt: Attempt,
    table: str,
    rows: DataFrame,
    nights: Sequence[str],
    *,
    properties: Mapping[str, str] = PLAIN,
    partition_by: Sequence[str] = (),
    rebuild: bool = False,
) -> TableVersion:
    """Puts `rows` in the place of what the table has of `nights`; with `rebuild`, of all it has. Of nights that it has nothing of
    they are added, and no file that is there is looked at. In each file rows keep their order; `partition_by` names columns of at
    most 8 values together.

    What an earlier try left behind, committed but never named by a `succeeded` entry, is undone first.
    """
    uri, spark_uri = attempt.lake.path(table), attempt.lake.spark_path(table)
    before = undo_unfinished(attempt, table, rows)
    mark = json.dumps(attempt.mark, sort_keys=True)
    rows.sparkSession.conf.set(*_OPEN_FILES)
    with observe.timed(f"write/{table.partition('/')[0]}"):
        if log.exists(uri) and (before is None or rebuild):
            # An overwrite would keep the old properties, and check the new rows against the old constraints.
            replacement = rows.writeTo(_sql_name(spark_uri)).using("delta").option("userMetadata", mark)
            if partition_by:
                replacement = replacement.partitionedBy(*[F.col(name) for name in partition_by])
            for key, value in properties.items():
                replacement = replacement.tableProperty(key, value)
            replacement.createOrReplace()
        else:
            writer = rows.write.format("delta").mode("overwrite").option("userMetadata", mark).partitionBy(*partition_by)
            if before is None:  # what a killed first try may have left, files without a log, does not hinder this
                writer = writer.options(**properties)
            else:
                writer = writer.option("mergeSchema", "true")  # a column that comes later is NULL in older nights
                if log.nights_of(uri).isdisjoint(nights):
                    writer = writer.mode("append")
                else:
                    writer = writer.option("replaceWhere", f"_night IN ({', '.join(repr(night) for night in nights)})")
            _save(writer, spark_uri, table)
    version = log.version_of(uri, attempt.mark, newer_than=-1 if before is None else before)
    return TableVersion(table, version)


def _save(writer: DataFrameWriter, spark_uri: str, table: str) -> None:
    """Raises ContractError where a column has another type than the table's."""
    try:
        writer.save(spark_uri)
    except AnalysisException as error:
        if "DELTA_FAILED_TO_MERGE_FIELDS" not in str(error) and "DELTA_MERGE_INCOMPATIBLE_DATATYPE" not in str(error):
            raise
        raise ContractError(
            table.partition("/")[0],
            expected=f"columns of the types that {table} has",
            found=in_short(str(error)),
            remedy="Keep the type, or give the source another name: then all begins anew.",
        ) from None


def merge_rows(attempt: Attempt, table: str, rows: DataFrame, *, properties: Mapping[str, str] = PLAIN) -> TableVersion:
    """Puts each of `rows` in the place of the row with its row_id, unless that is of a newer night; the others are added.

    What an earlier try left behind is undone first, so that doing it twice changes nothing.
    """
    before = undo_unfinished(attempt, table, rows)
    if before is None:
        return write_nights(attempt, table, rows, [attempt.run.night], properties=properties)
    spark, uri = rows.sparkSession, attempt.lake.spark_path(table)
    mark = json.dumps(attempt.mark, sort_keys=True)
    spark.conf.set(USER_METADATA, mark)  # a merge has no option for it
    try:
        with observe.timed(f"merge/{table.partition('/')[0]}"):
            merge = DeltaTable.forPath(spark, uri).alias("old").merge(rows.alias("new"), "old.row_id = new.row_id")
            merge.whenMatchedUpdateAll("new._night >= old._night").whenNotMatchedInsertAll().withSchemaEvolution().execute()
    finally:
        spark.conf.unset(USER_METADATA)
    return TableVersion(table, log.version_of(attempt.lake.path(table), attempt.mark, newer_than=before))


def undo_unfinished(attempt: Attempt, table: str, rows: DataFrame) -> int | None:
    """Brings a table back to the version that the ledger names. Returns that version, None where nothing was ever finished."""
    uri = attempt.lake.path(table)
    newest, finished = log.latest_version(uri), attempt.ledger.version_of(table)
    if newest is None or finished is None:
        return None
    if newest != finished:
        observe.say(f"{table}: undoing what an unfinished try had written")
        name = _sql_name(attempt.lake.spark_path(table))
        rows.sparkSession.sql(f"RESTORE TABLE {name} TO VERSION AS OF {finished}").collect()
        restored = log.latest_version(uri)
        assert restored is not None
        return restored
    return finished


def _sql_name(spark_uri: str) -> str:
    return "delta.`{}`".format(spark_uri.replace("`", "``"))
