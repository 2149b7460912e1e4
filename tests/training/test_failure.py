"""Who is to blame, and whether a restart may help."""

from __future__ import annotations

import pytest

from millrace.config.training import TrainingConfig
from millrace.errors import ContractError, LakeError, TrainingError
from millrace.training.failure import _blame, explain
from millrace.training.heartbeat import Heartbeat
from millrace.training.listener import HeartbeatServer, RankState
from millrace.training.watchdog import Watchdog
from tests.training.test_heartbeat import wait_for


def state(rank: int, kind: str = "step", *, connected: bool = True, reacted: bool = True, waits: bool = False) -> RankState:
    return RankState(rank, 1, "host", 0.0, kind=kind, connected=connected, reacted=reacted, waits=waits)


@pytest.mark.parametrize(
    ("states", "silent", "blamed"),
    [
        ([state(0), state(1)], [], []),
        ([state(0), state(1, connected=False)], [], [1]),
        ([state(0, "error", connected=False), state(1)], [], []),  # it has said why
        ([state(0, "done", connected=False), state(1, reacted=False)], [], [1]),
        ([state(0, reacted=False), state(1, connected=False)], [0], [1]),  # gone comes before frozen, frozen before silent
        ([state(0, waits=True), state(1, reacted=False)], [0, 1], [1]),
        ([state(0, waits=True), state(1)], [0, 1], [1]),  # rank 0 was in an all-reduce, rank 1 was not
        ([state(0), state(1, waits=True)], [0, 1], [0]),
        ([state(0, waits=True), state(1, waits=True)], [0, 1], [0, 1]),
        ([state(0), state(1)], [1], [1]),
    ],
)
def test_blame(states, silent, blamed):
    assert [each.rank for each in _blame({each.rank: each for each in states}, silent)] == blamed


def failure_of(error: str, *, collective: bool = False, output: str = ""):
    """What is made of an `error` event of rank 1."""
    with HeartbeatServer("127.0.0.1") as server:
        watchdog = Watchdog(server, TrainingConfig(), num_ranks=2)
        link = Heartbeat(server.address, server.token, 1)
        link.send("error", error=error, collective=collective)
        wait_for(server.errors)
        link.close()
        return explain(RuntimeError("Horovod says little"), server, watchdog, output)


def test_other_exceptions_come_whole_and_are_not_tried_again():
    failure = failure_of("Traceback (most recent call last):\n  ...\nValueError: password=hunter2")
    assert str(failure.error) == (
        "training: expected every rank to finish; found this in rank 1:\n"
        "Traceback (most recent call last):\n  ...\nValueError: password=***\n. "
        "If it is not a mistake in the code, run again; training goes on from its last checkpoint."
    )
    assert not failure.may_pass


@pytest.mark.parametrize("retry", [False, True])
def test_errors_of_ours_say_themselves_whether_a_restart_may_help(retry):
    failure = failure_of(LakeError("loading", expected="a", found="s3://k:hunter2@b", remedy="c.", retry=retry).to_wire())
    assert (type(failure.error), str(failure.error)) == (LakeError, "loading: expected a; found s3://k:***@b. c.")
    assert failure.may_pass is retry


def test_cause_counts_and_not_its_consequence():
    with HeartbeatServer("127.0.0.1") as server:
        watchdog = Watchdog(server, TrainingConfig(), num_ranks=2)
        links = [Heartbeat(server.address, server.token, rank) for rank in (0, 1)]
        links[0].send("error", error="Horovod has been shut down", collective=True)
        wait_for(server.errors)
        links[1].send("error", error=ContractError("x", expected="a", found="b", remedy="c.").to_wire(), collective=False)
        wait_for(lambda: len(server.errors()) == 2)
        for link in links:
            link.close()
        assert isinstance(explain(RuntimeError(), server, watchdog, "").error, ContractError)


def test_only_consequences_are_known():
    text = "Traceback (most recent call last):\n  ...\nHorovodInternalError: connection closed by peer"
    failure = failure_of(text, collective=True, output="Killed api_key=hunter2")
    assert isinstance(failure.error, TrainingError)
    assert failure.error.found == (
        "rank 1 lost the others (HorovodInternalError: connection closed by peer); "
        "the workers' last output was:\nKilled api_key=***\n"
    )
    assert failure.may_pass


def test_worker_that_could_not_reach_the_driver_is_heard_by_its_output():
    error = TrainingError("training", expected="to reach it", found="s3://k:hunter2@b", remedy="Do.", retry=True)
    with HeartbeatServer("127.0.0.1") as server:
        watchdog = Watchdog(server, TrainingConfig(), num_ranks=2)
        failure = explain(RuntimeError("code 1"), server, watchdog, f"[0]<stderr>:{error.to_wire()}\n[1]<stderr>:more")
    assert str(failure.error) == "training: expected to reach it; found s3://k:***@b. Do."
    assert failure.reason == "a worker failed: expected to reach it; found s3://k:***@b"
    assert failure.may_pass


def test_nothing_known_but_what_horovod_says():
    with HeartbeatServer("127.0.0.1") as server:
        failure = explain(
            TimeoutError("Timed out waiting for tasks"), server, Watchdog(server, TrainingConfig(), num_ranks=2), ""
        )
    assert failure.error.found == "TimeoutError: Timed out waiting for tasks"
    assert failure.may_pass
