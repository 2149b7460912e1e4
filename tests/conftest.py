"""One Spark session for all tests, and an empty lake for each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from millrace.lake.layout import Lake
from millrace.session import open_session


def pytest_configure(config: pytest.Config) -> None:
    """Py4J leaves its sockets to the garbage collector; the socket of any other peer is still an error."""
    config.addinivalue_line("filterwarnings", r"ignore:unclosed <socket\.socket.*127\.0\.0\.1:ResourceWarning")


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The settings that ship, on four task slots so that four workers fit, and as few tasks as show what a shuffle does."""
    os.environ["PYARROW_IGNORE_TIMEZONE"] = "1"  # pyspark.testing brings in pyspark.pandas, which warns without it
    settings = {
        "spark.master": "local[4]",
        "spark.sql.shuffle.partitions": "2",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.ui.enabled": "false",
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
    }
    session = open_session("tests", settings)
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake that is not there yet."""
    return Lake.at(str(tmp_path / "lake"))
