"""A database's table or query as a source, read by Spark through JDBC.

A database has no files whose content could say what is new. So a night is identified by the URL, the table or query and the
night's date: the same night again is the same rows, for all that the ledger knows, and another night reads again. With
`{night}` in the query it reads what is new in that night; without it all that there is, and the contract's key decides which
rows bronze has already. A column of another type than the contract's (a database's DECIMAL, say) is read value by value: exact,
or the row is broken. User and password are read when the night reads, and are in no address, table or log.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from millrace import observe
from millrace.config.table_sources import JdbcPartition, JdbcSource
from millrace.contracts.evolution import RULES
from millrace.contracts.table import TableContract
from millrace.errors import SourceError
from millrace.lake.ledger import RawFile
from millrace.sources.typed_spark import matched


@dataclass(frozen=True)
class JdbcTable:
    """A table or query as a `RawSource`, for one night."""

    what: str
    """The table's name, or `(SELECT …) name`, as SQL has it after FROM."""
    night: str
    driver: str | None = None
    user_from: str | None = None
    password_from: str | None = None
    partition: JdbcPartition | None = None
    fetch_rows: int = 10_000
    rules: tuple[str, ...] = RULES

    @classmethod
    def of(cls, config: JdbcSource, night: str) -> JdbcTable:
        """By a pipeline's section, for a night."""
        query = None if config.query is None else config.query.strip().rstrip(";").replace("{night}", night)
        return cls(
            what=config.table or f"({query}) millrace_source",
            night=night,
            driver=config.driver,
            user_from=config.user_from,
            password_from=config.password_from,
            partition=config.partition,
            fetch_rows=config.fetch_rows,
        )

    def find(self, path: str) -> list[str]:
        """The one address: the URL. Whether there is such a table shows when it is read."""
        return [path]

    def exists(self, address: str) -> bool:  # noqa: ARG002
        """A database is asked when it is read."""
        return True

    def identify(self, addresses: Sequence[str]) -> tuple[RawFile, ...]:
        """The SHA-256 of URL, table or query, and night; no bytes."""
        return tuple(
            RawFile(address, 0, hashlib.sha256("\n".join([address, self.what, self.night]).encode()).hexdigest())
            for address in addresses
        )

    def stamps(self, addresses: Sequence[str]) -> dict[str, str]:  # noqa: ARG002
        """None: to identify a night's query is cheap."""
        return {}

    def check(self, addresses: Sequence[str], contract: TableContract) -> None:  # noqa: ARG002
        """Raises SourceError where the place of the user or password has none."""
        self._credentials()

    def rows(self, spark: SparkSession, addresses: Sequence[str], contract: TableContract) -> DataFrame:
        """The rows, matched to the contract. Asks the database for the columns at once; SourceError where it refuses."""
        (url,) = addresses
        _check_zone(spark)
        options = {"url": url, "dbtable": self.what, "fetchsize": str(self.fetch_rows), **self._credentials()}
        if self.driver is not None:
            options["driver"] = self.driver
        if self.partition is not None:
            options |= {
                "partitionColumn": self.partition.column,
                "lowerBound": str(self.partition.lower),
                "upperBound": str(self.partition.upper),
                "numPartitions": str(self.partition.num_partitions),
            }
        try:
            rows = spark.read.format("jdbc").options(**options).load()
        except (Py4JJavaError, PySparkException) as error:
            raise _refused(url, self.what, error, options.get("password")) from None
        return matched(rows, contract, url, by_value=True)

    def _credentials(self) -> dict[str, str]:
        places = {"user": self.user_from, "password": self.password_from}
        return {name: _value(name, place) for name, place in places.items() if place is not None}


def _check_zone(spark: SparkSession) -> None:
    """Raises SourceError where Java is not in UTC, as conf/spark has it: to a driver a timestamp without a zone is of Java's."""
    assert spark.sparkContext._jvm is not None
    zone = spark.sparkContext._jvm.java.util.TimeZone.getDefault()
    if zone.getRawOffset() or zone.useDaylightTime():
        raise SourceError(
            "ingest",
            expected="Java in the time zone UTC, so that a database's timestamps are the same on any machine",
            found=zone.getID(),
            remedy="Add -Duser.timezone=UTC to spark.driver.extraJavaOptions and spark.executor.extraJavaOptions.",
        )


def _value(name: str, place: str) -> str:
    kind, _, where = place.partition(":")
    if kind == "env":
        found = os.environ.get(where)
    else:
        try:
            found = Path(where).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError:
            found = None
    if not found:
        raise SourceError(
            "ingest",
            expected=f"the database's {name} in {'the environment variable ' if kind == 'env' else 'the file '}{where}",
            found="none",
            remedy=f"Set it, or change source.{name}_from.",
        )
    return found


def _refused(url: str, what: str, error: Py4JJavaError | PySparkException, password: str | None) -> SourceError:
    cause, state = _root(error)
    if password:
        cause = cause.replace(password, "***")
    is_connection = state.startswith("08") and state != "08004"
    if "ClassNotFoundException" in cause or "No suitable driver" in cause:
        remedy = "Put the driver's jar on Spark's class path (spark.jars), and name its class by source.driver."
    elif state.startswith("28") or state == "08004":
        remedy = "Check source.user_from and source.password_from."
    elif is_connection:
        remedy = "See that the database runs and can be reached from here; then run the night again."
    else:
        remedy = "Check source.path, table and query."
    return SourceError(
        "ingest",
        expected=f"to read {what} from {observe.mask(url)}",
        found=observe.mask(" ".join(cause.split())[:300]),
        remedy=remedy,
        retry=is_connection,
    )


def _root(error: Py4JJavaError | PySparkException) -> tuple[str, str]:
    """The first cause as text, and its SQLSTATE."""
    cause: Any = error.java_exception if isinstance(error, Py4JJavaError) else getattr(error, "_origin", None)
    if cause is None:
        return str(error), ""
    state = ""
    while True:
        if cause.getClass().getName().startswith("java.sql.") and not state:
            state = (cause.getSQLState() or "").strip()  # Hive's has a space before it
        if cause.getCause() is None or state:
            break
        cause = cause.getCause()
    return str(cause.toString()), state
