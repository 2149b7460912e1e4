"""A driver under whatever Java JAVA_HOME names: ingests and preprocesses pipelines, and makes row ids of keys of all types.

The argument is a JSON file: lake, night, pipelines, and out, where the answer goes: the Java's version, the keys' ids and splits.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
from pathlib import Path

import pyspark
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from millrace.config.splitting import HashSplit
from millrace.flows import ingest, preprocess
from millrace.flows.job import run
from millrace.flows.nightly import only
from millrace.session import local_settings
from millrace.transforms.identity import row_id
from millrace.transforms.split import split_of

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = StructType()
for kind in ("byte", "short", "integer", "long", "string", "binary", "date", "timestamp"):
    SCHEMA = SCHEMA.add(f"of_{kind}", kind)
_LEAST = {8: -(2**7), 16: -(2**15), 32: -(2**31), 64: -(2**63)}


def keys() -> list[tuple[object, ...]]:
    """Ends of all ranges, NULL in every place, texts and bytes of all kinds, dates and times around the calendars' changes."""
    low = (*_LEAST.values(), "", b"", datetime.date(1, 1, 1), datetime.datetime(1, 1, 1, tzinfo=datetime.UTC))
    high = (
        *(-least - 1 for least in _LEAST.values()),
        "\U0010ffff\x00é e\u0301 北京 \U0001f600",
        bytes(range(256)),
        datetime.date(9999, 12, 31),
        datetime.datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=datetime.UTC),
    )
    middle = (
        0,
        -1,
        10,
        1_000_000_007,
        "a\n\t'\"\\,",
        b"\x00",
        datetime.date(1582, 10, 15),
        datetime.datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=datetime.UTC),
    )
    gaps = [tuple(None if place == gap else value for place, value in enumerate(middle)) for gap in range(len(middle))]
    return [low, high, middle, *gaps, (None,) * len(middle)]


def ids_and_splits(spark: SparkSession) -> list[list[str]]:
    """Of all keys, in their order."""
    fractions = {"train": 0.4, "validation": 0.3, "test": 0.3}
    split = HashSplit.model_validate({"key": SCHEMA.names, "seed": 3, "fractions": fractions})
    rows = spark.createDataFrame(keys(), SCHEMA).select(
        row_id(SCHEMA, SCHEMA.names).alias("id"), split_of(SCHEMA, split).alias("s")
    )
    return [[row["id"], row["s"]] for row in rows.collect()]


def main() -> None:
    """Does what the plan says."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    os.environ |= {"SPARK_HOME": str(Path(pyspark.__file__).parent), "SPARK_LOCAL_IP": "127.0.0.1"}
    os.environ |= {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    os.environ["LOG4J_CONFIGURATION_FILE"] = f"file:{ROOT / 'conf' / 'spark' / 'log4j2.properties'}"
    builder = SparkSession.builder
    warehouse = {"spark.sql.warehouse.dir": str(Path(plan["lake"]).with_name("warehouse"))}
    for key, value in {**local_settings(ROOT), **warehouse}.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    answer = {
        "java": spark.sparkContext._jvm.System.getProperty("java.version"),  # type: ignore[union-attr]
        "keys": ids_and_splits(spark),
    }
    for name in plan["pipelines"]:
        options = ["--pipeline", name, "--lake", plan["lake"], "--night", plan["night"], "--set", "quality.max_reject_ratio=1"]
        codes = [run(only(step), "", options, spark=spark) for step in (ingest.step, preprocess.step)]
        assert codes == [0, 0], f"{name}: {codes}"
    Path(plan["out"]).write_text(json.dumps(answer))
    spark.stop()


if __name__ == "__main__":
    main()
