"""Every fault in real runs: it ends or goes on within a minute, leaves no process, and no row is lost or seen twice.

That each row counts once in the lineage of the final weights is shown by the weights: they are bit-equal to those of a run that
nothing happened to, at the same number of workers and one thread.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from millrace.errors import LakeError, TrainingError
from millrace.training.checkpoint import newest_checkpoint, read_checkpoint
from millrace.training.launch import train_on_spark
from tests.training.conftest import checkpoint_of, digits_request
from tests.training.faults import READER, Watcher, ctrl_c_works, handlers, happened_at, no_process_is_left

pytestmark = pytest.mark.full

EPOCHS, STEPS = 2, 32  # of 48 rows each
SECONDS = 60.0


@pytest.fixture(scope="module")
def undisturbed(spark, digits_uri, tmp_path_factory):
    """The result of a run that nothing happens to, by its number of workers."""
    results = {}

    def train(num_workers):
        if num_workers not in results:
            directory = tmp_path_factory.mktemp(f"whole-{num_workers}")
            results[num_workers] = train_on_spark(
                spark, digits_request(digits_uri, directory, num_workers=num_workers, epochs=EPOCHS)
            )
        return results[num_workers]

    return train


def train_through(spark, request, fault, log, *, seconds=SECONDS, watcher=None):
    """Trains; the next attempt is announced in time, and nothing is left of any."""
    before, watcher = handlers(), watcher or Watcher()
    result = train_on_spark(spark, request, on_event=watcher)
    assert log.times[0] - happened_at(fault) < seconds
    assert watcher.all_gone()
    assert no_process_is_left()
    assert handlers() == before
    assert ctrl_c_works()
    return result


def assert_same(result, whole):
    assert result.weight_hash == whole.weight_hash
    assert (result.num_rows_seen, result.num_steps) == (whole.num_rows_seen, whole.num_steps) == (EPOCHS * 1500, EPOCHS * STEPS)


@pytest.mark.parametrize("num_workers", [2, 3])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("step", [1, STEPS + STEPS // 2, EPOCHS * STEPS])
def test_killed_rank(spark, make_request, inject, log, undisturbed, num_workers, rank, step):
    request = make_request(num_workers=num_workers, epochs=EPOCHS)
    watcher = Watcher()
    result = train_through(spark, request, inject(rank=rank, what="kill", step=step), log, watcher=watcher)
    assert_same(result, undisturbed(num_workers))
    epoch = (step - 1) // STEPS + 1
    assert log.lines == [
        f"rank {rank} ended without a word, after step {step} in epoch {epoch}. "
        f"Training goes on with {num_workers} workers (attempt 2 of 3)"
    ]
    assert watcher.remarks == ([f"going on from {checkpoint_of(request, 1)}"] if epoch == 2 else [])


@pytest.mark.parametrize(("rank", "num_workers"), [(0, 2), (1, 2), (2, 3)])
@pytest.mark.parametrize("step", [1, STEPS + STEPS // 2])
def test_stopped_rank(spark, make_request, inject, log, undisturbed, rank, num_workers, step):
    """Takes the heartbeat time-out, because nothing else notices a process that stands still."""
    request = make_request(num_workers=num_workers, epochs=EPOCHS)
    result = train_through(spark, request, inject(rank=rank, what="stop", step=step), log)
    assert_same(result, undisturbed(num_workers))
    (line,) = log.lines
    assert line.startswith(f"rank {rank} said nothing for ")
    assert line.partition(". Training")[0].count("rank") == 1


def test_readers_of_a_killed_rank_end_too(spark, make_request, inject, log, undisturbed):
    readers = []

    def remember(pids):
        children = [child for pid in pids.values() for child in psutil.Process(pid).children()]
        readers.extend(child for child in children if READER in " ".join(child.cmdline()))

    loading = {"pool": "processes", "num_readers": 2}
    fault = inject(rank=1, what="kill", step=STEPS + STEPS // 2)
    watcher = Watcher(lambda event: event["kind"] == "epoch", remember)
    request = make_request(num_workers=2, epochs=EPOCHS, loading=loading)
    assert_same(train_through(spark, request, fault, log, watcher=watcher), undisturbed(2))
    assert len(readers) == 4
    assert not any(reader.is_running() for reader in readers)
    assert no_process_is_left(fault)


@pytest.mark.parametrize("num_workers", [2, 3])
@pytest.mark.parametrize("rank", [0, 1])
def test_rank_whose_thread_hangs(spark, make_request, inject, log, undisturbed, num_workers, rank):
    """The others wait for it in their all-reduce, as silent as it is: where each of them was tells who is to blame."""
    request = make_request(num_workers=num_workers, epochs=EPOCHS)
    result = train_through(spark, request, inject(rank=rank, what="hang", step=40), log)
    assert_same(result, undisturbed(num_workers))
    (line,) = log.lines
    assert line.startswith(f"rank {rank} said nothing for ")
    assert "after step 40 in epoch 2. Training goes on with " in line
    assert line.partition(". Training")[0].count("rank") == 1


def test_rank_that_always_hangs_ends_the_run_and_says_where_it_was(spark, make_request, inject):
    inject(rank=1, what="hang", step=40)
    with pytest.raises(TrainingError) as caught:
        train_on_spark(spark, make_request(num_workers=2, max_restarts=0))
    assert caught.value.found.startswith("rank 1 said nothing for ")
    assert "; rank 1 was in:\n" in caught.value.found
    assert "in happen" in caught.value.found
    assert "rank 0" not in caught.value.found


@pytest.mark.parametrize(
    ("what", "kind"),
    [("hang", "hello"), ("stop", "hello"), ("hang", "start"), ("hang", "checkpoint"), ("hang", "load"), ("stop", "load")],
)
def test_rank_that_hangs_before_its_first_step(spark, make_request, inject, log, undisturbed, what, kind):
    """Imports and tracing take long there: it hangs when it computes nothing either. The others wait for it wherever they can."""
    fault = inject(rank=1, what=what, kind=kind)
    request = make_request(num_workers=2, epochs=EPOCHS)
    assert_same(train_through(spark, request, fault, log), undisturbed(2))
    (line,) = log.lines
    assert line.startswith("rank 1 said nothing for ")
    assert line.partition(", ")[2] == "before its first step. Training goes on with 2 workers (attempt 2 of 3)"


@pytest.mark.parametrize("num_workers", [2, 3])
def test_exception_in_a_rank_ends_the_run_at_once_with_its_whole_traceback(spark, make_request, inject, log, capfd, num_workers):
    fault = inject(rank=1, what="raise", step=40)
    watcher = Watcher()
    with pytest.raises(TrainingError) as caught:
        train_on_spark(spark, make_request(num_workers=num_workers), on_event=watcher)
    assert time.time() - happened_at(fault) < SECONDS
    text = str(caught.value)
    assert text.startswith("training: expected every rank to finish; found this in rank 1:\nTraceback (most recent call last):\n")
    assert "RuntimeError: planted in 1" in text
    assert text.count("Traceback (most recent call last):") == 1
    assert "Traceback" not in capfd.readouterr().err
    assert log.lines == []  # it would only come again
    assert watcher.all_gone()
    assert no_process_is_left()
    assert ctrl_c_works()


@pytest.mark.parametrize("num_workers", [2, 3])
def test_loss_that_is_no_number(spark, make_request, log, num_workers):
    optimizer = {"name": "sgd", "learning_rate": 1e30}
    request = make_request(num_workers=num_workers, optimizer=optimizer, checkpoints={"every_steps": 1})
    watcher = Watcher()
    with pytest.raises(TrainingError) as caught:
        train_on_spark(spark, request, on_event=watcher)
    assert str(caught.value) == (
        "training: expected a finite loss and finite gradients; found infinity or no number at step 2 of 32 in epoch 1. "
        "Lower training.optimizer.learning_rate, or look for extreme values in the features."
    )
    assert [event["step"] for event in watcher.events if event["kind"] == "step" and event["rank"] == 0] == [1]
    assert log.lines == []
    plan = request.plan(request.train)
    kept, remarks = newest_checkpoint(request.checkpoints, request.fingerprint(plan), max_epoch=4)
    assert remarks == []
    assert read_checkpoint(kept).progress.step == 1
    assert watcher.all_gone()
    assert no_process_is_left()
    assert ctrl_c_works()


@pytest.mark.parametrize(("damage", "num_workers"), [("torn", 2), ("empty", 2), ("flipped", 2), ("torn", 3)])
def test_damaged_checkpoint(spark, make_request, inject, log, undisturbed, damage, num_workers):
    request = make_request(num_workers=num_workers, epochs=EPOCHS, checkpoints={"every_steps": 20})
    # after step 45 the newest checkpoint is of step 40, the one before of the first epoch's end
    fault = inject(rank=0, what=damage, checkpoints=request.checkpoints, step=45)
    watcher = Watcher()
    result = train_through(spark, request, fault, log, watcher=watcher)
    assert_same(result, undisturbed(num_workers))
    assert result.first_step == STEPS + 1
    (note,) = result.notes
    assert note.startswith(f"{checkpoint_of(request, 1, 8)} is passed over: ")
    assert watcher.remarks == [note, f"going on from {checkpoint_of(request, 1)}"]


@pytest.mark.parametrize(("how", "num_workers"), [("vacuumed", 2), ("rewritten", 2), ("vacuumed", 3)])
def test_table_that_goes_away_under_the_run(spark, tmp_path, digits_copy, how, num_workers):
    request = digits_request(digits_copy, tmp_path / "checkpoints", num_workers=num_workers, epochs=200)

    def spoil(_pids):
        for file in Path(digits_copy).rglob("*train*/*.parquet"):
            other = file.with_suffix(".new")
            other.write_bytes(b"PAR1 something else PAR1")
            other.rename(file) if how == "rewritten" else (other.unlink(), file.unlink())

    moments = []
    watcher = Watcher(lambda event: event["kind"] == "epoch", lambda pids: (moments.append(time.time()), spoil(pids)))
    with pytest.raises(LakeError) as caught:
        train_on_spark(spark, request, on_event=watcher)
    assert time.time() - moments[0] < SECONDS
    assert "The table was vacuumed, rewritten or damaged under the run" in str(caught.value)
    assert watcher.all_gone()
    assert no_process_is_left()
    assert ctrl_c_works()


def test_ctrl_c_in_a_restarted_run_ends_it(spark, make_request, inject):
    inject(rank=1, what="kill", step=3)
    watcher = Watcher(
        lambda event: event["kind"] == "epoch" and event["epoch"] == 2, lambda _pids: os.kill(os.getpid(), signal.SIGINT)
    )
    with pytest.raises(KeyboardInterrupt):
        train_on_spark(spark, make_request(num_workers=2, epochs=400), on_event=watcher)
    assert watcher.all_gone()
    assert no_process_is_left()
