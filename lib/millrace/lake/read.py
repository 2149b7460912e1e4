"""Reading tables by Spark at versions that the ledger names, and showing them to analysts as views."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import DataFrame, SparkSession

from millrace.errors import LakeError
from millrace.lake.layout import Lake
from millrace.lake.views import visible_tables


def read_version(spark: SparkSession, lake: Lake, table: str, version: int | None) -> DataFrame:
    """A table at one version. Raises LakeError where no version is named."""
    if version is None:
        raise LakeError("lake", expected=f"a finished version of {table}", found="none", remedy="Run the step that writes it.")
    return spark.read.format("delta").option("versionAsOf", version).load(lake.spark_path(table))


def register_tables(spark: SparkSession, lake: Lake) -> list[str]:
    """Makes a temporary view of each table, `metrics/runs` as `metrics_runs`, at its last succeeded version. Returns their names.

    Metric tables show the rows of runs that succeeded.
    """
    names = []
    for visible in visible_tables(lake):
        parts = [
            read_version(spark, lake, visible.table, part.version).filter(part.condition or "true") for part in visible.parts
        ]
        reduce(DataFrame.unionByName, parts).createOrReplaceTempView(visible.name)
        names.append(visible.name)
    return names
