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

Thread = tuple[int, int]
"""A process, and a thread of it."""


class WorkWatch:
    """Calls `tell` from a thread of its own, every 3 s in which a thread of this process or its children has computed."""

    def __init__(self, tell: Callable[[], None], *, look_seconds: float = _LOOK_SECONDS) -> None:
        self._tell, self._look_seconds = tell, look_seconds
        self._stop = threading.Event()
        threading.Thread(target=self._watch, name="millrace-work-watch", daemon=True).start()

    def stop(self) -> None:
        """Stops watching."""
        self._stop.set()

    def _watch(self) -> None:
        own, children, looked = cpu_seconds([psutil.Process()]), dict[Thread, float](), time.monotonic()
        while not self._stop.wait(self._look_seconds):
            before, own, looked_before, looked = own, cpu_seconds([psutil.Process()]), looked, time.monotonic()
            works = has_worked(before, own, looked - looked_before)
            if not works:  # to look for children is dear
                before, children = children, cpu_seconds(psutil.Process().children(recursive=True))
                works = has_worked(before, children, looked - looked_before)
            if works:
                self._tell()


def cpu_seconds(processes: Iterable[psutil.Process]) -> dict[Thread, float]:
    """What each thread of these processes has computed so far."""
    seconds: dict[Thread, float] = {}
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            seconds |= {(process.pid, thread.id): thread.user_time + thread.system_time for thread in process.threads()}
    return seconds


def has_worked(before: Mapping[Thread, float], after: Mapping[Thread, float], seconds: float) -> bool:
    """Whether one thread at least has computed for a tenth of these seconds."""
    return any(total - before.get(thread, 0.0) >= _BUSY_SHARE * seconds for thread, total in after.items())
