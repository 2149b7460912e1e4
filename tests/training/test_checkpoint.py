"""Checkpoints: whole or passed over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from millrace.errors import TrainingError
from millrace.training.board import Point
from millrace.training.checkpoint import (
    Checkpoint,
    Progress,
    newest_checkpoint,
    read_checkpoint,
    remove_unfinished,
    write_checkpoint,
)


def checkpoint_of(epoch: int, *, fingerprint: str = "run") -> Checkpoint:
    rows = ({"epoch": epoch, "step": 10 * epoch, "split": "train", "metric": "loss", "value": 0.5},)
    return Checkpoint(
        progress=Progress(
            fingerprint=fingerprint,
            epoch=epoch,
            step=10 * epoch,
            num_rows_seen=100 * epoch,
            sums=(0.1, 2.0, 3.0),
            seconds=0.7,
            rows=rows,
            curve=(Point("step/loss", 10 * epoch, 1e9 + 0.123, 0.5),),
        ),
        weights=(np.full((2, 3), epoch, dtype=np.float32), np.zeros(3, dtype=np.float32)),
        optimizer=(np.array(10 * epoch, dtype=np.int64),),
    )


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_comes_back_as_it_was(tmp_path, scheme):
    uri = write_checkpoint(f"{scheme}{tmp_path}/new/checkpoints", checkpoint_of(2))
    assert uri == f"{scheme}{tmp_path}/new/checkpoints/epoch-000002.ckpt"
    again = read_checkpoint(uri)
    assert again.progress == checkpoint_of(2).progress
    for mine, other in zip(again.weights + again.optimizer, checkpoint_of(2).weights + checkpoint_of(2).optimizer, strict=True):
        np.testing.assert_array_equal(mine, other)
        assert mine.dtype == other.dtype


def test_on_another_file_system():
    directory = "memory://checkpoints/run"
    for epoch in (1, 2):
        uri = write_checkpoint(directory, checkpoint_of(epoch))
    assert newest_checkpoint(directory, "run", max_epoch=9) == (uri, [])
    assert read_checkpoint(uri).progress.epoch == 2


def test_newest_ones_are_kept_whole_epochs_or_not(tmp_path):
    for epoch, step_in_epoch in ((1, 0), (1, 5), (1, 10), (2, 0), (2, 5)):
        progress = replace(checkpoint_of(epoch).progress, step_in_epoch=step_in_epoch)
        write_checkpoint(str(tmp_path), replace(checkpoint_of(epoch), progress=progress), keep=3)
    names = ["epoch-000001-step-00000010.ckpt", "epoch-000002-step-00000005.ckpt", "epoch-000002.ckpt"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    found, _ = newest_checkpoint(str(tmp_path), "run", max_epoch=9)
    assert found == str(tmp_path / "epoch-000002-step-00000005.ckpt")
    found, _ = newest_checkpoint(str(tmp_path), "run", max_epoch=2)
    assert found == str(tmp_path / "epoch-000002.ckpt")


@pytest.mark.parametrize("damage", ["torn", "empty", "flipped", "header"])
def test_damaged_one_is_passed_over_for_the_one_before(tmp_path, damage):
    uris = [write_checkpoint(str(tmp_path), checkpoint_of(epoch)) for epoch in (1, 2)]
    file = Path(uris[1])
    content = bytearray(file.read_bytes())
    match damage:
        case "torn":
            content = content[: len(content) // 2]
        case "empty":
            content = bytearray()
        case "flipped":
            content[len(content) // 2] ^= 1
        case "header":
            content[3] ^= 1
    file.write_bytes(content)
    found, remarks = newest_checkpoint(str(tmp_path), "run", max_epoch=9)
    assert found == uris[0]
    assert remarks == [f"{uris[1]} is passed over: {len(content)} bytes that do not match their checksum"]
    with pytest.raises(TrainingError, match=r"a whole checkpoint at .* Remove it; training goes on from the one before\."):
        read_checkpoint(uris[1])


def test_those_of_another_run_are_passed_over(tmp_path):
    uri = write_checkpoint(str(tmp_path), checkpoint_of(1, fingerprint="other"))
    found, remarks = newest_checkpoint(str(tmp_path), "run", max_epoch=9)
    assert found is None
    assert remarks == [f"{uri} is passed over: it belongs to other data, another model or another plan"]


def test_those_beyond_the_last_epoch_are_not_used(tmp_path):
    uris = [write_checkpoint(str(tmp_path), checkpoint_of(epoch)) for epoch in (1, 2, 3)]
    assert newest_checkpoint(str(tmp_path), "run", max_epoch=2) == (uris[1], [])


def test_no_directory_is_no_checkpoint(tmp_path):
    assert newest_checkpoint(str(tmp_path / "nothing"), "run", max_epoch=2) == (None, [])


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    uri = write_checkpoint(str(tmp_path), checkpoint_of(1))
    (tmp_path / "epoch-000002.ckpt.abc.tmp").write_bytes(b"half")
    remove_unfinished(str(tmp_path))
    assert [str(file) for file in tmp_path.iterdir()] == [uri]


def test_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError) as caught:
        write_checkpoint(str(tmp_path / "file" / "checkpoints"), checkpoint_of(1))
    assert caught.value.retry
    assert caught.value.remedy == "Make room or give write access there, and run again."
