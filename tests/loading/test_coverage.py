"""Every row once an epoch, in the plan's order, over the grid of sizes, files, shards, ranks and readers.

The ranks of a cell are read one after another in this process. One cell a mechanism runs always; the whole grid is marked full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest

from millrace.config.training import LoadingConfig
from millrace.loading.columns import ColumnSpec
from millrace.loading.epoch import EpochPlan
from millrace.loading.index import DatasetIndex
from millrace.loading.opening import open_index
from millrace.loading.plan import PlanSpec, plan_for
from millrace.loading.reader import PlannedReader

from .conftest import write_numbered

ROW_ID = ColumnSpec(name="row_id", dtype="string")
NUMBER = ColumnSpec(name="number", dtype="int64")
SEED, EPOCH = 11, 3
NUM_ROWS = [1, 23, 840, 6_007, 200_000]
WORLD_SIZES = range(1, 9)
SHARDS = [8, 24, 840]


def even(num_rows: int) -> list[list[int]]:
    """Four files of four row groups, as equal as can be."""
    cuts = [part * num_rows // 16 for part in range(17)]
    groups = [last - first for first, last in pairwise(cuts)]
    return [groups[file : file + 4] for file in range(0, 16, 4)]


def uneven(num_rows: int, num_groups: int = 40) -> list[list[int]]:
    """Three files with `num_groups` row groups from one row to a fifth of all; empty row groups where there are too few rows."""
    weights = (np.arange(num_groups) * 7919 % 101) ** 3 + 1.0
    cuts = np.round(np.cumsum(weights) / weights.sum() * num_rows).astype(int)
    groups = np.diff(cuts, prepend=0).tolist()
    return [groups[:1], groups[1:31], groups[31:]]


FILES: dict[str, Callable[[int], list[list[int]]]] = {"even": even, "uneven": uneven}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A dataset and its plan."""

    index: DatasetIndex
    plan: PlanSpec
    batches: tuple[tuple[str, ...], ...]
    """The row_ids of each global batch, by the plan alone."""


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, str, int], Cell]:
    """Datasets and plans, each made once."""

    @cache
    def dataset(num_rows: int, files: str) -> DatasetIndex:
        directory = tmp_path_factory.mktemp("grid") / "rows"
        return open_index(write_numbered(Path(directory), FILES[files](num_rows)), partitions={})

    @cache
    def make(num_rows: int, files: str, shards: int) -> Cell:
        index = dataset(num_rows, files)
        plan = plan_for(
            index.row_group_rows(),
            row_bytes=ROW_ID.row_bytes,
            seed=SEED,
            global_batch=shards * max(1, 960 // shards) if num_rows > 5_000 else shards,
            virtual_shards=shards,
            shuffle_bytes=max(1, num_rows // 3) * ROW_ID.row_bytes,
            dataset=index.fingerprint(),
        )
        order = EpochPlan(plan, EPOCH)
        batches = (order.global_batch(step).tolist() for step in range(plan.num_steps))
        return Cell(index=index, plan=plan, batches=tuple(tuple(f"row-{row}" for row in batch) for batch in batches))

    return make


def rank_batches(cell: Cell, world_size: int, loading: LoadingConfig) -> Iterator[list[list[str]]]:
    """Each rank's row_ids, which its numbers agree with: those lie in memory that is used again, texts do not."""
    columns = [ROW_ID, NUMBER]
    for rank in range(world_size):
        reader = PlannedReader(
            cell.index, cell.plan, columns, rank=rank, world_size=world_size, memory_limit_bytes=2**30, loading=loading
        )
        batches = list(reader.batches(EPOCH))
        names = [batch.columns["row_id"][: batch.num_rows].tolist() for batch in batches]
        numbers = [batch.columns["number"][: batch.num_rows].tolist() for batch in batches]
        assert [[f"row-{number}" for number in batch] for batch in numbers] == names
        yield names


def check(cell: Cell, world_size: int, loading: LoadingConfig) -> None:
    """Global batches are the plan's; no row is missing or there twice; all batches but the last are full."""
    ranks = list(rank_batches(cell, world_size, loading))
    assert [len(batches) for batches in ranks] == [cell.plan.num_steps] * world_size
    found = [tuple(row for part in parts for row in part) for parts in zip(*ranks, strict=True)]
    assert tuple(found) == cell.batches
    rows = [row for batch in found for row in batch]
    assert len(rows) == len(set(rows)) == cell.plan.num_rows
    assert {len(batch) for batch in found[:-1]} <= {cell.plan.global_batch}


def threads(num_readers: int) -> LoadingConfig:
    return LoadingConfig(num_readers=num_readers)


PROCESSES = LoadingConfig(pool="processes", num_readers=2)


@pytest.mark.parametrize(("num_rows", "world_size", "num_threads"), [(1, 3, 1), (840, 1, 4), (840, 8, 2), (6_007, 3, 3)])
def test_every_row_once(cell, num_rows, world_size, num_threads):
    check(cell(num_rows, "uneven", 24), world_size, threads(num_threads))


def test_every_row_once_with_processes(cell):
    check(cell(6_007, "uneven", 8), 1, PROCESSES)


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shards", SHARDS)
@pytest.mark.parametrize("files", list(FILES))
@pytest.mark.parametrize("num_rows", NUM_ROWS)
def test_every_row_once_on_the_whole_grid(cell, num_rows, files, shards):
    """Takes minutes for 200,000 rows: 8 world sizes by 4 numbers of threads."""
    for world_size, num_threads in product(WORLD_SIZES, range(1, 5)):
        check(cell(num_rows, files, shards), world_size, threads(num_threads))


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shards", SHARDS)
@pytest.mark.parametrize("files", list(FILES))
@pytest.mark.parametrize("num_rows", NUM_ROWS)
def test_every_row_once_on_the_whole_grid_of_processes(cell, num_rows, files, shards):
    """Each rank starts processes, which takes seconds."""
    for world_size in (1, 3):
        check(cell(num_rows, files, shards), world_size, PROCESSES)


REPEATED: Sequence[tuple[int, LoadingConfig, int]] = [
    *((world_size, threads(num_threads), 100) for world_size, num_threads in product((1, 3, 8), range(1, 5))),
    *((world_size, PROCESSES, 10) for world_size in (1, 3)),
]


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("world_size", "loading", "times"), REPEATED, ids=lambda value: getattr(value, "pool", str(value)))
def test_every_row_once_time_after_time(cell, world_size, loading, times):
    """40 uneven row groups, where a reader that loses or repeats a result does so now and then only."""
    for _ in range(times):
        check(cell(6_007, "uneven", 8), world_size, loading)
