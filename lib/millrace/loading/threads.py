"""Petastorm's ventilator and thread pool, made to wait where they look again and again.

Theirs look for work and for room a thousand times a second, each a twentieth of a core: on a host whose cores all compute, the
steps take so much longer, and every rank waits for it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from petastorm.workers_pool.thread_pool import ThreadPool
from petastorm.workers_pool.ventilator import ConcurrentVentilator


class PlannedVentilator(ConcurrentVentilator):  # type: ignore[misc]  # Petastorm has no type hints
    """Gives out the next item when one has been taken in planned order, not when any has been read.

    Otherwise one slow read would let the other threads decode the rest of the epoch meanwhile.
    """

    def __init__(self, ventilate: Callable[..., None], items: Sequence[Mapping[str, object]], ahead: int) -> None:
        super().__init__(ventilate, [{}])
        self._items_to_ventilate = items  # it insists on a list when it is made
        self._room = threading.Semaphore(ahead)

    def _ventilate(self) -> None:
        """Petastorm's name: what its thread does."""
        for item in self._items_to_ventilate:
            self._room.acquire()
            if self._stop_requested:
                return
            self._ventilate_fn(**item)
        self._iterations_remaining = 0

    def processed_item(self) -> None:
        """Called by the pool for every item read: counts for nothing here."""

    def taken(self) -> None:
        """An item has left the pool."""
        self._room.release()

    def stop(self) -> None:
        """Gives out no more, and waits for the thread to end."""
        self._stop_requested = True
        self._room.release()
        super().stop()


class ReaderThreads(ThreadPool):  # type: ignore[misc]
    """Readers as threads of this process."""

    def __init__(self, num_threads: int) -> None:
        super().__init__(num_threads, results_queue_size=0)  # no bound, at which they would wait: the ventilator's is one

    def start(self, worker_class: type, worker_args: Any = None, ventilator: Any = None) -> None:
        """Starts the readers, and gives out items when they wait for them."""
        super().start(worker_class, worker_args)
        self._ventilator_queue = _Items()
        for worker in self._workers:
            worker._ventilator_queue = self._ventilator_queue  # in the place of the one that it looks at
        if ventilator is not None:
            self._ventilator = ventilator
            ventilator.start()

    def stop(self) -> None:
        """Tells the readers to end."""
        super().stop()
        for _ in self._workers:
            self._ventilator_queue.put(None)


class _Items(queue.SimpleQueue):  # type: ignore[type-arg]
    """What the readers wait at."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: ARG002
        """The next item, however long it takes. Raises queue.Empty for None, which has the reader look whether it is to end."""
        item = super().get()
        if item is None:
            raise queue.Empty
        return item
