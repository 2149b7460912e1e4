"""Who is silent for too long."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from dataclasses import replace

import pytest

from millrace.config.training import TrainingConfig
from millrace.training.listener import RankState
from millrace.training.watchdog import Watchdog, silent_ranks

CONFIG = TrainingConfig(heartbeat_timeout_seconds=10, first_step_timeout_seconds=120, idle_timeout_seconds=40)


def state(
    rank: int,
    kind: str,
    *,
    ago: float,
    idle: float = 1.0,
    step: int = 5,
    step_seconds: tuple[float, ...] = (0.1,),
    start_seconds: float = 0.0,
) -> RankState:
    """A rank that has said something `ago` seconds ago, and has computed until `idle` seconds ago."""
    heard, busy = 1000.0 - ago, 1000.0 - idle
    seconds = deque(step_seconds)
    return RankState(rank, 1, "host", heard, kind, step=step, step_seconds=seconds, start_seconds=start_seconds, last_busy=busy)


@pytest.mark.parametrize(
    ("states", "silent"),
    [
        ([state(0, "step", ago=9)], []),
        ([state(0, "step", ago=11), state(1, "step", ago=1)], [0]),
        ([state(0, "step", ago=11, step_seconds=(2.0, 2.0, 90.0))], []),  # steps of 2 s: 20 s of silence are allowed
        ([state(0, "step", ago=21, step_seconds=(2.0, 2.0, 90.0))], [0]),
        ([state(0, "hello", ago=100, step=0)], []),  # importing TensorFlow, tracing the graph
        ([state(0, "hello", ago=121, step=0)], [0]),
        ([state(0, "load", ago=100, step=0)], []),
        ([state(0, "load", ago=11)], [0]),
        ([state(0, "hello", ago=100, idle=39, step=0)], []),
        ([state(0, "hello", ago=100, idle=41, step=0)], [0]),  # it neither speaks nor computes
        ([state(0, "hello", ago=39, idle=1000, step=0)], []),
        ([state(0, "start", ago=41, idle=1000, step=0)], [0]),
        ([state(0, "load", ago=41, idle=41, step=0), state(1, "start", ago=60, step=0)], []),  # for one that traces
        ([state(0, "load", ago=41, idle=41, step=0), state(1, "start", ago=60, idle=41, step=0)], [0, 1]),
        ([state(0, "wait", ago=60, idle=60, step=0), state(1, "hello", ago=60, step=0)], []),  # for one that imports
        ([state(0, "wait", ago=60, idle=60, step=0), state(1, "hello", ago=60, idle=41, step=0)], [1]),
        ([state(0, "wait", ago=60, idle=60, step=0), state(1, "wait", ago=39, idle=60, step=0)], []),
        ([state(0, "wait", ago=60, idle=60, step=0), state(1, "wait", ago=41, idle=60, step=0)], [0, 1]),
        ([state(0, "wait", ago=60, idle=60, step=0), state(1, "wait", ago=41, idle=39, step=0)], []),  # one works while it waits
        (
            [state(0, "start", ago=41, idle=41, step=0), state(1, "start", ago=60, step=0)],
            [0],
        ),  # it should have said that it waits
        ([state(0, "epoch", ago=41, idle=39, start_seconds=30.0)], []),
        ([state(0, "epoch", ago=41, idle=41, start_seconds=30.0)], [0]),
        ([state(0, "epoch", ago=41, idle=41, start_seconds=30.0, step_seconds=(5.0,))], []),  # steps of 5 s: 50 s of silence
        ([state(0, "epoch", ago=29, idle=29, start_seconds=15.0)], []),
        ([state(0, "epoch", ago=9)], []),
        ([state(0, "epoch", ago=11)], [0]),
        ([state(0, "epoch", ago=29, start_seconds=15.0)], []),  # it took 15 s to the first step, and may take 30 s to the next
        ([state(0, "epoch", ago=31, start_seconds=15.0)], [0]),
        ([state(0, "epoch", ago=121, start_seconds=100.0)], [0]),
        ([state(0, "step", ago=11, start_seconds=15.0)], [0]),
        ([state(0, "validation", ago=11)], [0]),
        ([state(0, "checkpoint", ago=11)], [0]),
        ([state(0, "checkpoint", ago=1), state(1, "wait", ago=500)], []),  # rank 1 waits for rank 0's checkpoint
        ([state(0, "wait", ago=500), state(1, "wait", ago=1)], []),  # rank 1 has only just come
        ([state(0, "wait", ago=500), state(1, "wait", ago=11)], [0, 1]),
        # a rank in an all-reduce, whose last word was of a row group or a step, and one that is late for it
        ([state(0, "load", ago=0.5), state(1, "load", ago=11)], []),
        ([state(0, "load", ago=0.5), state(1, "step", ago=500)], []),
        ([state(0, "load", ago=9), state(1, "load", ago=9.5), state(2, "step", ago=500)], []),
        ([state(0, "load", ago=0.5, step=0), state(1, "load", ago=121, step=0)], []),  # its first window
        ([state(0, "load", ago=0.5, step=0), state(1, "hello", ago=121, step=0)], [1]),  # it has not come to a step
        ([state(0, "load", ago=9), state(1, "epoch", ago=11)], [1]),
        ([state(0, "load", ago=9), state(1, "validation", ago=11)], [1]),
        ([state(0, "load", ago=11), state(1, "load", ago=500)], [0, 1]),  # nobody speaks any more: one of them hangs
        ([state(0, "step", ago=0.5), state(1, "load", ago=11)], [1]),  # nobody is late
        ([state(0, "wait", ago=0.5), state(1, "step", ago=11)], [1]),
        ([state(0, "validation", ago=0.5), state(1, "step", ago=11)], [1]),
        ([state(0, "load", ago=15, step_seconds=(2.0,)), state(1, "step", ago=500)], []),  # it may take 20 s
        ([state(0, "epoch", ago=25, start_seconds=15.0), state(1, "load", ago=11)], []),  # rank 0 still opens files
        ([state(0, "epoch", ago=31, start_seconds=15.0), state(1, "load", ago=27)], [0, 1]),
        ([state(0, "checkpoint", ago=0.5), state(1, "load", ago=11)], []),
        ([state(0, "done", ago=0.5), state(1, "step", ago=11)], [1]),
        ([state(0, "done", ago=500), state(1, "step", ago=1)], []),
        ([state(0, "error", ago=500)], []),
    ],
)
def test_silent_ranks(states, silent):
    assert list(silent_ranks({state.rank: state for state in states}, CONFIG, 1000.0)) == silent


def test_ranks_that_are_ready_wait_for_one_that_has_not_come():
    states = {rank: state(rank, "ready", ago=60, idle=60, step=0) for rank in (0, 1)}
    assert silent_ranks(states, CONFIG, 1000.0, num_ranks=3) == {}
    assert list(silent_ranks(states, CONFIG, 1000.0, num_ranks=2)) == [0, 1]


def test_whoever_may_be_silent_may_be_idle():
    patient = CONFIG.model_copy(update={"heartbeat_timeout_seconds": 60.0})
    for ago, silent in ((59, []), (61, [0])):
        assert list(silent_ranks({0: state(0, "start", ago=ago, idle=ago, step=0)}, patient, 1000.0)) == silent


class LostServer:
    """A server whose only rank is gone."""

    callback_error = None

    def __init__(self) -> None:
        self.hung_up = threading.Event()

    def states(self) -> dict[int, RankState]:
        return {0: replace(state(0, "step", ago=0), connected=False)}

    def errors(self) -> dict[int, str]:
        return {}

    def hang_up(self) -> None:
        self.hung_up.set()


def test_its_signals_are_counted_as_they_are_sent(monkeypatch):
    sent = []
    monkeypatch.setattr(os, "kill", lambda *call: sent.append(call))
    server = LostServer()
    with Watchdog(server, CONFIG, num_ranks=1) as watchdog:
        server.hung_up.wait(10)
        watchdog._thread.join(10)
    assert (watchdog.num_terminations, sent) == (1, [(os.getpid(), signal.SIGTERM)])


def test_an_attempt_that_has_ended_gets_no_signal(monkeypatch):
    """A SIGTERM from outside has ended the ranks; whoever looks at it afterwards must not take it for the watchdog's."""
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("it sent a signal"))
    server = LostServer()
    with Watchdog(server, CONFIG, num_ranks=1) as watchdog:
        time.sleep(0.5)  # it has seen the loss, and waits for what else the ranks have to say
    assert server.hung_up.is_set()
    assert (watchdog.reason, watchdog.num_terminations) == ("rank 0 ended without a word, after step 5 in epoch 0", 0)
