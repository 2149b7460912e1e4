"""Decoded row groups in a planned order, read by Petastorm's thread pool and ventilator with a worker class of ours.

Three of Petastorm's habits are worked around here. Results come back in the order in which threads finish: they are put back in
order, and no more are read ahead than `reads_ahead`. An exception in a worker prints a traceback and ends its thread: ours are
published like results and raised once. The pool's end-of-data signal may come early: results are counted, too few is an error.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from petastorm.workers_pool import EmptyResultError
from petastorm.workers_pool.thread_pool import ThreadPool
from petastorm.workers_pool.ventilator import ConcurrentVentilator
from petastorm.workers_pool.worker_base import WorkerBase

from millrace.errors import ContractError, LakeError
from millrace.loading.columns import STAGE, ColumnSpec, decode
from millrace.loading.files import open_parquet
from millrace.loading.index import DatasetIndex

Columns = dict[str, npt.NDArray[Any]]

_OPEN_FILES = 16  # file handles that each thread keeps
_VENTILATION_SECONDS = 0.001


def reads_ahead(num_threads: int) -> int:
    """Row groups that are being read or wait to be taken: what bounds the pool's memory."""
    return num_threads + 2


@dataclass(frozen=True)
class _Done:
    """What a worker publishes: the decoded columns, or what went wrong."""

    place: int
    columns: Columns | None
    error: Exception | None


@dataclass(frozen=True)
class _WorkerSetup:
    columns: tuple[ColumnSpec, ...]


class _RowGroupWorker(WorkerBase):  # type: ignore[misc]  # Petastorm has no type hints
    """Reads one row group at a time and decodes the columns that were asked for."""

    def __init__(self, worker_id: int, publish_func: Callable[[_Done], None], args: _WorkerSetup) -> None:
        super().__init__(worker_id, publish_func, args)
        self._specs = args.columns
        self._open: OrderedDict[str, pq.ParquetFile] = OrderedDict()

    def process(self, *, place: int, uri: str, row_group: int, num_rows: int) -> None:
        try:
            done = _Done(place, self._read(uri, row_group, num_rows), None)
        except Exception as error:  # it is raised again by the thread that takes the results
            done = _Done(place, None, error)
        self.publish_func(done)

    def _read(self, uri: str, row_group: int, num_rows: int) -> Columns:
        where = f"row group {row_group} of {uri}"
        try:
            file = self._file(uri)
            known = file.schema_arrow.names
            missing = [spec.name for spec in self._specs if spec.name not in known]
            if missing:
                raise ContractError(
                    STAGE,
                    expected=f"the columns {', '.join(missing)}",
                    found=f"{', '.join(known)} in {uri}",
                    remedy="Compare the pipeline's features and label with the table's columns.",
                )
            if row_group >= file.metadata.num_row_groups:
                raise _changed(where, f"{num_rows} rows", "no such row group")
            table = file.read_row_group(row_group, columns=[spec.name for spec in self._specs], use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise _changed(where, f"{num_rows} rows", str(error)) from error
        if table.num_rows != num_rows:
            raise _changed(where, f"{num_rows} rows", f"{table.num_rows} rows")
        return {spec.name: decode(table.column(spec.name), spec, where=where) for spec in self._specs}

    def _file(self, uri: str) -> pq.ParquetFile:
        if uri not in self._open:
            if len(self._open) >= _OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            self._open[uri] = open_parquet(uri)
        self._open.move_to_end(uri)
        return self._open[uri]


class _PlannedVentilator(ConcurrentVentilator):  # type: ignore[misc]
    """Gives out the next row group when one has been taken in planned order, not when any has been read.

    Otherwise one slow read would let the other threads decode the rest of the epoch meanwhile.
    """

    def processed_item(self) -> None:
        """Called by the pool for every row group read: counts for nothing here."""

    def taken(self) -> None:
        """A row group has left the pool."""
        super().processed_item()


@contextmanager
def row_groups_in_order(
    index: DatasetIndex, order: Sequence[int] | npt.NDArray[np.int64], columns: Sequence[ColumnSpec], *, num_threads: int
) -> Iterator[Iterator[tuple[int, Columns]]]:
    """Reads the row groups `order` (numbers into index.row_groups), each once; gives (row group, columns) in exactly that order.

    Threads and files are closed on leaving. While iterating, raises LakeError where a file is gone, damaged or not the one that
    was indexed, and ContractError where its columns do not decode.
    """
    if len(order) == 0:
        yield iter(())
        return
    items = [_item(index, place, int(number)) for place, number in enumerate(order)]
    pool = ThreadPool(num_threads, results_queue_size=2 * reads_ahead(num_threads))
    ventilator = _PlannedVentilator(
        pool.ventilate,
        items,
        max_ventilation_queue_size=reads_ahead(num_threads),
        ventilation_interval=_VENTILATION_SECONDS,
    )
    pool.start(_RowGroupWorker, _WorkerSetup(tuple(columns)), ventilator)
    try:
        yield _in_order(pool, ventilator, order)
    finally:
        pool.stop()
        pool.join()


def _item(index: DatasetIndex, place: int, number: int) -> Mapping[str, object]:
    group = index.row_groups[number]
    return {"place": place, "uri": index.files[group.file], "row_group": group.row_group, "num_rows": group.num_rows}


def _in_order(
    pool: Any, ventilator: _PlannedVentilator, order: Sequence[int] | npt.NDArray[np.int64]
) -> Iterator[tuple[int, Columns]]:
    early: dict[int, Columns] = {}
    for place, number in enumerate(order):
        while place not in early:
            try:
                done: _Done = pool.get_results()
            except EmptyResultError as error:
                raise LakeError(
                    STAGE,
                    expected=f"{len(order)} row groups",
                    found=f"the reader ended after {place}",
                    remedy="Start the run again; it goes on from its last checkpoint.",
                    retry=True,
                ) from error
            if done.error is not None:
                raise done.error
            assert done.columns is not None
            early[done.place] = done.columns
        ventilator.taken()
        yield int(number), early.pop(place)


def _changed(where: str, expected: str, found: str) -> LakeError:
    return LakeError(
        STAGE,
        expected=f"{expected} in {where}, as indexed",
        found=found,
        remedy="The table was vacuumed, rewritten or damaged under the run: build the index again, from a version that is kept.",
    )
