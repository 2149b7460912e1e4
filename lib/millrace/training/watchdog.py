"""Ends what would hang: an attempt whose ranks fall silent, and a driver whose JVM is gone."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from millrace.config.models import TrainingConfig
from millrace.training.heartbeat import HeartbeatServer, RankState

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 1.0  # for what else the ranks have to say about a failure
_STEPS_OF_SILENCE = 10


def silent_ranks(states: Mapping[int, RankState], config: TrainingConfig, now: float) -> dict[int, float]:
    """Ranks that have said nothing for longer than they may, with their seconds of silence.

    After a step a rank may be silent for heartbeat_timeout_seconds or ten of its median steps, whichever is longer, and before
    the first step of an epoch for first_step_timeout_seconds. A rank that waits for the others is not to blame, unless all wait.
    """
    working = {rank: state for rank, state in states.items() if state.kind not in ("done", "error")}
    all_wait = all(state.kind == "wait" for state in working.values())
    silent = {}
    for rank, state in working.items():
        if state.kind == "wait" and not all_wait:
            continue
        if state.kind in ("load", "step", "validation", "checkpoint") and state.step:
            limit = max(config.heartbeat_timeout_seconds, _STEPS_OF_SILENCE * state.median_step_seconds)
        else:
            limit = config.first_step_timeout_seconds
        if now - state.last_heard > limit:
            silent[rank] = now - state.last_heard
    return silent


class Watchdog:
    """Watches one attempt from a thread of its own and aborts it once. Use as a context manager.

    To abort it hangs up, which ends every worker that can still end itself, and sends SIGTERM to this process: Horovod's handler
    then ends the rest on the executors.
    """

    def __init__(self, server: HeartbeatServer, config: TrainingConfig, *, num_ranks: int) -> None:
        self._server, self._config, self._num_ranks = server, config, num_ranks
        self._stop = threading.Event()
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name="millrace-watchdog", daemon=True)
        self.reason: str | None = None
        """Why the attempt was aborted; None where it was not."""
        self.aborted_at = 0.0
        """When it was aborted, of time.monotonic()."""

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            reason = self._find_fault()
            if reason is None:
                continue
            self._stop.wait(_GRACE_SECONDS)
            self.reason, self.aborted_at = reason, time.monotonic()
            self._server.hang_up()
            if not self._stop.is_set():
                os.kill(os.getpid(), signal.SIGTERM)
            return

    def _find_fault(self) -> str | None:
        states, now = self._server.states(), time.monotonic()
        if self._server.errors():
            return "a rank has failed"
        if self._server.callback_error is not None:
            return "the progress callback has failed"
        lost = [state for state in states.values() if not state.connected and state.kind not in ("done", "error")]
        if lost:
            return describe(lost, now)
        if len(states) < self._num_ranks and now - self._started > self._config.start_timeout_seconds:
            return f"{len(states)} of {self._num_ranks} workers had started after {self._config.start_timeout_seconds} s"
        silent = silent_ranks(states, self._config, now)
        if silent:
            return describe([states[rank] for rank in silent], now)
        return None


def describe(states: Sequence[RankState], now: float) -> str:
    """What is wrong with ranks that are gone or silent, and where they were."""
    faults = []
    for state in states:
        place = f"after step {state.step} in epoch {state.epoch}" if state.step else "before its first step"
        silence = f"said nothing for {now - state.last_heard:.0f} s" if state.connected else "ended without a word"
        faults.append(f"rank {state.rank} {silence}, {place}")
    return " and ".join(faults)


class ParentWatchdog:
    """Ends this process with exit code 1 when what it lives for is gone, from a thread of its own."""

    def __init__(self, is_alive: Callable[[], bool], *, what: str) -> None:
        self._is_alive, self._what = is_alive, what
        self._stop = threading.Event()
        threading.Thread(target=self._watch, name="millrace-parent-watch", daemon=True).start()

    def stop(self) -> None:
        """Stops watching."""
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            if not self._is_alive() and not self._stop.is_set():
                sys.stderr.write(f"millrace: {self._what} is gone, so this driver ends\n")
                sys.stderr.flush()
                os._exit(1)
