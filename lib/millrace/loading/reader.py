"""Batches of a dataset as NumPy arrays: in the order of the plan for training, in the order of the index for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.config.training import LoadingConfig
from millrace.loading.augment import Change, augment
from millrace.loading.buffers import Buffer, assemble, make_buffer
from millrace.loading.columns import ColumnSpec, RowGroupColumns
from millrace.loading.draws import positions_of
from millrace.loading.epoch import EpochPlan, Pieces
from millrace.loading.index import DatasetIndex
from millrace.loading.plan import PlanSpec, check_memory, shards_of_rank
from millrace.loading.pool import DEFAULTS, Readers, held_ahead

Columns = dict[str, npt.NDArray[Any]]
_NO_ROWS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Batch:
    """Rows that are processed together. Its arrays are its own: nothing writes to them again."""

    step: int
    """Counts from 0 within the epoch."""
    columns: Columns
    """By name, (rows, *shape), sequences (rows, bucket, *shape), each aligned to 64 bytes (columns of strings aside)."""
    weights: npt.NDArray[np.float32]
    """1 for a row that counts, 0 for padding. (rows,) float32"""
    num_rows: int
    """Rows that count; they come first."""
    lengths: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    """Elements of each row before it was padded, for every column of sequences. (rows,) int64"""

    def mask(self, name: str) -> npt.NDArray[np.bool_]:
        """Which elements of a column of sequences are not padding. (rows, bucket) bool"""
        return np.asarray(np.arange(self.columns[name].shape[1]) < self.lengths[name][:, np.newaxis])


class PlannedReader:
    """One rank's share of every global batch, epoch after epoch. Holds what `planned_memory_bytes` says and no more."""

    def __init__(
        self,
        index: DatasetIndex,
        spec: PlanSpec,
        columns: Sequence[ColumnSpec],
        *,
        rank: int,
        world_size: int,
        memory_limit_bytes: int,
        num_threads: int = 1,
        loading: LoadingConfig = DEFAULTS,
    ) -> None:
        """`num_threads` readers where `loading` names no number. Nothing in `loading` changes a batch.

        Raises PlanError where there are more ranks than shards, or the planned memory is over the limit.
        """
        assert np.array_equal(spec.row_group_rows, index.row_group_rows()), "the plan is of another index"
        self._index, self._spec, self._columns = index, spec, tuple(columns)
        self.readers = Readers(columns, num_threads=num_threads, loading=loading)
        self._spare_buffers: list[dict[str, Buffer]] = []
        self._shards = shards_of_rank(spec.virtual_shards, world_size, rank)
        check_memory(
            spec,
            world_size=world_size,
            row_bytes=sum(column.row_bytes for column in columns),
            reads_ahead=held_ahead(num_threads, loading),
            limit_bytes=memory_limit_bytes,
        )

    def batches(
        self,
        epoch: int,
        *,
        first_step: int = 0,
        beat: Callable[[], object] = lambda: None,
        changes: Sequence[Change] = (),
    ) -> Iterator[Batch]:
        """The rank's batches from `first_step` to the epoch's end, one for every step; nothing before it is read.

        `beat` is called in the calling thread for every row group that has arrived: a slow store does not look like a hang then.
        `changes` are made at random, by the plan's seed, the epoch and a row's place in it.
        A rank without rows in a step gets one row of weight 0, so that every rank has a batch to take part with. Raises LakeError
        and ContractError as `Readers.in_order` does.
        """
        plan = EpochPlan(self._spec, epoch)
        pieces = plan.pieces(self._shards, first_step=first_step)
        order = pieces.read_order()
        with self.readers.in_order(self._index, order) as row_groups:
            buffers = self._spare_buffers.pop() if self._spare_buffers else self._make_buffers()
            windows = _Windows(plan, self._shards, pieces, buffers, partial(self._next, row_groups, beat), self.readers.give_back)
            for step in range(first_step, self._spec.num_steps):
                batch = self._batch(windows, step)
                if changes:
                    self._augment(batch, epoch, changes)
                yield batch
            self._spare_buffers[:] = [buffers]  # for the next epoch: fresh memory costs more time than what is copied into it

    @staticmethod
    def _next(row_groups: Iterator[tuple[int, RowGroupColumns]], beat: Callable[[], object]) -> tuple[int, RowGroupColumns]:
        arrived = next(row_groups)
        beat()
        return arrived

    def _make_buffers(self) -> dict[str, Buffer]:
        """By column, room for the windows of all shards behind one another."""
        rows = sum(min(self._spec.window_rows, self._spec.shard_rows(shard)) for shard in self._shards)
        return {spec.name: make_buffer(spec, rows) for spec in self._columns}

    def _batch(self, windows: _Windows, step: int) -> Batch:
        window, offset = divmod(step * self._spec.rows_per_step, self._spec.window_rows)
        windows.move_to(window)
        rows = windows.rows(offset)
        padded = max(1, rows.size)
        columns: Columns = {}
        lengths = {}
        for spec in self._columns:
            columns[spec.name], row_lengths = assemble(spec, windows.buffers[spec.name], rows, padded)
            if row_lengths is not None:
                lengths[spec.name] = row_lengths
        weights = np.zeros(padded, dtype=np.float32)
        weights[: rows.size] = 1.0
        return Batch(step, columns, weights, rows.size, lengths)

    def _augment(self, batch: Batch, epoch: int, changes: Sequence[Change]) -> None:
        positions = positions_of(self._spec, self._shards, batch.step)
        augment(batch.columns, changes, seed=self._spec.seed, epoch=epoch, positions=positions, lengths=batch.lengths)


class _Windows:
    """The current window of each shard, decoded."""

    def __init__(
        self,
        plan: EpochPlan,
        shards: range,
        pieces: Pieces,
        buffers: Mapping[str, Buffer],
        next_row_group: Callable[[], tuple[int, RowGroupColumns]],
        give_back: Callable[[RowGroupColumns], None],
    ) -> None:
        self._plan, self._shards, self._pieces = plan, shards, pieces
        self._next_row_group, self._give_back = next_row_group, give_back
        self.buffers = buffers
        """By column, the windows of all shards behind one another, each in the order of the line."""
        self._window = -1
        self._begins: dict[int, int] = {}  # shard -> where its rows of this window begin in the buffers
        self._full_steps = np.empty((0, 0), dtype=np.int64)  # (steps to which all shards give their share, rows of a step) places
        self._last_steps: list[npt.NDArray[np.int64]] = []  # by shard, the places of what comes behind them
        self._held: dict[int, RowGroupColumns] = {}  # row group -> columns, as long as a later piece needs it
        self._pieces_left = dict(zip(*(part.tolist() for part in np.unique(pieces.row_group, return_counts=True)), strict=True))

    def move_to(self, window: int) -> None:
        """Fills the buffers with every shard's rows of `window`, unless they are there."""
        if window == self._window:
            return
        self._window = window
        rows = [self._num_rows(shard, window) for shard in self._shards]
        self._begins = dict(zip(self._shards, accumulate(rows, initial=0), strict=False))
        self._shuffle(window, rows)  # while the readers read
        begin, end = np.searchsorted(self._pieces.window, [window, window + 1])
        for piece in range(int(begin), int(end)):
            self._copy(piece)

    def rows(self, offset: int) -> npt.NDArray[np.int64]:
        """The rows of a step, as places in the buffers: from `offset` on of each shard's shuffled window."""
        share = self._plan.spec.rows_per_step
        step = offset // share
        if step < len(self._full_steps):
            return np.asarray(self._full_steps[step])
        begin = (step - len(self._full_steps)) * share
        return np.asarray(np.concatenate([_NO_ROWS, *(places[begin : begin + share] for places in self._last_steps)]))

    def _shuffle(self, window: int, rows: Sequence[int]) -> None:
        """The places of the window's rows in the order in which they are taken."""
        orders = [
            self._begins[shard] + self._plan.window_order(shard, window)
            for shard, num_rows in zip(self._shards, rows, strict=True)
            if num_rows
        ]
        # laid out step by step at once: NumPy calls for each step and shard would cost as much as copying the rows
        share = self._plan.spec.rows_per_step
        num_steps = min((order.size for order in orders), default=0) // share
        parts = [order[: num_steps * share].reshape(num_steps, share) for order in orders]
        self._full_steps = np.concatenate(parts, axis=1) if num_steps else self._full_steps[:0]
        self._last_steps = [order[num_steps * share :].copy() for order in orders]

    def _num_rows(self, shard: int, window: int) -> int:
        spec = self._plan.spec
        return max(0, min(spec.window_rows, spec.shard_rows(shard) - window * spec.window_rows))

    def _copy(self, piece: int) -> None:
        number = int(self._pieces.row_group[piece])
        while number not in self._held:
            arrived, columns = self._next_row_group()
            self._held[arrived] = columns
        place = self._begins[int(self._pieces.shard[piece])] + int(self._pieces.offset[piece])
        first, rows = int(self._pieces.first_row[piece]), int(self._pieces.num_rows[piece])
        for name, values in self._held[number].items():
            self.buffers[name].put(place, values, first, rows)
        self._pieces_left[number] -= 1
        if not self._pieces_left[number]:
            self._give_back(self._held.pop(number))


def read_in_order(
    index: DatasetIndex,
    columns: Sequence[ColumnSpec],
    batch_size: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    num_threads: int = 1,
    readers: Readers | None = None,
) -> Iterator[Batch]:
    """Every row once, in index order, `batch_size` rows at a time; the last batch may be shorter. For evaluation.

    `readers` that are there already are used, of the same columns; else `num_threads` threads. With `world_size`, rank r of W
    gets the rows from r*N//W up to (r+1)*N//W. Raises LakeError and ContractError as `Readers.in_order` does.
    """
    begin, end = (part * index.num_rows // world_size for part in (rank, rank + 1))
    starts = [0, *accumulate(group.num_rows for group in index.row_groups)]
    order = [number for number in range(len(index.row_groups)) if max(starts[number], begin) < min(starts[number + 1], end)]
    left = end - begin
    step = filled = 0
    buffers = {spec.name: make_buffer(spec, min(batch_size, left)) for spec in columns}
    readers = readers or Readers(columns, num_threads=num_threads)
    assert readers.columns == tuple(columns), "the readers decode other columns"
    with readers.in_order(index, order) as row_groups:
        for number, values in row_groups:
            first, last = max(0, begin - starts[number]), min(end, starts[number + 1]) - starts[number]
            while first < last:
                size = min(batch_size, left)
                rows = min(size - filled, last - first)
                for name, buffer in buffers.items():
                    buffer.put(filled, values[name], first, rows)
                first, filled = first + rows, filled + rows
                if filled == size:
                    yield _whole(step, columns, buffers, size)
                    step, left, filled = step + 1, left - size, 0
            readers.give_back(values)
    assert left == 0


def _whole(step: int, columns: Sequence[ColumnSpec], buffers: Mapping[str, Buffer], rows: int) -> Batch:
    """The first rows of the buffers, as they lie."""
    chosen = np.arange(rows, dtype=np.int64)
    batch = {spec.name: assemble(spec, buffers[spec.name], chosen, rows) for spec in columns}
    values = {name: array for name, (array, _) in batch.items()}
    lengths = {name: known for name, (_, known) in batch.items() if known is not None}
    return Batch(step, values, np.ones(rows, dtype=np.float32), rows, lengths)
