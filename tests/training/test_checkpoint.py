"""Checkpoints: whole or passed over."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem

from millrace.errors import TrainingError
from millrace.lake import artifacts
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
    assert uri == f"{scheme}{tmp_path}/new/checkpoints/run/epoch-000002.ckpt"
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
    assert sorted(file.name for file in tmp_path.glob("run/*")) == names
    found, _ = newest_checkpoint(str(tmp_path), "run", max_epoch=9)
    assert found == str(tmp_path / "run/epoch-000002-step-00000005.ckpt")
    found, _ = newest_checkpoint(str(tmp_path), "run", max_epoch=2)
    assert found == str(tmp_path / "run/epoch-000002.ckpt")


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


def test_another_run_is_left_alone_and_does_not_count(tmp_path):
    theirs = [write_checkpoint(str(tmp_path), checkpoint_of(epoch, fingerprint="other" * 13)) for epoch in (3, 4, 5)]
    content = [Path(uri).read_bytes() for uri in theirs]
    assert newest_checkpoint(str(tmp_path), "run", max_epoch=9) == (None, [])
    for epoch in (0, 3):
        progress = replace(checkpoint_of(epoch).progress, step_in_epoch=20)
        uri = write_checkpoint(str(tmp_path), replace(checkpoint_of(epoch), progress=progress), keep=1)
        assert newest_checkpoint(str(tmp_path), "run", max_epoch=9) == (uri, [])
    assert [Path(uri).read_bytes() for uri in theirs] == content


def test_one_in_the_wrong_place_is_passed_over(tmp_path):
    uri = Path(write_checkpoint(str(tmp_path), checkpoint_of(1, fingerprint="other")))
    moved = uri.parent.rename(tmp_path / "run") / uri.name
    found, remarks = newest_checkpoint(str(tmp_path), "run", max_epoch=9)
    assert found is None
    assert remarks == [f"{moved} is passed over: it belongs to other data, another model or another plan"]


def test_the_one_just_written_stays_also_where_later_ones_lie(tmp_path):
    """As when a run is done again with fewer epochs."""
    later = [write_checkpoint(str(tmp_path), checkpoint_of(epoch)) for epoch in (3, 4, 5)]
    first = [write_checkpoint(str(tmp_path), checkpoint_of(epoch), keep=2) for epoch in (0, 1, 2)]
    assert sorted(map(str, tmp_path.glob("run/*"))) == [*first[1:], *later]


@pytest.mark.parametrize("error", [PermissionError("no entry"), OSError(5, "Input/output error"), TimeoutError("slow")])
def test_store_that_cannot_be_read_is_no_damage(tmp_path, monkeypatch, error):
    uri = write_checkpoint(str(tmp_path), checkpoint_of(1))

    def refuse(*_arguments, **_options):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(LocalFileSystem, "open", refuse)
        with pytest.raises(TrainingError) as caught:
            newest_checkpoint(str(tmp_path), "run", max_epoch=9)
    assert caught.value.retry
    assert str(caught.value) == (
        f"checkpoint: expected to read {uri}; found {error}. See that the store can be reached and read, and run again."
    )
    monkeypatch.setattr(LocalFileSystem, "ls", refuse)
    for look in (lambda: newest_checkpoint(str(tmp_path), "run", max_epoch=9), lambda: remove_unfinished(str(tmp_path), "run")):
        with pytest.raises(TrainingError) as caught:
            look()
        assert caught.value.retry


@pytest.mark.parametrize("place", ["{tmp_path}", "memory://beats"])
def test_beats_come_as_the_work_goes_on(tmp_path, monkeypatch, place):
    """At least one for each part that is written, hashed or read; a store that takes its time is then not taken for a hang."""
    monkeypatch.setattr(artifacts, "PART_BYTES", 10_000)
    weights = tuple(np.random.default_rng(number).random(4000) for number in range(3))
    large = replace(checkpoint_of(1), weights=weights)
    beats = []
    uri = write_checkpoint(place.format(tmp_path=tmp_path), large, beat=lambda: beats.append("write"))
    num_parts = len(b"".join(artifacts.read_parts(uri))) // 10_000
    assert num_parts == 9
    assert len(beats) >= 2 * num_parts
    again = read_checkpoint(uri, lambda: beats.append("read"))
    assert beats.count("read") >= 2 * num_parts
    for mine, other in zip(again.weights, weights, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_write_goes_to_the_disk_between_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "PART_BYTES", 10_000)
    done = []
    monkeypatch.setattr(artifacts.os, "fsync", lambda _: done.append("disk"))
    write_checkpoint(str(tmp_path), replace(checkpoint_of(1), weights=(np.zeros(4000),)), beat=lambda: done.append("beat"))
    assert [what for what, _ in groupby(done)] == ["beat", *["disk", "beat"] * 5]  # four parts and the directory


def test_those_beyond_the_last_epoch_are_not_used(tmp_path):
    uris = [write_checkpoint(str(tmp_path), checkpoint_of(epoch)) for epoch in (1, 2, 3)]
    assert newest_checkpoint(str(tmp_path), "run", max_epoch=2) == (uris[1], [])


def test_no_directory_is_no_checkpoint(tmp_path):
    assert newest_checkpoint(str(tmp_path / "nothing"), "run", max_epoch=2) == (None, [])


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    uri = write_checkpoint(str(tmp_path), checkpoint_of(1))
    (tmp_path / "run/epoch-000002.ckpt.abc.tmp").write_bytes(b"half")
    remove_unfinished(str(tmp_path), "run")
    assert [str(file) for file in tmp_path.glob("run/*")] == [uri]


def test_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError) as caught:
        write_checkpoint(str(tmp_path / "file" / "checkpoints"), checkpoint_of(1))
    assert caught.value.retry
    assert caught.value.remedy == "Make room or give write access there, and run again."
