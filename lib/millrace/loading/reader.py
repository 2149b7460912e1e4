"""Batches of a dataset as NumPy arrays: in the order of the plan for training, in the order of the index for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.loading.columns import STRING, ColumnSpec
from millrace.loading.index import DatasetIndex
from millrace.loading.plan import EpochPlan, Pieces, PlanSpec, check_memory, shards_of_rank
from millrace.loading.pool import Columns, reads_ahead, row_groups_in_order

_ALIGNMENT = 64  # bytes; TensorFlow takes over aligned memory and aborts on other


@dataclass(frozen=True)
class Batch:
    """Rows that are processed together. Its arrays are its own: nothing writes to them again."""

    step: int
    """Counts from 0 within the epoch."""
    columns: Columns
    """By name, (rows, *shape), each aligned to 64 bytes (columns of strings aside)."""
    weights: npt.NDArray[np.float32]
    """1 for a row that counts, 0 for padding. (rows,) float32"""
    num_rows: int
    """Rows that count; they come first."""


def aligned_empty(rows: int, spec: ColumnSpec) -> npt.NDArray[Any]:
    """An array (rows, *spec.shape) with undefined content that starts on a 64-byte boundary."""
    return aligned_columns(rows, [spec])[spec.name]


def aligned_columns(rows: int, specs: Sequence[ColumnSpec]) -> Columns:
    """An array (rows, *spec.shape) with undefined content for each spec, each on a 64-byte boundary.

    They lie in one block of memory, so making twenty costs little more than making one; the block lives as long as any of them.
    """
    sizes = [0 if spec.dtype == STRING else rows * spec.row_bytes for spec in specs]
    begins = [0, *accumulate(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes)]
    block = np.empty(begins[-1] + _ALIGNMENT, dtype=np.uint8)
    first = -block.__array_interface__["data"][0] % _ALIGNMENT
    return {
        spec.name: np.empty((rows, *spec.shape), dtype=object)
        if spec.dtype == STRING
        else np.ndarray((rows, *spec.shape), spec.numpy_dtype, block, first + begin)
        for spec, begin in zip(specs, begins, strict=False)
    }


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
    ) -> None:
        """Raises PlanError where there are more ranks than shards, or the planned memory is over the limit."""
        assert spec.row_group_rows.tolist() == index.row_group_rows().tolist(), "the plan is of another index"
        self._index, self._spec, self._columns = index, spec, tuple(columns)
        self._num_threads = num_threads
        self._shards = shards_of_rank(spec.virtual_shards, world_size, rank)
        check_memory(
            spec,
            world_size=world_size,
            row_bytes=sum(column.row_bytes for column in columns),
            reads_ahead=reads_ahead(num_threads),
            limit_bytes=memory_limit_bytes,
        )

    def batches(self, epoch: int, *, first_step: int = 0, beat: Callable[[], object] = lambda: None) -> Iterator[Batch]:
        """The rank's batches from `first_step` to the epoch's end, one for every step; nothing before it is read.

        `beat` is called in the calling thread for every row group that has arrived: a slow store does not look like a hang then.
        A rank without rows in a step gets one row of weight 0, so that every rank has a batch to take part with. Raises LakeError
        and ContractError as `row_groups_in_order` does.
        """
        plan = EpochPlan(self._spec, epoch)
        pieces = plan.pieces(self._shards, first_step=first_step)
        order = pieces.read_order()
        with row_groups_in_order(self._index, order, self._columns, num_threads=self._num_threads) as row_groups:
            windows = _Windows(plan, self._shards, pieces, self._columns, row_groups, beat)
            for step in range(first_step, self._spec.num_steps):
                yield self._batch(windows, step)

    def _batch(self, windows: _Windows, step: int) -> Batch:
        window, offset = divmod(step * self._spec.rows_per_step, self._spec.window_rows)
        windows.move_to(window)
        rows = windows.rows(offset, self._spec.rows_per_step)
        padded = max(1, rows.size)
        columns = aligned_columns(padded, self._columns)
        for name, batch in columns.items():
            # mode="clip" lets NumPy write into `out` without a copy in between; the rows are in range
            np.take(windows.buffers[name], rows, axis=0, out=batch[: rows.size], mode="clip")
            if padded > rows.size:
                batch[rows.size :] = "" if batch.dtype.hasobject else 0
        weights = np.zeros(padded, dtype=np.float32)
        weights[: rows.size] = 1.0
        return Batch(step, columns, weights, rows.size)


class _Windows:
    """The current window of each shard, decoded."""

    def __init__(
        self,
        plan: EpochPlan,
        shards: range,
        pieces: Pieces,
        columns: Sequence[ColumnSpec],
        row_groups: Iterator[tuple[int, Columns]],
        beat: Callable[[], object],
    ) -> None:
        self._plan, self._shards, self._pieces, self._row_groups, self._beat = plan, shards, pieces, row_groups, beat
        self._window = -1
        self._order: list[npt.NDArray[np.int64]] = []  # by shard: places in the buffers of its window's rows, shuffled
        self._held: dict[int, Columns] = {}  # row group -> columns, as long as a later piece needs it
        self._pieces_left = dict(zip(*(part.tolist() for part in np.unique(pieces.row_group, return_counts=True)), strict=True))
        rows = [min(plan.spec.window_rows, plan.spec.shard_rows(shard)) for shard in shards]
        self._begins = dict(zip(shards, accumulate([0, *rows[:-1]]), strict=True))  # where a shard's rows begin in the buffers
        self.buffers = aligned_columns(sum(rows), columns)
        """By column, the rows of all windows, shard after shard, in the order of the line. (rows, *shape)"""

    def move_to(self, window: int) -> None:
        """Fills the buffers with every shard's rows of `window`, unless they are there."""
        if window == self._window:
            return
        self._window = window
        begin, end = np.searchsorted(self._pieces.window, [window, window + 1])
        for piece in range(int(begin), int(end)):
            self._copy(piece)
        self._order = [
            self._begins[shard] + self._plan.window_order(shard, window)
            if window * self._plan.spec.window_rows < self._plan.spec.shard_rows(shard)
            else np.empty(0, dtype=np.int64)
            for shard in self._shards
        ]

    def rows(self, offset: int, count: int) -> npt.NDArray[np.int64]:
        """The rows from `offset` to `offset + count` of each shard's shuffled window, as places in the buffers."""
        # one list for all shards: a NumPy call for each shard and column would cost more than the rows themselves
        return np.concatenate([order[offset : offset + count] for order in self._order])

    def _copy(self, piece: int) -> None:
        number = int(self._pieces.row_group[piece])
        while number not in self._held:
            arrived, columns = next(self._row_groups)
            self._held[arrived] = columns
            self._beat()
        offset = self._begins[int(self._pieces.shard[piece])] + int(self._pieces.offset[piece])
        first, rows = int(self._pieces.first_row[piece]), int(self._pieces.num_rows[piece])
        for name, values in self._held[number].items():
            self.buffers[name][offset : offset + rows] = values[first : first + rows]
        self._pieces_left[number] -= 1
        if not self._pieces_left[number]:
            del self._held[number]


def read_in_order(
    index: DatasetIndex,
    columns: Sequence[ColumnSpec],
    batch_size: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    num_threads: int = 1,
) -> Iterator[Batch]:
    """Every row once, in index order, `batch_size` rows at a time; the last batch may be shorter. For evaluation.

    With `world_size`, rank r of W gets the rows from r*N//W up to (r+1)*N//W. Raises LakeError and ContractError as
    `row_groups_in_order` does.
    """
    begin, end = (part * index.num_rows // world_size for part in (rank, rank + 1))
    starts = [0, *accumulate(group.num_rows for group in index.row_groups)]
    order = [number for number in range(len(index.row_groups)) if max(starts[number], begin) < min(starts[number + 1], end)]
    left = end - begin
    step = 0
    batch: Columns = {}
    filled = 0
    with row_groups_in_order(index, order, columns, num_threads=num_threads) as row_groups:
        for number, values in row_groups:
            first, last = max(0, begin - starts[number]), min(end, starts[number + 1]) - starts[number]
            while first < last:
                if not batch:
                    batch = {spec.name: aligned_empty(min(batch_size, left), spec) for spec in columns}
                size = min(batch_size, left)
                rows = min(size - filled, last - first)
                for name, array in batch.items():
                    array[filled : filled + rows] = values[name][first : first + rows]
                first, filled = first + rows, filled + rows
                if filled == size:
                    yield Batch(step, batch, np.ones(size, dtype=np.float32), size)
                    step, left, batch, filled = step + 1, left - size, {}, 0
    assert left == 0
