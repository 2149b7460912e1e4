"""Whether this process works: what tells a worker that imports, traces or compiles in silence from one that hangs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping

import psutil

_LOOK_SECONDS = 3.0
_BUSY_SHARE = 0.1
"""Of one CPU, for any one thread. Horovod's own, which looks for something to send hundreds of times a second, takes less."""
_READ_BYTES = 1024**2
"""Read since the last look: libraries or a table come slowly from somewhere."""

Thread = tuple[int, int]
"""A process, and a thread of it."""


class WorkWatch:
    """Calls `tell` from a thread of its own, every 3 s in which a thread of this process or its children has computed, or the
    process has read something."""

    def __init__(self, tell: Callable[[], None], *, look_seconds: float = _LOOK_SECONDS) -> None:
        self._tell, self._look_seconds = tell, look_seconds
        self._stop = threading.Event()
        self._looked, self._bytes = time.monotonic(), bytes_read()
        self._own, self._children = cpu_seconds([psutil.Process()]), dict[Thread, float]()
        threading.Thread(target=self._watch, name="millrace-work-watch", daemon=True).start()

    def stop(self) -> None:
        """Stops watching."""
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(self._look_seconds):
            if self._has_worked():
                self._tell()

    def _has_worked(self) -> bool:
        looked, own, read = time.monotonic(), cpu_seconds([psutil.Process()]), bytes_read()
        seconds = looked - self._looked
        works = has_worked(self._own, own, seconds) or read - self._bytes >= _READ_BYTES
        self._looked, self._own, self._bytes = looked, own, read
        if works:
            return True
        before, self._children = self._children, cpu_seconds(_children())  # to look for them is dear
        return has_worked(before, self._children, seconds)


def cpu_seconds(processes: Iterable[psutil.Process]) -> dict[Thread, float]:
    """What each thread of these processes has computed so far."""
    seconds: dict[Thread, float] = {}
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            seconds |= {(process.pid, thread.id): thread.user_time + thread.system_time for thread in process.threads()}
    return seconds


def bytes_read() -> int:
    """By this process so far, from files and from disks; 0 where the system does not say."""
    with contextlib.suppress(psutil.Error, OSError):
        counters = psutil.Process().io_counters()
        return int(counters.read_chars + counters.read_bytes)
    return 0


def has_worked(before: Mapping[Thread, float], after: Mapping[Thread, float], seconds: float) -> bool:
    """Whether one thread at least has computed for a tenth of these seconds."""
    return any(total - before.get(thread, 0.0) >= _BUSY_SHARE * seconds for thread, total in after.items())


def _children() -> list[psutil.Process]:
    """None where the system does not let them be seen."""
    with contextlib.suppress(psutil.Error, OSError):
        return psutil.Process().children(recursive=True)
    return []
