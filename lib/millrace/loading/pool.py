"""Decoded row groups in a planned order, read by Petastorm's pools and ventilator with a worker class of ours.

Three of Petastorm's habits are worked around here. Results come back in the order in which readers finish: they are put back in
order, and no more are read ahead than `reads_ahead`. An exception in a worker prints a traceback and ends its thread: ours are
published like results and raised once. The pool's end-of-data signal may come early: results are counted, too few is an error.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
from petastorm.workers_pool import EmptyResultError

from millrace.config.training import LoadingConfig
from millrace.errors import LakeError
from millrace.loading.blocks import Blocks
from millrace.loading.cache import RowGroupCache
from millrace.loading.columns import STAGE, ColumnSpec, RowGroupColumns
from millrace.loading.index import DatasetIndex
from millrace.loading.processes import ReaderProcesses
from millrace.loading.threads import PlannedVentilator, ReaderThreads
from millrace.loading.worker import Done, DoneAsBytes, RowGroupWorker, WorkerSetup

Order = Sequence[int] | npt.NDArray[np.int64]

DEFAULTS = LoadingConfig()
_MAX_READERS = 4  # more only wait for one another where nobody has asked for more


def reader_threads(num_threads: int) -> int:
    """Readers of a process that computes with `num_threads` threads."""
    return max(1, min(_MAX_READERS, num_threads))


def reads_ahead(num_threads: int, loading: LoadingConfig = DEFAULTS) -> int:
    """Row groups that are being read or wait to be taken. `num_threads` readers where `loading` names no number."""
    return loading.row_groups_ahead or (loading.num_readers or num_threads) + 2


def held_ahead(num_threads: int, loading: LoadingConfig = DEFAULTS) -> int:
    """What the pool may hold of them in memory: a process has its copy until the parent has another."""
    return reads_ahead(num_threads, loading) * (2 if loading.pool == "processes" else 1)


class _Items(Sequence[Mapping[str, object]]):
    """What the ventilator gives out, made when it is asked for: a list of a million dicts would take half a gigabyte."""

    def __init__(self, index: DatasetIndex, order: Order, turn: int) -> None:
        self._index, self._order, self._turn = index, order, turn

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, place: Any) -> Any:
        index, group = self._index, self._index.row_groups[int(self._order[place])]
        return {
            "turn": self._turn,
            "place": place,
            "uri": index.files[group.file],
            "identity": index.identity_of(group.file),
            "row_group": group.row_group,
            "num_rows": group.num_rows,
        }


class Readers:
    """Reads row groups, order after order. Threads live as long as an order; processes, slow to start, as long as this object.

    `num_threads` readers where `loading` names no number. Raises ConfigError where the cache's directory cannot be used, and
    SecurityError where others could write to it.
    """

    def __init__(self, columns: Sequence[ColumnSpec], *, num_threads: int, loading: LoadingConfig = DEFAULTS) -> None:
        self.columns = tuple(columns)
        self._loading = loading
        self._num_readers = loading.num_readers or num_threads
        self._ahead = reads_ahead(num_threads, loading)
        self._turns = count()
        self._blocks = Blocks(self._ahead)
        self.give_back = self._blocks.give_back
        """Takes the columns of a row group back that nobody looks at any more: their memory is used for the next ones."""
        self._idle: list[ReaderProcesses] = []
        if loading.cache_directory:
            RowGroupCache(loading.cache_directory, loading.cache_bytes)  # refused here, before a reader starts
        self.close = weakref.finalize(self, _end_all, self._idle)
        """Ends processes that are not in use; done by itself when nobody holds this object any more."""

    @contextmanager
    def in_order(self, index: DatasetIndex, order: Order) -> Iterator[Iterator[tuple[int, RowGroupColumns]]]:
        """Reads the row groups `order` (numbers into index.row_groups), each once; gives (row group, columns) in that very order.

        While iterating, raises LakeError where a file is gone, damaged or not of the size and rows that were indexed, or its
        store does not answer or a reader process has died (retry), and ContractError where the columns do not decode.
        """
        if len(order) == 0:
            yield iter(())
            return
        turn = next(self._turns)
        pool = self._processes() if self._loading.pool == "processes" else ReaderThreads(self._num_readers)
        ventilator = PlannedVentilator(pool.ventilate, _Items(index, order, turn), self._ahead)
        try:
            if isinstance(pool, ReaderProcesses):
                ventilator.start()
            else:
                pool.start(RowGroupWorker, self._setup(None), ventilator)
            yield _in_order(pool, ventilator, order, turn)
        finally:
            ventilator.stop()
            if isinstance(pool, ReaderProcesses) and not self._idle and pool.is_alive():
                self._idle.append(pool)  # what is still on its way belongs to this turn, and the next one passes over it
            else:
                pool.stop()
                pool.join()

    def _processes(self) -> ReaderProcesses:
        """Started processes that nobody else reads with."""
        while self._idle:
            pool = self._idle.pop()
            if pool.is_alive():
                return pool
            pool.join()
        pool = ReaderProcesses(self._num_readers, DoneAsBytes())
        pool.start(RowGroupWorker, self._setup(pool.directory))
        return pool

    def _setup(self, socket_directory: str | None) -> WorkerSetup:
        return WorkerSetup(
            columns=self.columns,
            cache_directory=self._loading.cache_directory,
            cache_bytes=self._loading.cache_bytes,
            parent=os.getpid(),
            socket_directory=socket_directory,
            blocks=self._blocks if socket_directory is None else None,
        )


def _end_all(pools: list[ReaderProcesses]) -> None:
    while pools:
        pool = pools.pop()
        pool.stop()
        pool.join()


def _in_order(pool: Any, ventilator: PlannedVentilator, order: Order, turn: int) -> Iterator[tuple[int, RowGroupColumns]]:
    early: dict[int, RowGroupColumns] = {}
    for place, number in enumerate(order):
        while place not in early:
            try:
                done: Done = pool.get_results()
            except EmptyResultError as error:
                raise LakeError(
                    STAGE,
                    expected=f"{len(order)} row groups",
                    found=f"the reader ended after {place}",
                    remedy="Start again: training goes on from its last checkpoint, a stream from the step that it is given.",
                    retry=True,
                ) from error
            if done.turn != turn:
                continue
            if done.error is not None:
                raise done.error
            assert done.columns is not None
            early[done.place] = done.columns
        ventilator.taken()
        yield int(number), early.pop(place)
