"""The only place that makes a SparkSession, by conf/spark/*.conf: spark-submit brings them, elsewhere they are read here."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pyspark
from pyspark.sql import SparkSession

from millrace import observe
from millrace.config.places import project_root
from millrace.errors import ConfigError

_SETTINGS = Path("conf", "spark", "local.conf")


def open_session(name: str, settings: Mapping[str, str] | None = None) -> SparkSession:
    """The running session, or a new one called `name`; `settings` are put over the file's.

    Raises ConfigError where the settings are missing.
    """
    builder = SparkSession.builder.appName(f"millrace {name}")
    chosen = dict(settings or {})
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # not started by spark-submit, which has read the settings and set the paths
        root = _root()
        _set_paths(root)
        warehouse = Path(tempfile.gettempdir(), f"millrace-warehouse-{os.getpid()}")
        chosen = {"spark.sql.warehouse.dir": str(warehouse), **local_settings(root), **chosen}
    for key, value in chosen.items():
        builder = builder.config(key, value)
    with observe.timed("session"):
        return builder.getOrCreate()


def local_settings(root: Path) -> dict[str, str]:
    """What conf/spark/local.conf says."""
    settings = {}
    for line in (root / _SETTINGS).read_text().splitlines():
        key, _, value = line.strip().partition(" ")
        if key and not key.startswith("#"):
            settings[key] = value.strip()
    return settings


def _root() -> Path:
    root = project_root()
    if root is None or not (root / _SETTINGS).is_file():
        raise ConfigError(
            "session",
            expected=f"{_SETTINGS} in the project's root",
            found="none",
            remedy="Start by spark-submit.sh, or set MILLRACE_ROOT.",
        )
    return root


def _set_paths(root: Path) -> None:
    """What spark-submit.sh sets for its jobs: the environment's own Python, Java and Spark, whose jars hold Delta."""
    spark_home = Path(pyspark.__file__).parent
    java = Path(sys.prefix, "java")
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["SPARK_HOME"] = str(spark_home)
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    os.environ["LOG4J_CONFIGURATION_FILE"] = f"file:{root / 'conf' / 'spark' / 'log4j2.properties'}"
    if java.exists():
        os.environ["JAVA_HOME"] = str(java)
