"""The reader gives exactly what the plan says, whatever the threads do."""

from __future__ import annotations

import errno
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from millrace.config.training import LoadingConfig
from millrace.errors import ContractError, LakeError, PlanError
from millrace.loading.columns import ColumnSpec
from millrace.loading.epoch import EpochPlan
from millrace.loading.files import RowGroupFile
from millrace.loading.index import build_index
from millrace.loading.opening import open_index
from millrace.loading.plan import PlanSpec
from millrace.loading.pool import Readers
from millrace.loading.reader import PlannedReader, read_in_order

IMAGE = ColumnSpec(name="image", dtype="uint8", shape=(2, 2, 1))
DIGIT = ColumnSpec(name="digit", dtype="int32")
ROW_ID = ColumnSpec(name="row_id", dtype="string")


def planned(index, *, batch=8, shards=4, window_steps=2, seed=3) -> PlanSpec:
    return PlanSpec(
        seed=seed,
        global_batch=batch,
        virtual_shards=shards,
        window_rows=window_steps * (batch // shards),
        row_group_rows=index.row_group_rows(),
        dataset=index.fingerprint(),
    )


def reader_of(index, spec, *, rank=0, world_size=1, num_threads=2, columns=(IMAGE, DIGIT, ROW_ID), limit=2**20):
    return PlannedReader(
        index, spec, columns, rank=rank, world_size=world_size, memory_limit_bytes=limit, num_threads=num_threads
    )


@pytest.mark.parametrize(
    ("files", "max_rows"),
    [((1,), 64), ((200,), 200), ((100,), 7), ((5, 90, 1, 33), 16)],
    ids=["one row", "one row group", "small row groups", "uneven files"],
)
@pytest.mark.parametrize("num_threads", [1, 3])
def test_global_batches_equal_the_plan_for_every_world_size(digits_table, numbers_of, files, max_rows, num_threads):
    index = build_index(digits_table(*files, max_rows=max_rows), version=len(files) - 1, partitions={"split": "train"})
    spec = planned(index)
    for world_size in (1, 2, 3, 4):
        readers = [
            reader_of(index, spec, rank=rank, world_size=world_size, num_threads=num_threads) for rank in range(world_size)
        ]
        for epoch in (0, 1):
            plan = EpochPlan(spec, epoch)
            streams = [reader.batches(epoch) for reader in readers]
            for step in range(spec.num_steps):
                parts = [next(stream) for stream in streams]
                rows = [row for part in parts for row in numbers_of(part.columns["image"][: part.num_rows])]
                assert rows == plan.global_batch(step).tolist()
                assert [part.step for part in parts] == [step] * world_size
                digits = np.concatenate([part.columns["digit"][: part.num_rows] for part in parts])
                assert digits.tolist() == [row % 10 for row in rows]
                row_ids = np.concatenate([part.columns["row_id"][: part.num_rows] for part in parts])
                assert row_ids.tolist() == [f"row-{row}" for row in rows]
            assert [next(stream, None) for stream in streams] == [None] * world_size


TOKENS = ColumnSpec(name="tokens", dtype="int32", length_buckets=(2, 5, 8), padding=-1)
LIST = ColumnSpec(name="list", dtype="int64", length_buckets=(6,))
NUMBER = ColumnSpec(name="number", dtype="int64")


@pytest.mark.parametrize("world_size", [1, 3])
def test_sequences_are_padded_to_the_longest_row_and_keep_the_order(numbered_files, world_size):
    """Row n has n % 7 tokens, all of them n."""
    index = open_index(numbered_files([30, 1, 50], [7]), partitions={})
    spec = planned(index)
    streams = [
        reader_of(index, spec, rank=rank, world_size=world_size, columns=(NUMBER, TOKENS, LIST)).batches(1)
        for rank in range(world_size)
    ]
    for step, parts in enumerate(zip(*streams, strict=True)):
        rows = [row for part in parts for row in part.columns["number"][: part.num_rows].tolist()]
        assert rows == EpochPlan(spec, 1).global_batch(step).tolist()
        for part in parts:
            own = part.columns["number"][: part.num_rows].tolist()
            longest = max((row % 7 for row in own), default=0)
            width = 2 if longest <= 2 else 5 if longest <= 5 else 8
            assert part.lengths["tokens"][: part.num_rows].tolist() == [row % 7 for row in own]
            assert part.lengths["tokens"][part.num_rows :].sum() == 0
            filled = [[row] * (row % 7) for row in own]
            assert part.columns["tokens"][: part.num_rows].tolist() == [row + [-1] * (width - len(row)) for row in filled]
            assert part.columns["list"][: part.num_rows].tolist() == [row + [0] * (6 - len(row)) for row in filled]
            assert part.mask("tokens").sum(axis=1).tolist() == part.lengths["tokens"].tolist()
            assert part.columns["tokens"].ctypes.data % 64 == 0


def test_sequences_in_index_order(numbered_files):
    index = open_index(numbered_files([5, 6], [7]), partitions={})
    batches = list(read_in_order(index, [NUMBER, TOKENS], 4, num_threads=2))
    assert [number for batch in batches for number in batch.columns["number"].tolist()] == list(range(18))
    assert [length for batch in batches for length in batch.lengths["tokens"].tolist()] == [row % 7 for row in range(18)]
    assert [batch.columns["tokens"].shape for batch in batches] == [(4, 5), (4, 8), (4, 5), (4, 8), (2, 5)]


def test_window_of_sequences_is_planned_at_the_longest_bucket(numbered_files):
    """Two windows' steps of 8 rows in 4 shards, 2 row groups in each shard, and what 2 threads read ahead, at 8 * 4 + 8 bytes."""
    index = open_index(numbered_files([30] * 40), partitions={})
    with pytest.raises(PlanError, match=rf"found {(16 + 8 * 30 + 4 * 30) * 40:,} bytes: .* 40 bytes a row"):
        reader_of(index, planned(index), columns=(TOKENS,), limit=1000)


def test_processes_and_depth_count_in_the_plan(numbered_files):
    index = open_index(numbered_files([30] * 40), partitions={})
    for loading, ahead in [
        (LoadingConfig(row_groups_ahead=1), 1),
        (LoadingConfig(num_readers=3), 5),
        (LoadingConfig(pool="processes", num_readers=3), 10),
    ]:
        with pytest.raises(PlanError, match=rf"found {(16 + 8 * 30 + ahead * 30) * 40:,} bytes"):
            PlannedReader(index, planned(index), [TOKENS], rank=0, world_size=1, memory_limit_bytes=1000, loading=loading)


def test_depth_of_one_reads_all(numbered_files):
    index = open_index(numbered_files([3] * 20), partitions={})
    loading = LoadingConfig(row_groups_ahead=1, num_readers=3)
    batches = read_in_order(index, [NUMBER], 7, readers=Readers([NUMBER], num_threads=1, loading=loading))
    assert [number for batch in batches for number in batch.columns["number"].tolist()] == list(range(60))


def test_rank_without_rows_gets_one_row_of_weight_0(digits_table):
    index = build_index(digits_table(1), version=0, partitions={})
    batches = [next(reader_of(index, planned(index), rank=rank, world_size=4).batches(0)) for rank in range(4)]
    assert sorted(batch.num_rows for batch in batches) == [0, 0, 0, 1]
    for batch in batches:
        assert batch.columns["image"].shape == (1, 2, 2, 1)
        assert batch.weights.tolist() == [float(batch.num_rows)]


def test_starts_in_mid_epoch_without_reading_what_came_before(digits_table):
    index = build_index(digits_table(40, 40, max_rows=10), version=1, partitions={})
    reader = reader_of(index, planned(index))
    whole = [batch.columns["row_id"].tolist() for batch in reader.batches(2)]
    for first_step in range(len(whole)):
        batches = list(reader.batches(2, first_step=first_step))
        assert [batch.columns["row_id"].tolist() for batch in batches] == whole[first_step:]
        assert batches[0].step == first_step


def test_batches_are_aligned_and_their_own(digits_table):
    index = build_index(digits_table(80), version=0, partitions={})
    batches = list(reader_of(index, planned(index), columns=(IMAGE, DIGIT)).batches(0))
    starts = {array.ctypes.data for batch in batches for array in batch.columns.values()}
    assert len(starts) == 2 * len(batches)
    assert all(start % 64 == 0 for start in starts)


def test_row_group_is_read_once_by_a_rank(digits_table, monkeypatch):
    """Row groups feed four shards in several windows, and each is read from its file once an epoch."""
    index = build_index(digits_table(100, 130, max_rows=50), version=1, partitions={})
    assert EpochPlan(planned(index), 0).pieces(range(4)).row_group.size > 4 * len(index.row_groups)
    read = RowGroupFile.read
    reads = []

    def counted(file, row_group, columns):
        reads.append((file.metadata.num_rows, row_group))
        return read(file, row_group, columns)

    monkeypatch.setattr(RowGroupFile, "read", counted)
    reader = reader_of(index, planned(index))
    for epoch in (0, 1):
        reads.clear()
        assert sum(batch.num_rows for batch in reader.batches(epoch)) == 230
        assert sorted(reads) == [(100, 0), (100, 1), (130, 0), (130, 1), (130, 2)]


def test_stops_its_threads_when_left_early(digits_table):
    index = build_index(digits_table(200, max_rows=5), version=0, partitions={})
    before = threading.active_count()
    stream = reader_of(index, planned(index)).batches(0)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_readers_that_wait_do_not_wake(digits_table):
    index = build_index(digits_table(200, max_rows=10), version=0, partitions={})
    before = threading.enumerate()
    with Readers((DIGIT,), num_threads=2).in_order(index, range(20)) as groups:
        next(groups)
        time.sleep(0.2)  # they have read ahead, and wait for room
        own = {thread for thread in threading.enumerate() if thread not in before}
        first = _wakes(own)
        time.sleep(0.5)
        assert len(own) == 3, "two readers, and the one that gives out row groups"
        assert _wakes(own) - first <= 5


def _wakes(threads: set[threading.Thread]) -> int:
    texts = [Path(f"/proc/self/task/{thread.native_id}/status").read_text() for thread in threads]
    lines = [line for text in texts for line in text.splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def test_planned_memory_over_the_limit_is_refused(digits_table):
    index = build_index(digits_table(200), version=0, partitions={})
    with pytest.raises(PlanError, match="at most 10 bytes of decoded rows in a worker"):
        reader_of(index, planned(index), limit=10)


def test_unknown_column_is_refused_once_and_quietly(digits_table, capfd):
    index = build_index(digits_table(200, max_rows=5), version=0, partitions={})
    missing = ColumnSpec(name="label", dtype="int32")
    capfd.readouterr()
    with pytest.raises(ContractError) as caught:
        list(reader_of(index, planned(index), columns=(missing,)).batches(0))
    assert str(caught.value) == (
        f"load: expected the columns label; found row_id, image, digit, _night in {index.files[0]}. "
        "Compare the columns that were asked for with the table's."
    )
    assert capfd.readouterr() == ("", "")


def test_file_that_was_vacuumed_under_the_run(digits_table):
    index = build_index(digits_table(20, 20), version=1, partitions={})
    Path(index.files[1]).unlink()
    with pytest.raises(LakeError) as caught:
        list(reader_of(index, planned(index)).batches(0))
    assert f"expected 20 rows in row group 0 of {index.files[1]}, as indexed" in str(caught.value)


@pytest.mark.parametrize("told_by", ["its size", "its rows"])
def test_file_that_was_replaced_under_the_run(digits_table, told_by):
    index = build_index(digits_table(20, 30), version=1, partitions={})
    path = Path(index.files[1])
    before = path.stat().st_size
    path.write_bytes(Path(index.files[0]).read_bytes())
    found = f"{before:,} bytes in {path}, as indexed; found {path.stat().st_size:,} bytes"
    if told_by == "its rows":
        index = replace(index, identities=())
        found = f"30 rows in row group 0 of {path}, as indexed; found 20 rows"
    with pytest.raises(LakeError) as caught:
        list(reader_of(index, planned(index)).batches(0))
    assert not caught.value.retry
    assert str(caught.value) == (
        f"load: expected {found}. "
        "The table was vacuumed, rewritten or damaged under the run: build the index again, from a version that is kept."
    )


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), TimeoutError("no answer"), ConnectionResetError()])
def test_store_that_does_not_answer_is_tried_again(digits_table, monkeypatch, error):
    """It is not taken for a table that has changed: a training goes on from its last checkpoint."""
    index = build_index(digits_table(20), version=0, partitions={})

    def read(*_):
        raise error

    monkeypatch.setattr(RowGroupFile, "read", read)
    with pytest.raises(LakeError) as caught:
        list(reader_of(index, planned(index)).batches(0))
    assert caught.value.retry
    assert str(caught.value) == (
        f"load: expected row group 0 of {index.files[0]} to be read; found {type(error).__name__}: {error}. "
        "See that the store answers. Training goes on from its last checkpoint, a stream from the step that it is given."
    )


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_read_in_order_gives_every_row_in_index_order(digits_table, world_size, batch_size):
    index = build_index(digits_table(5, 90, 1, 33, max_rows=16), version=3, partitions={})
    rows = []
    for rank in range(world_size):
        batches = list(read_in_order(index, [ROW_ID, DIGIT], batch_size, rank=rank, world_size=world_size, num_threads=2))
        assert [batch.num_rows for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
        assert [batch.step for batch in batches] == list(range(len(batches)))
        rows += [row for batch in batches for row in batch.columns["row_id"].tolist()]
    assert rows == [f"row-{row}" for row in range(129)]


def test_read_in_order_of_nothing(digits_table):
    index = build_index(digits_table(5), version=0, partitions={"split": "test"})
    assert list(read_in_order(index, [DIGIT], 10)) == []


def test_row_groups_come_in_the_order_asked_for(digits_table):
    index = build_index(digits_table(64, max_rows=2), version=0, partitions={})
    order = np.random.default_rng(5).permutation(len(index.row_groups))
    with Readers([ROW_ID], num_threads=4).in_order(index, order) as groups:
        assert [number for number, _ in groups] == order.tolist()
