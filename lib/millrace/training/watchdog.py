"""Ends what would hang: an attempt whose ranks fall silent, and a driver whose JVM is gone."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from millrace.config.training import TrainingConfig
from millrace.training.listener import HeartbeatServer, RankState

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 1.0  # for what else the ranks have to say about a failure
_STEPS_OF_SILENCE = 10
_STARTS_OF_SILENCE = 2
_WAITS = ("ready", "wait")
_AT_STEPS = ("load", "step")
_BEFORE_A_STEP = ("load", "epoch", "checkpoint", "hello", "start", "log")  # what a rank may do while others wait in a step


def silent_ranks(
    states: Mapping[int, RankState], config: TrainingConfig, now: float, *, num_ranks: int | None = None
) -> dict[int, float]:
    """Ranks that have said nothing for longer than they may, with their seconds of silence. `num_ranks`: all there are to be,
    those too that have not been heard of.

    After a step a rank may be silent for heartbeat_timeout_seconds or ten of its median steps, whichever is longer; before its
    first step for first_step_timeout_seconds. Between epochs it plans, opens files and traces graphs again: there it may take
    twice as long as it took to its first step. Those two are for ranks that compute: one that neither speaks nor computes hangs,
    and may do so for idle_timeout_seconds. A rank that waits for the others is not to blame, unless all wait:
    that counts from when the last of them began. One that loads or steps says nothing in the all-reduce where it waits, so it is
    not to blame as long as another one, on its way to the same step, still does something and says so.
    """
    working = {rank: state for rank, state in states.items() if state.kind not in ("done", "error")}
    all_wait = len(states) == (num_ranks or len(states)) and all(state.kind in _WAITS for state in working.values())
    if all_wait:
        heard = max((state.last_heard for state in working.values()), default=now)
        busy = max((state.last_busy for state in working.values()), default=now)
        working = {rank: replace(state, last_heard=heard, last_busy=busy) for rank, state in working.items()}
    silences = {rank: now - state.last_heard for rank, state in working.items() if state.kind not in _WAITS or all_wait}
    silent = {rank: silence for rank, silence in silences.items() if _is_silent(working[rank], silence, config, now)}
    late = any(working[rank].kind in _BEFORE_A_STEP for rank in silences.keys() - silent.keys())
    return {rank: silence for rank, silence in silent.items() if not (late and working[rank].kind in _AT_STEPS)}


def _is_silent(state: RankState, silence: float, config: TrainingConfig, now: float) -> bool:
    busy, idle = _limits(state, config)
    return silence > busy or min(silence, now - state.last_busy) > idle


def _limits(state: RankState, config: TrainingConfig) -> tuple[float, float]:
    """Seconds of silence that a rank may take: all in all, and without computing anything."""
    limit = max(config.heartbeat_timeout_seconds, _STEPS_OF_SILENCE * state.median_step_seconds)
    if not state.step:
        return max(limit, config.first_step_timeout_seconds), max(limit, config.idle_timeout_seconds)
    if state.kind in _AT_STEPS:
        return limit, limit
    start = min(_STARTS_OF_SILENCE * state.start_seconds, config.first_step_timeout_seconds)
    return max(limit, start), max(limit, min(start, config.idle_timeout_seconds))


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
        self.num_terminations = 0
        """How often it has sent SIGTERM to this process."""
        self.silent: tuple[int, ...] = ()
        """The ranks that it was aborted for because they said nothing."""

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
                self.num_terminations += 1
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
        silent = silent_ranks(states, self._config, now, num_ranks=self._num_ranks)
        if silent:
            self.silent = tuple(silent)
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
