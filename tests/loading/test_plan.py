"""The plan: every row once, in the same order for every number of ranks."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.errors import PlanError
from millrace.loading.epoch import EpochPlan
from millrace.loading.plan import (
    PlanSpec,
    check_memory,
    default_virtual_shards,
    planned_memory_bytes,
    shards_of_rank,
    window_rows_for,
)


def spec(row_groups, *, batch=8, shards=4, window_steps=2, seed=0, dataset="") -> PlanSpec:
    return PlanSpec(
        seed=seed,
        global_batch=batch,
        virtual_shards=shards,
        window_rows=window_steps * (batch // shards),
        row_group_rows=np.array(row_groups),
        dataset=dataset,
    )


GROUPS = [
    [1],  # one row
    [7],  # fewer rows than a batch
    [64],  # one row group, whole batches
    [65],  # one row more than whole batches
    [5, 0, 9, 1],  # an empty row group
    [3] * 40,
    [1, 100, 2, 50, 17],  # uneven
]
BATCHES = [(1, 1), (8, 1), (8, 4), (8, 8), (24, 24), (840, 840)]


@pytest.mark.parametrize(("groups", "batch_shards", "seed"), list(product(GROUPS, BATCHES, [0, 7])))
def test_every_row_once_and_all_batches_but_the_last_full(groups, batch_shards, seed):
    plan_spec = spec(groups, batch=batch_shards[0], shards=batch_shards[1], seed=seed)
    for epoch in (0, 1):
        plan = EpochPlan(plan_spec, epoch)
        batches = [plan.global_batch(step) for step in range(plan_spec.num_steps)]
        assert sorted(np.concatenate(batches).tolist()) == list(range(sum(groups)))
        assert [batch.size for batch in batches[:-1]] == [plan_spec.global_batch] * (plan_spec.num_steps - 1)
        assert 0 < batches[-1].size <= plan_spec.global_batch
        assert plan.global_batch(plan_spec.num_steps).size == 0


@settings(max_examples=100, deadline=None)
@given(
    groups=st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(sum),
    shards=st.integers(1, 9),
    rows_per_step=st.integers(1, 5),
    window_steps=st.integers(1, 4),
    seed=st.integers(0, 2**63),
    epoch=st.integers(0, 100),
    first_step=st.integers(0, 5),
)
def test_pieces_cover_what_the_shards_train_on(groups, shards, rows_per_step, window_steps, seed, epoch, first_step):
    """What a rank reads, piece by piece, is what its batches consist of, for every number of ranks."""
    plan_spec = spec(groups, batch=shards * rows_per_step, shards=shards, window_steps=window_steps, seed=seed)
    plan = EpochPlan(plan_spec, epoch)
    first_step = min(first_step, plan_spec.num_steps - 1)
    first_rows = np.concatenate([[0], np.cumsum(groups)])
    first_window_step = first_step - first_step % window_steps
    for world_size in range(1, shards + 1):
        for rank in range(world_size):
            owned = shards_of_rank(shards, world_size, rank)
            pieces = plan.pieces(owned, first_step=first_step)
            begins = first_rows[pieces.row_group] + pieces.first_row
            runs = zip(begins, pieces.num_rows, strict=True)
            read = [row for begin, rows in runs for row in range(begin, begin + rows)]
            steps = range(first_window_step, plan_spec.num_steps)
            trained = np.concatenate([plan.shard_batch(shard, step) for step in steps for shard in owned])
            assert sorted(read) == sorted(trained.tolist())
            assert sorted(pieces.read_order().tolist()) == sorted(set(pieces.row_group.tolist()))
            assert pieces.num_rows.min(initial=1) > 0


@pytest.mark.parametrize(("shards", "world_size"), [(shards, size) for shards in (1, 3, 8) for size in range(1, shards + 1)])
def test_ranks_share_the_shards_without_gap_or_overlap(shards, world_size):
    owned = [list(shards_of_rank(shards, world_size, rank)) for rank in range(world_size)]
    assert [shard for part in owned for shard in part] == list(range(shards))
    assert max(map(len, owned)) - min(map(len, owned)) <= 1


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {}
    for seed, epoch in product(range(3), range(3)):
        plan_spec = spec([10, 20, 30], seed=seed)
        plan = EpochPlan(plan_spec, epoch)
        orders[seed, epoch] = tuple(np.concatenate([plan.global_batch(step) for step in range(plan_spec.num_steps)]))
    assert len(set(orders.values())) == 9


def test_order_is_what_it_was_when_this_was_written():
    """A change of these numbers is a change of every run that is resumed: raise the scheme's number in plan.py with it."""
    plan = EpochPlan(spec([6, 10, 4], seed=7), 3)
    assert [plan.global_batch(step).tolist() for step in range(plan.spec.num_steps)] == [
        [2, 0, 5, 4, 11, 9, 17, 16],
        [19, 1, 7, 6, 12, 10, 15, 14],
        [3, 8, 13, 18],
    ]


def test_single_row_group_starts_with_another_row_each_epoch():
    firsts = {int(EpochPlan(spec([1000], shards=1, batch=1, window_steps=1), epoch).global_batch(0)[0]) for epoch in range(50)}
    assert len(firsts) > 40


def line_of(plan_spec: PlanSpec, epoch: int) -> np.ndarray:
    """All rows in the order of the epoch."""
    plan = EpochPlan(plan_spec, epoch)
    return np.concatenate([plan.global_batch(step) for step in range(plan_spec.num_steps)])


@pytest.mark.parametrize("groups", [[100], [50, 50], [3] * 40, [70, 1, 9, 20]], ids=["1", "2", "40", "uneven"])
def test_position_of_a_row_is_uniform_over_epochs(groups):
    """Chi-square over tenths of the epoch, for the first, a middle and the last row; 27.9 is the 0.999 quantile of 9 degrees."""
    num_rows, num_epochs = sum(groups), 400
    plan_spec = spec(groups, batch=10, shards=5, window_steps=5)
    tenths = np.zeros((3, 10))
    for epoch in range(num_epochs):
        line = line_of(plan_spec, epoch)
        for kind, row in enumerate((0, num_rows // 2, num_rows - 1)):
            tenths[kind, int(np.flatnonzero(line == row)[0]) * 10 // num_rows] += 1
    expected = num_epochs / 10
    assert (((tenths - expected) ** 2 / expected).sum(axis=1) < 27.9).all()


@pytest.mark.parametrize(("shards", "window_steps"), [(1, 4), (4, 2), (4, 10), (8, 5)])
@pytest.mark.parametrize("groups", [[960], [24] * 40], ids=["one row group", "40 row groups"])
def test_neighbours_share_a_batch_no_more_often_than_the_window_allows(groups, shards, window_steps):
    """Of a shard's window of w rows B go into a batch, so two rows of a window share one with probability (B - 1) / (w - 1).

    Rows of different windows never do, but at the ends of shards, which chance may bring together. Four standard deviations.
    """
    plan_spec = spec(groups, batch=4 * shards, shards=shards, window_steps=window_steps)
    allowed = (plan_spec.rows_per_step - 1) / (plan_spec.window_rows - 1)
    num_epochs, num_pairs = 40, sum(groups) - 1
    shared = 0
    for epoch in range(num_epochs):
        step_of = np.empty(sum(groups), dtype=np.int64)
        line = line_of(plan_spec, epoch)
        step_of[line] = np.arange(line.size) // plan_spec.global_batch
        shared += int((np.diff(step_of) == 0).sum())
    num = num_epochs * num_pairs
    assert shared / num <= allowed + 4 * np.sqrt(allowed * (1 - allowed) / num)
    assert shared > 0


def test_fingerprint_changes_with_everything_the_order_depends_on():
    variants = [
        spec([4, 5]),
        spec([5, 4]),
        spec([4, 5], seed=1),
        spec([4, 5], batch=16),
        spec([4, 5], shards=2),
        spec([4, 5], window_steps=3),
        spec([4, 5], dataset="other"),
    ]
    assert len({variant.fingerprint() for variant in variants}) == len(variants)
    assert spec([4, 5]).fingerprint() == spec([4, 5]).fingerprint()


@pytest.mark.parametrize(("batch", "shards"), [(128, 8), (1, 1), (7, 7), (840, 8), (26, 2), (12, 6), (11, 1)])
def test_default_virtual_shards(batch, shards):
    assert default_virtual_shards(batch) == shards


def test_window_rows_are_whole_steps_and_never_none():
    assert window_rows_for(shuffle_bytes=2**28, row_bytes=784, global_batch=128, virtual_shards=8) == 2**28 // (8 * 784 * 16) * 16
    assert window_rows_for(shuffle_bytes=1, row_bytes=784, global_batch=128, virtual_shards=8) == 16


def test_million_row_groups_are_planned_by_arithmetic_alone():
    plan_spec = PlanSpec(
        seed=1, global_batch=8192, virtual_shards=1024, window_rows=8 * 512, row_group_rows=np.full(1_000_000, 5_000)
    )
    pieces = EpochPlan(plan_spec, 0).pieces(shards_of_rank(1024, 1024, 17))
    assert int(pieces.num_rows.sum()) == plan_spec.shard_rows(17)


def test_no_rows_are_refused():
    with pytest.raises(PlanError) as caught:
        spec([0, 0])
    assert str(caught.value) == (
        "plan: expected at least one row to train on; found 2 row groups with 0 rows. "
        "Look at the split's fractions and at what was quarantined."
    )


def test_batch_that_the_shards_do_not_divide_is_refused():
    with pytest.raises(PlanError) as caught:
        PlanSpec(seed=0, global_batch=10, virtual_shards=4, window_rows=4, row_group_rows=np.array([9]))
    assert str(caught.value) == (
        "plan: expected virtual_shards that divides batch_size; found 4 shards and a batch of 10 rows. "
        "Set virtual_shards to 5, or leave it out."
    )


def test_more_ranks_than_shards_are_refused():
    with pytest.raises(PlanError) as caught:
        shards_of_rank(4, 5, 0)
    assert str(caught.value) == (
        "plan: expected num_workers or world_size from 1 to 4 (virtual_shards); found 5. "
        "Lower it, or raise virtual_shards, which must divide batch_size."
    )


def test_window_of_half_a_step_is_refused():
    with pytest.raises(PlanError, match=r"expected a shuffle window of whole steps \(2 rows of each shard\); found 3 rows"):
        PlanSpec(seed=0, global_batch=8, virtual_shards=4, window_rows=3, row_group_rows=np.array([9]))


def test_memory_over_the_limit_is_refused_with_what_to_change():
    plan_spec = spec([1000] * 10, window_steps=100)
    # 2 shards with windows of 200 rows and 2 row groups each, and 3 row groups being read
    assert planned_memory_bytes(plan_spec, world_size=2, row_bytes=10, reads_ahead=3) == (2 * 200 + 4 * 1000 + 3 * 1000) * 10
    with pytest.raises(PlanError) as caught:
        check_memory(plan_spec, world_size=2, row_bytes=10, reads_ahead=3, limit_bytes=50_000)
    assert str(caught.value) == (
        "plan: expected at most 50,000 bytes of decoded rows in a worker (memory_limit_bytes); found 74,000 bytes: "
        "windows of 200 rows, row groups of up to 1,000 rows, 10 bytes a row. "
        "Lower shuffle_bytes, write smaller row groups, use more workers or ranks, or raise the limit."
    )


def test_plan_and_loading_import_neither_spark_nor_tensorflow():
    code = (
        "import sys, millrace.loading.plan, millrace.loading.reader, millrace.loading.index;"
        "print([name for name in ('pyspark', 'tensorflow', 'keras', 'horovod') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
