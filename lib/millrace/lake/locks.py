"""Locks on a local lake: `flock` on files under _locks/. The system frees them when their holder dies, so none is ever stale.

Other file systems have no such lock; there the scheduler must not start the same pipeline twice.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from millrace.errors import LakeError
from millrace.lake.layout import Lake

_HELD: dict[str, int] = {}
"""Locks that this process holds, and the thread that took each: it may enter again (a night holds its pipeline's lock, and so
does each of its steps), another thread waits or is refused like another process."""


@contextmanager
def exclusive(lake: Lake, name: str, *, run_id: str) -> Iterator[None]:
    """Holds the lock `name`. Raises LakeError (exit code 1), with the pid and run of the holder, when another process has it."""
    with _flock(lake, name, {"pid": os.getpid(), "run_id": run_id}, wait_seconds=0.0):
        yield


@contextmanager
def short(lake: Lake, table: str, *, wait_seconds: float = 60.0) -> Iterator[None]:
    """Holds a table's lock for one commit, waiting for others who do the same."""
    with _flock(lake, "table-" + table.replace("/", "-"), {"pid": os.getpid()}, wait_seconds=wait_seconds):
        yield


@contextmanager
def _flock(lake: Lake, name: str, holder: dict[str, object], *, wait_seconds: float) -> Iterator[None]:
    path = Path(lake.uri, "_locks", f"{name}.lock")
    if not lake.is_local or _HELD.get(str(path)) == threading.get_ident():
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _acquire(handle, path, name, wait_seconds)
        os.truncate(handle, 0)
        os.pwrite(handle, json.dumps({**holder, "since": datetime.now(UTC).isoformat(timespec="seconds")}).encode(), 0)
        _HELD[str(path)] = threading.get_ident()
        try:
            yield
        finally:
            del _HELD[str(path)]
            os.truncate(handle, 0)
    finally:
        os.close(handle)


def _acquire(handle: int, path: Path, name: str, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise LakeError(
                    "lock",
                    expected=f"the lock {name}",
                    found=_holder(path),
                    remedy="Wait for it to end, then try again.",
                    retry=True,
                ) from None
            time.sleep(0.05)


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
    except (OSError, ValueError):
        return "that another process holds it"
    run = f", run {holder['run_id']}" if "run_id" in holder else ""
    return f"that pid {holder.get('pid')} holds it{run}, since {holder.get('since')}"
