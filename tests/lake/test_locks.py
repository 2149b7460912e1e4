"""Locks between processes: who holds one is named, and a dead holder holds nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from millrace.errors import LakeError
from millrace.lake import locks
from millrace.lake.layout import Lake

HOLD = """
import sys
from millrace.lake import locks
from millrace.lake.layout import Lake
with locks.exclusive(Lake.at(sys.argv[1]), "pipeline-tiny", run_id="tiny-2026-11-22-c0ffee00"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(lake: Lake) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, lake.uri]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def take(lake: Lake, name: str = "pipeline-tiny") -> None:
    with locks.exclusive(lake, name, run_id="mine"):
        pass


def test_a_second_process_is_refused_until_the_first_is_killed(lake: Lake) -> None:
    with another_process(lake) as holder:
        with pytest.raises(LakeError) as caught:
            take(lake)
        message, _, rest = str(caught.value).partition(", since ")
        assert message == (
            f"lock: expected the lock pipeline-tiny; found that pid {holder.pid} holds it, run tiny-2026-11-22-c0ffee00"
        )
        assert rest.endswith("+00:00. Wait for it to end, then try again.")
        assert caught.value.exit_code == 1
        take(lake, "pipeline-other")
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        take(lake)


def test_the_same_thread_may_enter_again_and_keeps_the_lock_until_it_leaves(lake: Lake) -> None:
    refused: list[str] = []

    def other() -> None:
        try:
            take(lake)
        except LakeError as error:
            refused.append(error.found)

    def ask() -> list[str]:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return refused

    with locks.exclusive(lake, "pipeline-tiny", run_id="mine"):
        take(lake)
        assert len(ask()) == 1  # the inner block has not freed it
        assert refused[0].startswith(f"that pid {os.getpid()} holds it, run mine, since ")
    assert len(ask()) == 1


def test_a_short_lock_waits(lake: Lake) -> None:
    entered = threading.Event()

    def write() -> None:
        with locks.short(lake, "metrics/runs", wait_seconds=30.0):
            entered.set()

    thread = threading.Thread(target=write)
    with locks.short(lake, "metrics/runs"):
        thread.start()
        assert not entered.wait(0.2)
    thread.join()
    assert entered.is_set()


def test_a_lock_is_freed_by_an_error(lake: Lake) -> None:
    with pytest.raises(ValueError, match="inside"), locks.exclusive(lake, "pipeline-tiny", run_id="mine"):
        raise ValueError("inside")
    take(lake)


def test_lakes_elsewhere_have_no_locks() -> None:
    with locks.exclusive(Lake.at("s3a://bucket/lake"), "pipeline-tiny", run_id="mine"):
        pass
