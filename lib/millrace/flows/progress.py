"""Progress of Spark's stages, from its status tracker, by a thread that asks twice a second."""

from __future__ import annotations

import threading

from pyspark.sql import SparkSession

from millrace import observe

_EVERY_SECONDS = 0.5


def spark_progress(spark: SparkSession) -> None:
    """From now on shows which stages run. Ends with the session."""
    tracker = spark.sparkContext.statusTracker()

    def watch() -> None:
        while True:
            threading.Event().wait(_EVERY_SECONDS)
            try:
                stages = [tracker.getStageInfo(number) for number in tracker.getActiveStageIds()]
            except Exception:
                return  # the session has ended
            running = [stage for stage in stages if stage is not None]
            if running and not observe.is_quiet():
                done, total = sum(stage.numCompletedTasks for stage in running), sum(stage.numTasks for stage in running)
                observe.progress(f"{done} of {total} Spark tasks")
            elif not running and not observe.is_quiet():
                observe.clear_progress()

    threading.Thread(target=watch, name="millrace-spark-progress", daemon=True).start()
