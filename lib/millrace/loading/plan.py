"""Which rows a rank reads at which step: arithmetic on numbers only, no data is touched.

Vocabulary, with N rows, a global batch of G rows, V virtual shards, W ranks and B = G / V:

    line        all rows of an epoch behind one another: the row groups in an order drawn from (seed, epoch), then rotated by an
                offset drawn from the same
    shard s     the line's rows from s*N//V up to (s+1)*N//V
    window      `window_rows` rows of a shard, a multiple of B, that are shuffled among themselves
    batch t     the rows t*B to (t+1)*B of every shard, after the windows were shuffled; shard 0 comes first
    rank r      owns the shards from r*V//W up to (r+1)*V//W

W appears in the last line only, so the sequence of global batches is the same on any number of ranks. Shards differ by at most
one row, so all batches but the last have G rows, and every rank takes the same number of steps.

Example: N=10, G=4, V=2 gives two shards of 5 rows, B=2, and 3 steps of 4, 4 and 2 rows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from millrace.errors import PlanError

Ints = npt.NDArray[np.int64]

STAGE = "plan"
SCHEME = "millrace-plan-1"  # changes whenever the same numbers would give another order
_DEFAULT_MAX_SHARDS = 8


def default_virtual_shards(global_batch: int) -> int:
    """The largest divisor of `global_batch` that is at most 8: how many ranks a run can have at most."""
    return max(count for count in range(1, _DEFAULT_MAX_SHARDS + 1) if global_batch % count == 0)


def window_rows_for(*, shuffle_bytes: int, row_bytes: int, global_batch: int, virtual_shards: int) -> int:
    """Rows of one shard's window when all windows together hold `shuffle_bytes` of decoded rows: whole steps, at least one."""
    rows_per_step = global_batch // virtual_shards
    steps = shuffle_bytes // max(1, virtual_shards * row_bytes * rows_per_step)
    return max(1, steps) * rows_per_step


def plan_for(
    row_group_rows: Ints,
    *,
    row_bytes: int,
    seed: int,
    global_batch: int,
    virtual_shards: int | None,
    shuffle_bytes: int,
    dataset: str,
) -> PlanSpec:
    """The plan of a run as users describe it: the number of shards may be left open, the window is given in bytes.

    `row_bytes`: decoded bytes of one row at most. Raises PlanError.
    """
    shards = virtual_shards or default_virtual_shards(max(1, global_batch))
    divides = global_batch % shards == 0
    window_rows = window_rows_for(
        shuffle_bytes=shuffle_bytes,
        row_bytes=row_bytes,
        global_batch=global_batch,
        virtual_shards=shards if divides else 1,  # the spec refuses what does not divide
    )
    return PlanSpec(
        seed=seed,
        global_batch=global_batch,
        virtual_shards=shards,
        window_rows=window_rows,
        row_group_rows=row_group_rows,
        dataset=dataset,
    )


def shards_of_rank(virtual_shards: int, world_size: int, rank: int) -> range:
    """The shards that `rank` owns. Raises PlanError where there are more ranks than shards."""
    if not 1 <= world_size <= virtual_shards:
        raise PlanError(
            STAGE,
            expected=f"num_workers or world_size from 1 to {virtual_shards} (virtual_shards)",
            found=f"{world_size}",
            remedy="Lower it, or raise virtual_shards, which must divide batch_size.",
        )
    assert 0 <= rank < world_size
    return range(rank * virtual_shards // world_size, (rank + 1) * virtual_shards // world_size)


@dataclass(frozen=True, kw_only=True, eq=False)
class PlanSpec:
    """All that the order of rows depends on. Checks itself when made and raises PlanError."""

    seed: int
    global_batch: int
    """Rows of one optimizer step over all ranks (G)."""
    virtual_shards: int
    """The largest number of ranks that can ever share the work (V); divides `global_batch`."""
    window_rows: int
    """Rows of one shard that are shuffled among themselves; a multiple of global_batch / virtual_shards."""
    row_group_rows: Ints
    """Rows of each row group, in the order of the dataset's index. (row groups,) int64"""
    dataset: str = ""
    """Fingerprint of the dataset's index."""

    def __post_init__(self) -> None:
        rows = np.array(self.row_group_rows, dtype=np.int64)  # a copy, so that nobody can change it afterwards
        rows.setflags(write=False)
        object.__setattr__(self, "row_group_rows", rows)
        if rows.size == 0 or int(rows.sum()) == 0:
            raise PlanError(
                STAGE,
                expected="at least one row to train on",
                found=f"{rows.size} row groups with 0 rows",
                remedy="Look at the split's fractions and at what was quarantined.",
            )
        if self.global_batch < 1 or self.virtual_shards < 1 or self.global_batch % self.virtual_shards:
            raise PlanError(
                STAGE,
                expected="virtual_shards that divides batch_size",
                found=f"{self.virtual_shards} shards and a batch of {self.global_batch} rows",
                remedy=f"Set virtual_shards to {default_virtual_shards(max(1, self.global_batch))}, or leave it out.",
            )
        if self.window_rows < 1 or self.window_rows % self.rows_per_step:
            raise PlanError(
                STAGE,
                expected=f"a shuffle window of whole steps ({self.rows_per_step} rows of each shard)",
                found=f"{self.window_rows} rows",
                remedy="Use millrace.loading.plan.window_rows_for.",
            )

    @property
    def rows_per_step(self) -> int:
        """Rows that one shard gives to one global batch (B)."""
        return self.global_batch // self.virtual_shards

    def max_local_rows(self, world_size: int) -> int:
        """Rows that one of `world_size` ranks gives to a global batch at most."""
        return -(-self.virtual_shards // world_size) * self.rows_per_step

    @cached_property
    def num_rows(self) -> int:
        """Rows of an epoch (N)."""
        return int(self.row_group_rows.sum())

    @property
    def num_steps(self) -> int:
        """Optimizer steps of an epoch, the same for every rank."""
        longest_shard = -(-self.num_rows // self.virtual_shards)
        return -(-longest_shard // self.rows_per_step)

    @cached_property
    def shard_bounds(self) -> Ints:
        """Where each shard starts in the line, and where the last one ends. (V + 1,) int64"""
        bounds = [shard * self.num_rows // self.virtual_shards for shard in range(self.virtual_shards + 1)]
        return np.array(bounds, dtype=np.int64)

    def shard_rows(self, shard: int) -> int:
        """Rows of a shard in an epoch."""
        return int(self.shard_bounds[shard + 1] - self.shard_bounds[shard])

    def fingerprint(self) -> str:
        """SHA-256 in hex of everything that the order of rows depends on; the number of ranks is not part of it."""
        head = [SCHEME, self.dataset, self.seed, self.global_batch, self.virtual_shards, self.window_rows]
        digest = hashlib.sha256("|".join(str(part) for part in head).encode())
        digest.update(self.row_group_rows.astype("<i8").tobytes())
        return digest.hexdigest()


def planned_memory_bytes(spec: PlanSpec, *, world_size: int, row_bytes: int, reads_ahead: int) -> int:
    """Decoded bytes that one rank holds at most.

    Each of its shards has a window, one row group that reaches into the next window, and one that it shares with the next shard
    and that is kept until its end, because a rank reads a row group once. `reads_ahead` row groups are being read meanwhile.
    """
    shards = -(-spec.virtual_shards // world_size)
    longest_shard = -(-spec.num_rows // spec.virtual_shards)
    group = int(spec.row_group_rows.max())
    kept = min(2 * shards * group, spec.num_rows)
    ahead = min(reads_ahead * group, spec.num_rows)
    return (shards * min(spec.window_rows, longest_shard) + kept + ahead) * row_bytes


def check_memory(spec: PlanSpec, *, world_size: int, row_bytes: int, reads_ahead: int, limit_bytes: int) -> None:
    """Raises PlanError where one rank would hold more than `limit_bytes` of decoded rows."""
    planned = planned_memory_bytes(spec, world_size=world_size, row_bytes=row_bytes, reads_ahead=reads_ahead)
    if planned > limit_bytes:
        raise PlanError(
            STAGE,
            expected=f"at most {limit_bytes:,} bytes of decoded rows in a worker (memory_limit_bytes)",
            found=(
                f"{planned:,} bytes: windows of {spec.window_rows:,} rows, row groups of up to "
                f"{int(spec.row_group_rows.max()):,} rows, {row_bytes:,} bytes a row"
            ),
            remedy="Lower shuffle_bytes, write smaller row groups, use more workers or ranks, or raise the limit.",
        )
