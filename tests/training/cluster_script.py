"""A driver on a cluster of two executors in processes of their own: does the trainings of a file, one after the other.

The argument is a JSON file: out (where the results go) and runs, each with request (a TrainRequest as JSON), planted (a directory
for the workers' PYTHONPATH) and take_executor (after which step of the first run's events an executor is taken away for good).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from faults import ctrl_c_works, no_process_is_left  # it is submitted as a script: its own directory is on the path
from pyspark.sql import SparkSession

from millrace import observe
from millrace.errors import MillraceError
from millrace.flows.job import take_signals
from millrace.training.launch import train_on_spark
from millrace.training.request import TrainRequest


def take_executor(spark: SparkSession) -> None:
    """Spark kills one executor and starts no other."""
    scala = spark.sparkContext._jsc.sc()
    spark.sparkContext._jsc.sc().killExecutor(scala.getExecutorIds().apply(0))


def train(spark: SparkSession, run: dict[str, Any]) -> dict[str, Any]:
    """One training: its result or its error, when which worker said hello, what is left of them, and whether Ctrl-C works."""
    spark.sparkContext.environment["PYTHONPATH"] = run["planted"]
    hellos: list[float] = []
    taken: list[float] = []
    environments: list[str] = []
    pids: list[int] = []

    def hear(event: Any) -> None:
        if event["kind"] == "hello":
            hellos.append(time.time())
            pids.append(event["pid"])
            environments.append(Path(f"/proc/{event['pid']}/environ").read_text())
        if event["kind"] == "step" and event["step"] == run.get("take_executor") and not taken:
            taken.append(time.time())
            take_executor(spark)

    outcome: dict[str, Any] = {}
    try:
        outcome["result"] = train_on_spark(spark, TrainRequest.from_json(json.dumps(run["request"])), on_event=hear).to_json()
    except MillraceError as error:
        outcome["error"] = str(error)
        observe.LOG.error("%s", error)
    outcome |= {"left": still_there(pids), "clean": no_process_is_left(Path(run["planted"])), "ctrl_c": ctrl_c_works()}
    return outcome | {"hellos": hellos, "taken": taken, "environments": environments}


def still_there(pids: list[int]) -> list[int]:
    """Workers that do not end by themselves within some seconds, also those whose executor is gone."""
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=10)
    return [process.pid for process in alive]


def main() -> None:
    """Does all runs and writes what came of them."""
    take_signals()
    observe.configure()
    plan = json.loads(Path(sys.argv[1]).read_text())
    spark = SparkSession.builder.appName("tests").getOrCreate()
    take_signals()
    with observe.log_file(Path(plan["out"]).with_name("log.jsonl")):
        outcomes = []
        for run in plan["runs"]:
            outcomes.append(train(spark, run))
            Path(plan["out"]).write_text(json.dumps(outcomes))
    spark.stop()


main()
