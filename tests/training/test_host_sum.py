"""Sums over ranks that share a host's memory. Here the ranks are threads; real processes take them in test_step_on_ranks.py."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from millrace.training import host_sum
from millrace.training.host_sum import HostSum, RankLostError, _Memory


def group(world_size):
    """A HostSum for each rank, which has opened the others' memory by its address as another process would."""
    memories = [_Memory.create() for _ in range(world_size)]
    return [
        HostSum(rank, [mine if mine is memory else _Memory.open(memory.address.ljust(64, b"\0")) for memory in memories])
        for rank, mine in enumerate(memories)
    ]


def numbers_of(rank, turn, sizes=(5, 1, 12), dtype=np.float32):
    random = np.random.default_rng((rank, turn))
    return [random.normal(size=size).astype(dtype) for size in sizes]


@pytest.mark.parametrize("world_size", [2, 3, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("chunk_bytes", [16, 64 * 1024**2])
def test_every_rank_gets_the_sum_in_the_order_of_ranks(monkeypatch, world_size, dtype, chunk_bytes):
    monkeypatch.setattr(host_sum, "CHUNK_BYTES", chunk_bytes)
    turns = 50

    def add_up(rank, add):
        totals = [np.empty_like(numbers) for numbers in numbers_of(rank, 0, dtype=dtype)]
        return [[total.copy() for total in add.add(numbers_of(rank, turn, dtype=dtype), totals)] for turn in range(turns)]

    with ThreadPoolExecutor(world_size) as pool:
        found = list(pool.map(add_up, range(world_size), group(world_size)))
    for turn in range(turns):
        expected = numbers_of(0, turn, dtype=dtype)
        for rank in range(1, world_size):
            expected = [total + more for total, more in zip(expected, numbers_of(rank, turn, dtype=dtype), strict=True)]
        for of_rank in found:
            for total, other in zip(of_rank[turn], expected, strict=True):
                np.testing.assert_array_equal(total, other)


def test_long_wait_takes_no_cpu():
    """Else a rank that waits for one that hangs would look as if it worked."""
    first, second = group(2)
    ones = [np.ones(3, np.float32)]
    with ThreadPoolExecutor(1) as pool:

        def wait():
            found = first.add(ones, [np.empty(3, np.float32)])
            return time.thread_time(), found

        waiting = pool.submit(wait)
        time.sleep(6.0)
        assert not waiting.done()
        second.add(ones, [np.empty(3, np.float32)])
        seconds, found = waiting.result(10)
    assert seconds < 0.2 * 6.0
    np.testing.assert_array_equal(found[0], 2 * np.ones(3))


def test_memory_that_is_not_the_one_meant_is_not_opened():
    memory = _Memory.create()
    address = memory.address
    assert _Memory.open(address) is not None
    assert _Memory.open(b"x" * 16 + address[16:]) is None
    assert _Memory.open(address[:16] + b"/proc/self/fd/0") is None
    assert _Memory.open(address[:16] + b"/proc/0/fd/none") is None


def test_rank_that_has_ended_is_noticed():
    """The other side is a real process, which lives until it is told to end and never gives its numbers."""
    code = (
        "import sys; from millrace.training.host_sum import _Memory; memory = _Memory.create();"
        "print(memory.address.hex(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        other = _Memory.open(bytes.fromhex(process.stdout.readline()))
        assert other is not None
        add = HostSum(0, [_Memory.create(), other])
        assert not other.is_left
        process.kill()
        with pytest.raises(RankLostError) as caught:
            add.add([np.ones(3, np.float32)], [np.empty(3, np.float32)])
    assert str(caught.value) == "rank 1 has left Horovod's group while rank 0 waited for its numbers"
