"""The order of one epoch, worked out from its plan; plan.py has the vocabulary. Arithmetic on numbers only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from millrace.loading.plan import SCHEME, Ints, PlanSpec


@dataclass(frozen=True)
class Pieces:
    """Runs of rows that lie together in a row group and in a window, sorted by (window, shard, offset). All (pieces,) int64."""

    window: Ints
    shard: Ints
    offset: Ints
    """First row within the window."""
    row_group: Ints
    first_row: Ints
    """First row within the row group."""
    num_rows: Ints

    def read_order(self) -> Ints:
        """The row groups in the order in which they are first needed, each once. (row groups read,) int64"""
        groups, first = np.unique(self.row_group, return_index=True)
        return groups[np.argsort(first, kind="stable")]


class EpochPlan:
    """The order of one epoch. Costs one sort of the row groups; rows are worked out window by window, when asked for."""

    def __init__(self, spec: PlanSpec, epoch: int) -> None:
        self.spec = spec
        self.epoch = epoch
        # order: (row groups,) which row group stands where in the line; starts: (row groups + 1,) its first row, before rotation
        self.order: Ints = np.argsort(self._draw("row-groups", spec.row_group_rows.size), kind="stable").astype(np.int64)
        self.starts: Ints = np.concatenate([[0], np.cumsum(spec.row_group_rows[self.order])]).astype(np.int64)
        self.offset = int(self._draw("rotation", 1)[0]) % spec.num_rows

    def window_order(self, shard: int, window: int) -> Ints:
        """The rows of a window, as offsets into it, in the order in which they are trained on. (rows of the window,) int64"""
        rows = min(self.spec.window_rows, self.spec.shard_rows(shard) - window * self.spec.window_rows)
        return np.argsort(self._draw(f"window|{shard}|{window}", rows), kind="stable").astype(np.int64)

    def pieces(self, shards: range, *, first_step: int = 0) -> Pieces:
        """What `shards`, neighbours of one another, read from the window of `first_step` to the end of the epoch."""
        spec, bounds = self.spec, self.spec.shard_bounds
        begin, end = int(bounds[shards.start]), int(bounds[shards.stop])
        window_cuts = [np.arange(bounds[shard], bounds[shard + 1], spec.window_rows, dtype=np.int64) for shard in shards]
        cuts = np.unique(np.concatenate([[begin, end], self._group_cuts(begin, end), *window_cuts]))
        left = cuts[:-1].astype(np.int64)
        rows = np.diff(cuts).astype(np.int64)
        row_group, first_row = self._locate(left)
        shard = np.searchsorted(bounds, left, side="right") - 1
        window, offset = np.divmod(left - bounds[shard], spec.window_rows)
        keep = window >= first_step * spec.rows_per_step // spec.window_rows
        sort = np.lexsort((offset, shard, window))
        sort = sort[keep[sort]]
        return Pieces(window[sort], shard[sort], offset[sort], row_group[sort], first_row[sort], rows[sort])

    def shard_batch(self, shard: int, step: int) -> Ints:
        """The rows that a shard gives to a step, as row numbers of the dataset. (at most B,) int64"""
        spec = self.spec
        window, offset = divmod(step * spec.rows_per_step, spec.window_rows)
        if step * spec.rows_per_step >= spec.shard_rows(shard):
            return np.empty(0, dtype=np.int64)
        chosen = self.window_order(shard, window)[offset : offset + spec.rows_per_step]
        row_group, row = self._locate(spec.shard_bounds[shard] + window * spec.window_rows + chosen)
        first_rows = np.concatenate([[0], np.cumsum(spec.row_group_rows)])
        return np.asarray(first_rows[row_group] + row, dtype=np.int64)

    def global_batch(self, step: int) -> Ints:
        """The rows of a step as row numbers of the dataset, in index order from 0. (at most G,) int64"""
        return np.concatenate([self.shard_batch(shard, step) for shard in range(self.spec.virtual_shards)])

    def _group_cuts(self, begin: int, end: int) -> Ints:
        """Where row groups start in the line from `begin` to `end`, found by bisection: a rank looks at its own part only."""
        parts = []
        for turn in (0, self.spec.num_rows):  # what the rotation has moved from the line's start to its end comes in the second
            first, last = np.searchsorted(self.starts, [begin + self.offset - turn, end + self.offset - turn])
            parts.append(self.starts[first:last] + (turn - self.offset))
        return np.concatenate(parts)

    def _locate(self, positions: Ints) -> tuple[Ints, Ints]:
        """Positions in the rotated line -> (row group, row within it)."""
        unrotated = (positions + self.offset) % self.spec.num_rows
        place = np.searchsorted(self.starts, unrotated, side="right") - 1
        return self.order[place], unrotated - self.starts[place]

    def _draw(self, purpose: str, count: int) -> npt.NDArray[np.uint64]:
        """`count` random 64-bit words. Only `random_raw` is used: NumPy may change what its distributions make of it."""
        text = f"{SCHEME}|{purpose}|{self.spec.seed}|{self.epoch}"
        key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
        words: npt.NDArray[np.uint64] = np.random.Philox(key=key).random_raw(count)
        return words
