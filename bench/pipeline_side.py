"""A warm session that runs steps of a pipeline as the jobs do, in a process of its own: arguments SETTING=VALUE of Spark."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bench.preprocess_tokens_sides import cpu_seconds
from bench.workers import serve

STEPS = ("ingest", "preprocess")


class Side:
    """The session, and what it has done."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = dict(settings)

    def start(self) -> float:
        """Opens the session. Its seconds."""
        from millrace.session import open_session

        started = time.perf_counter()
        self._spark = open_session("bench", self._settings)
        self._spark.sparkContext.setLogLevel("OFF")
        self._spark.range(1).count()
        return time.perf_counter() - started

    def night(self, options: Sequence[str]) -> dict[str, Any]:
        """Runs the steps with a job's command line. Seconds of each, as a user waits for it, what all processes have computed
        meanwhile (it tells most where others use the machine too), and how many jobs Spark ran.

        Raises RuntimeError where a step does not end well."""
        from millrace.flows import ingest, preprocess
        from millrace.flows.job import run
        from millrace.flows.nightly import only

        flows = dict(zip(STEPS, (only(ingest.step), only(preprocess.step)), strict=True))
        answer: dict[str, Any] = {}
        for name, flow in flows.items():
            num_jobs, computed, started = self._num_jobs(), cpu_seconds(), time.perf_counter()
            code = run(flow, "", list(options), spark=self._spark)
            if code:
                raise RuntimeError(f"{name} {' '.join(options)} has ended with {code}")
            answer[name] = time.perf_counter() - started
            answer[f"{name}/cpu_seconds"] = cpu_seconds() - computed
            answer[f"{name}/num_jobs"] = self._num_jobs() - num_jobs
        return answer

    def _num_jobs(self) -> int:
        """Jobs that Spark has begun in this session."""
        return int(self._spark.sparkContext._jsc.sc().dagScheduler().nextJobId())


def main() -> None:
    """Answers {"ask": start} and {"ask": night, "options": [...]}."""
    side = Side(dict(setting.partition("=")[::2] for setting in sys.argv[1:]))

    def answer(*, ask: str, options: Sequence[str] = ()) -> Mapping[str, Any]:
        return {"seconds": side.start()} if ask == "start" else side.night(options)

    serve(answer)


if __name__ == "__main__":
    main()
