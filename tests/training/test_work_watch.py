"""A process that computes says so, whatever its main thread does; one that waits, sleeps or stands still does not."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import psutil
import pytest

from millrace.training.work_watch import WorkWatch, has_worked

WATCHED = """
import subprocess, sys, threading, time
from millrace.training.work_watch import WorkWatch
watch = WorkWatch(lambda: print("busy", flush=True), look_seconds=0.2)
print("ready", flush=True)
{work}
"""
WORK = {
    "main thread": "while True: pass",
    "another thread": "threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start(); time.sleep(60)",
    "child": "subprocess.run([sys.executable, '-c', 'import os\\nwhile os.getppid() != 1: pass'])",
    "reading": "import io, tempfile; f = tempfile.TemporaryFile(buffering=0); f.write(bytes(2**21));"
    " [(f.seek(0), f.read(), time.sleep(0.1)) for _ in range(600)]",
    "in another language": "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 100_000_000)",
}
IDLENESS = {
    "sleep": "time.sleep(60)",
    "naps": "while True: time.sleep(1e-3)",
    "lock": "threading.Lock().acquire(); threading.Event().wait()",
}


def says(work: str, seconds: float) -> int:
    """How often the process says that it is busy, from its start on."""
    command = [sys.executable, "-c", WATCHED.format(work=work)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(seconds)
        process.kill()
        return process.stdout.read().count("busy")


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_who_works_says_so(work):
    assert says(work, 4.0) >= 2


@pytest.mark.parametrize("work", IDLENESS.values(), ids=IDLENESS)
def test_who_hangs_is_silent(work):
    assert says(work, 3.0) <= 1  # the start itself


def test_it_stops():
    told = threading.Event()
    watch = WorkWatch(told.set, look_seconds=0.1)
    watch.stop()
    time.sleep(0.3)
    told.clear()
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        pass
    assert not told.is_set()


def test_where_processes_cannot_be_seen_it_goes_on(monkeypatch):
    def refuse(*_, **__):
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "children", refuse)
    monkeypatch.setattr(psutil.Process, "io_counters", refuse)
    told = threading.Event()
    watch = WorkWatch(told.set, look_seconds=0.1)
    time.sleep(0.5)
    told.clear()
    until = time.monotonic() + 10.0
    while not told.is_set() and time.monotonic() < until:
        pass
    watch.stop()
    assert told.is_set()


@pytest.mark.parametrize(
    ("before", "after", "worked"),
    [
        ({(1, 1): 5.0}, {(1, 1): 5.0}, False),
        ({(1, 1): 5.0}, {(1, 1): 5.28}, False),
        ({(1, 1): 5.0}, {(1, 1): 5.31}, True),
        ({(1, 1): 5.0, (1, 2): 1.0}, {(1, 1): 5.2, (1, 2): 1.2}, False),  # none of them for a tenth of the time
        ({(1, 1): 5.0}, {(1, 1): 5.0, (2, 7): 0.5}, True),  # a child that is new
        ({(1, 1): 5.0, (2, 7): 9.0}, {(1, 1): 5.0}, False),  # one that is gone
    ],
)
def test_has_worked(before, after, worked):
    assert has_worked(before, after, 3.0) is worked
