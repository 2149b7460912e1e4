"""The only place that makes a SparkSession, by conf/spark/*.conf: spark-submit brings them, elsewhere they are read here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from millrace import observe
from millrace.config.places import project_root
from millrace.errors import ConfigError


def open_session(name: str) -> SparkSession:
    """The running session, or a new one called `name`. Raises ConfigError where the settings or the Delta jars are missing."""
    builder = SparkSession.builder.appName(f"millrace {name}")
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # not started by spark-submit, which has read the settings and set the paths
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
        java = Path(sys.prefix, "java")
        if java.exists():
            os.environ.setdefault("JAVA_HOME", str(java))
        for key, value in local_settings().items():
            builder = builder.config(key, value)
    with observe.timed("session"):
        return builder.getOrCreate()


def local_settings() -> dict[str, str]:
    """What conf/spark/local.conf says, and the jars of the environment."""
    root = project_root()
    path = root / "conf" / "spark" / "local.conf" if root else None
    if path is None or not path.is_file():
        raise ConfigError(
            "session",
            expected="conf/spark/local.conf in the project's root",
            found="none",
            remedy="Start by spark-submit.sh, or set MILLRACE_ROOT.",
        )
    settings = {}
    for line in path.read_text().splitlines():
        key, _, value = line.strip().partition(" ")
        if key and not key.startswith("#"):
            settings[key] = value.strip()
    jars = sorted(Path(sys.prefix, "jars").glob("*.jar"))
    if not jars:
        raise ConfigError(
            "session", expected="the Delta jars in the environment", found="none", remedy="Run scripts/bootstrap.sh."
        )
    settings["spark.jars"] = ",".join(map(str, jars))
    return settings
