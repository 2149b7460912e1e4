"""How long training on Spark takes to start: `python -m bench.training_start DIRECTORY`.

Prints {"session", "1_worker", "2_workers", "2_workers_again"}: seconds until Spark's session stands, and from calling
`train_on_spark` to the end of the first step, which compiles the graph.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from bench.training_peers import request_for
from millrace.session import open_session
from millrace.training.launch import train_on_spark

BATCH = 128


def main() -> None:
    """One start of each."""
    directory = Path(sys.argv[1])
    began = time.perf_counter()
    spark = open_session("bench", {"spark.master": "local[2]", "spark.ui.enabled": "false"})
    seconds = {"session": time.perf_counter() - began}
    for name, num_workers in (("1_worker", 1), ("2_workers", 2), ("2_workers_again", 2)):
        request = request_for(
            "mlp",
            threads=1,
            batch=BATCH,
            table=str(directory / "digits"),
            checkpoints=str(directory / f"start-{name}"),
            epochs=1,
            num_workers=num_workers,
        )
        seconds[name] = _first_step(spark, request)
    spark.stop()
    print(json.dumps(seconds))


def _first_step(spark: Any, request: Any) -> float:
    """Seconds to the first step of rank 0."""
    steps: list[float] = []

    def note(event: Any) -> None:
        if event["kind"] == "step" and not steps:
            steps.append(time.perf_counter())

    began = time.perf_counter()
    train_on_spark(spark, request, on_event=note)
    return steps[0] - began


if __name__ == "__main__":
    main()
