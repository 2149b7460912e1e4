"""The line between driver and workers, over real sockets and real processes."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from millrace.training.heartbeat import EXIT_DRIVER_LOST, Heartbeat
from millrace.training.listener import HeartbeatServer

WORKER = """
import sys, time
from millrace.training.heartbeat import Heartbeat
link = Heartbeat(("127.0.0.1", int(sys.argv[1])), sys.argv[2], 1)
link.send("step", epoch=1, step=1)
time.sleep(60)
"""


def wait_for(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def test_events_arrive_in_order_and_what_happens_often_from_rank_0_only():
    events = []
    with HeartbeatServer("127.0.0.1", events.append) as server:
        links = [Heartbeat(server.address, server.token, rank) for rank in (0, 1)]
        for link in links:
            for step in (1, 2, 3):
                link.send("step", epoch=1, step=step, loss=0.5)
            link.send("epoch", epoch=1, step=3, metrics=[])
            link.close()
        wait_for(lambda: [state.kind for state in server.states().values()] == ["done", "done"])
        states = server.states()
    assert [event["kind"] for event in events if event["rank"] == 0] == ["hello", "step", "step", "step", "epoch", "done"]
    assert [event["kind"] for event in events if event["rank"] == 1] == ["hello", "epoch", "done"]
    assert [(state.epoch, state.step, len(state.step_seconds)) for state in states.values()] == [(1, 3, 2), (1, 3, 2)]
    assert all("proof" not in event for event in events)


def test_ranks_that_are_ready_wait_until_all_are():
    with HeartbeatServer("127.0.0.1", num_ranks=2) as server:
        links = [Heartbeat(server.address, server.token, rank) for rank in (0, 1)]
        waiting = [threading.Thread(target=link.wait_for_others, daemon=True) for link in links]
        waiting[0].start()
        wait_for(lambda: 0 in server.states() and server.states()[0].kind == "ready")
        waiting[0].join(0.5)
        assert waiting[0].is_alive()
        waiting[1].start()
        for thread in waiting:
            thread.join(10)
            assert not thread.is_alive()
        for link in links:
            link.close()


def test_what_another_thread_says_is_no_sign_of_training():
    events = []
    with HeartbeatServer("127.0.0.1", events.append) as server:
        link = Heartbeat(server.address, server.token, 0)
        wait_for(lambda: 0 in server.states())
        heard = server.states()[0].last_heard
        link.send("busy")
        wait_for(lambda: server.states()[0].last_busy > heard)
        assert (server.states()[0].kind, server.states()[0].last_heard) == ("hello", heard)
        link.close()
    assert [event["kind"] for event in events] == ["hello", "done"]


def test_worker_ends_at_once_when_the_driver_hangs_up():
    with HeartbeatServer("127.0.0.1") as server:
        worker = subprocess.Popen([sys.executable, "-c", WORKER, str(server.address[1]), server.token])
        wait_for(lambda: server.states().get(1) is not None and server.states()[1].step == 1)
        server.hang_up()
        assert worker.wait(timeout=10) == EXIT_DRIVER_LOST
        state = server.states()[1]
        assert (state.connected, state.reacted) == (True, True)
        assert 'File "<string>", line 6, in <module>' in state.stack  # where it slept
        assert (state.waits, state.kind) == (False, "step")


def test_process_that_stands_still_is_told_from_one_that_waits():
    with HeartbeatServer("127.0.0.1") as server:
        command = [sys.executable, "-c", WORKER, str(server.address[1]), server.token]
        with subprocess.Popen(command) as worker:
            wait_for(lambda: server.states().get(1) is not None and server.states()[1].step == 1)
            worker.send_signal(signal.SIGSTOP)
            server.hang_up()
            assert (server.states()[1].connected, server.states()[1].reacted) == (True, False)
            worker.kill()


def test_killed_worker_is_noticed():
    with HeartbeatServer("127.0.0.1") as server:
        worker = subprocess.Popen([sys.executable, "-c", WORKER, str(server.address[1]), server.token])
        wait_for(lambda: 1 in server.states())
        worker.kill()
        worker.wait()
        wait_for(lambda: not server.states()[1].connected)


def test_stranger_without_the_token_is_shut_out():
    events = []
    with HeartbeatServer("127.0.0.1", events.append) as server:
        with socket.create_connection(server.address, timeout=10) as stranger:
            stranger.recv(4096)
            stranger.sendall(b'{"rank": 0, "kind": "hello", "pid": 1, "host": "h", "proof": "guessed"}\n')
            assert stranger.recv(4096) == b""
        with socket.create_connection(server.address, timeout=10) as stranger:
            stranger.recv(4096)
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert stranger.recv(4096) == b""
        assert server.states() == {}
    assert events == []


def test_error_event_is_kept():
    with HeartbeatServer("127.0.0.1") as server:
        link = Heartbeat(server.address, server.token, 0)
        link.send("error", error="Traceback ...", collective=False)
        wait_for(server.errors)
        assert server.errors() == [{"rank": 0, "kind": "error", "error": "Traceback ...", "collective": False}]
        link.close()


def test_callback_that_raises_is_not_called_again():
    calls = []

    def fail(event):
        calls.append(event)
        raise ValueError("broken display")

    with HeartbeatServer("127.0.0.1", fail) as server:
        link = Heartbeat(server.address, server.token, 0)
        link.send("epoch", epoch=1)
        link.close()
        wait_for(lambda: server.callback_error is not None)
    assert len(calls) == 1
    assert str(server.callback_error) == "broken display"


def test_slow_callback_does_not_make_a_rank_look_silent():
    hold = threading.Event()
    with HeartbeatServer("127.0.0.1", lambda _: hold.wait(10)) as server:
        link = Heartbeat(server.address, server.token, 0)
        link.send("step", epoch=1, step=1)
        wait_for(lambda: server.states().get(0) is not None and server.states()[0].kind == "step")
        hold.set()
        link.close()


def test_unreachable_driver():
    with HeartbeatServer("127.0.0.1") as server:
        address = server.address
    with pytest.raises(ConnectionRefusedError):
        Heartbeat(address, "token", 0)
