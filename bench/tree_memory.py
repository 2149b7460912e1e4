"""Peak memory of this process and all that it started, sampled by a thread."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import psutil

_SECONDS = 0.5


class TreeMemory:
    """In its context, a thread adds up the tree's proportional set sizes (shared pages count once) twice a second."""

    def __init__(self, *, without_self: bool = False) -> None:
        """Of this process and its children, or of the children alone."""
        self._root = psutil.Process()
        self._without_self = without_self
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, self._now())
            if self._done.wait(_SECONDS):
                return

    def _now(self) -> int:
        total = 0
        try:
            tree = self._root.children(recursive=True)
            tree += [] if self._without_self else [self._root]
        except psutil.Error:
            return 0
        for process in tree:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:  # it has ended since
                continue
        return total
