"""The loader's options reach the loop, and change nothing that it computes."""

from __future__ import annotations

import psutil
import pytest

from millrace.errors import PlanError
from millrace.training.loop import train
from millrace.training.ranks import Ranks


def run(request):
    return train(request, Ranks(rank=0, world_size=1))


def test_processes_cache_and_depth_give_the_same_weights(make_request, tmp_path):
    plain = run(make_request(epochs=2, directory="plain"))
    started = set()

    def remember(kind: str, **fields: object) -> None:
        started.update(child.pid for child in psutil.Process().children() if "exec_in_new_process" in " ".join(child.cmdline()))

    loading = {"pool": "processes", "num_readers": 1, "row_groups_ahead": 2, "cache_directory": str(tmp_path / "cache")}
    request = make_request(epochs=2, directory="processes", loading=loading)
    other = train(request, Ranks(rank=0, world_size=1), tell=remember)
    assert other.weight_hash == plain.weight_hash
    assert len(started) == 1  # one process reads both epochs, their validation too
    assert len(list((tmp_path / "cache").glob("*.rows"))) == 15 + 3


def test_readers_are_part_of_the_planned_memory(make_request):
    with pytest.raises(PlanError, match=r"in a worker \(memory_limit_bytes\); found"):
        run(make_request(loading={"row_groups_ahead": 40, "num_readers": 8}, memory_limit_bytes=150_000))
    run(make_request(epochs=1, loading={"row_groups_ahead": 1}, memory_limit_bytes=400_000))
