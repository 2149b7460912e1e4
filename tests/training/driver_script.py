"""A driver that trains for long, to be killed. Prints the pids of its JVM and of its workers, one line each."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from millrace.training.launch import start_parent_watchdog, train_on_spark
from millrace.training.request import TrainRequest


def main() -> None:
    if Path(sys.prefix, "java").exists():
        os.environ["JAVA_HOME"] = str(Path(sys.prefix, "java"))
    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    watchdog = start_parent_watchdog()
    print("jvm", session.sparkContext._gateway.proc.pid, flush=True)  # noqa: T201
    told = set()

    def tell(event):
        if event["kind"] == "hello":
            print("worker", event["pid"], flush=True)  # noqa: T201
        if event["kind"] == "step" and "step" not in told:
            told.add("step")
            print("training", flush=True)  # noqa: T201

    train_on_spark(session, TrainRequest.from_json(Path(sys.argv[1]).read_text()), on_event=tell)
    watchdog.stop()


main()
