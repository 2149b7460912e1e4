"""A Delta table's versions and files, and how small ones are put together: by deltalake, or by Spark where a table has features
that deltalake does not know, as the deletion vectors of a table whose rows are replaced one by one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlparse

import fsspec
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable

from millrace.errors import LakeError
from millrace.lake import log
from millrace.lake.layout import Lake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

TARGET_BYTES = 128 * 1024**2
"""Compaction makes files of about this size of smaller ones."""
USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
_KNOWN_FEATURES = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"}
_SIZES = ("spark.databricks.delta.optimize.minFileSize", "spark.databricks.delta.optimize.maxFileSize")

Sessions = Callable[[], "SparkSession"]
"""Opens a Spark session, the first time that one is needed."""


def no_session() -> SparkSession:
    """Where nobody has given a way to Spark. Raises LakeError."""
    raise LakeError(
        "lake",
        expected="Spark, for a table with features that deltalake does not know",
        found="none",
        remedy="Give a function that opens a session, as the command line does.",
    )


class Versions(Protocol):
    """What maintenance asks of a table."""

    def history(self) -> list[tuple[int, float]]:
        """The versions that the log has, each with when it was committed: milliseconds, infinity where the log does not say."""

    def can_open(self, version: int) -> str:
        """Empty where a version can be had, else why not."""

    def files(self, version: int | None = None) -> dict[str, int]:
        """The data files of a version, the newest by default, with their bytes: paths in the table's directory, unescaped."""

    def columns(self) -> list[str]:
        """The names of the newest version's columns."""

    def compact(self, zorder: Sequence[str], metadata: Mapping[str, str]) -> None:
        """Puts small files together, or with `zorder` writes all rows anew along a Z-curve."""


def versions_of(lake: Lake, table: str, sessions: Sessions) -> Versions:
    """A table, by deltalake where it can."""
    uri = lake.path(table)
    if log.is_for_spark_only(uri) or set(log.open_table(uri).protocol().reader_features or ()) - _KNOWN_FEATURES:
        return _BySpark(lake, table, sessions())
    return _ByDeltalake(uri)


class _ByDeltalake:
    def __init__(self, uri: str) -> None:
        self._uri = uri

    def history(self) -> list[tuple[int, float]]:
        commits = DeltaTable(self._uri).history()
        return sorted((int(commit["version"]), float(commit.get("timestamp") or math.inf)) for commit in commits)

    def can_open(self, version: int) -> str:
        try:
            DeltaTable(self._uri, version=version)
        except Exception as error:
            return str(error).splitlines()[0]
        return ""

    def files(self, version: int | None = None) -> dict[str, int]:
        actions = pa.table(DeltaTable(self._uri, version=version).get_add_actions())
        return dict(zip(actions.column("path").to_pylist(), actions.column("size_bytes").to_pylist(), strict=True))

    def columns(self) -> list[str]:
        return [field.name for field in DeltaTable(self._uri).schema().fields]

    def compact(self, zorder: Sequence[str], metadata: Mapping[str, str]) -> None:
        commit = CommitProperties(custom_metadata={"userMetadata": json.dumps(dict(metadata), sort_keys=True)})
        optimize = DeltaTable(self._uri).optimize
        if zorder:
            optimize.z_order(list(zorder), target_size=TARGET_BYTES, commit_properties=commit)
        else:
            optimize.compact(target_size=TARGET_BYTES, commit_properties=commit)


class _BySpark:
    def __init__(self, lake: Lake, table: str, spark: SparkSession) -> None:
        self._table, self._uri, self._path, self._spark = table, lake.path(table), lake.spark_path(table), spark

    def history(self) -> list[tuple[int, float]]:
        from delta.tables import DeltaTable as SparkTable

        commits = SparkTable.forPath(self._spark, self._path).history().selectExpr("version", "unix_millis(timestamp) AS at")
        return sorted((row["version"], float(row["at"])) for row in commits.collect())

    def can_open(self, version: int) -> str:
        try:
            self._read(version).inputFiles()
        except Exception as error:
            return str(error).splitlines()[0]
        return ""

    def files(self, version: int | None = None) -> dict[str, int]:
        storage, root = fsspec.core.url_to_fs(self._uri)
        paths = [unquote(urlparse(path).path).rpartition(f"/{self._table}/")[2] for path in self._read(version).inputFiles()]
        sizes = {path: info["size"] for path, info in storage.find(root, detail=True).items()}  # one listing, not a call for each
        return {path: int(sizes.get(f"{root}/{path}") or 0) for path in paths}

    def columns(self) -> list[str]:
        return self._read(None).columns

    def compact(self, zorder: Sequence[str], metadata: Mapping[str, str]) -> None:
        from delta.tables import DeltaTable as SparkTable

        settings = {USER_METADATA: json.dumps(dict(metadata), sort_keys=True)} | dict.fromkeys(_SIZES, str(TARGET_BYTES))
        optimize = SparkTable.forPath(self._spark, self._path).optimize()
        for name, value in settings.items():
            self._spark.conf.set(name, value)
        try:
            if zorder:
                optimize.executeZOrderBy(list(zorder))
            else:
                optimize.executeCompaction()
        finally:
            for name in settings:
                self._spark.conf.unset(name)

    def _read(self, version: int | None) -> DataFrame:
        reader = self._spark.read.format("delta")
        return (reader if version is None else reader.option("versionAsOf", version)).load(self._path)
