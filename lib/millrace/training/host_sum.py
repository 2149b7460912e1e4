"""The sum over ranks that share a host's memory: a copy and an addition, where sockets cost milliseconds.

Each rank has a piece of memory that it alone writes and all others read:

    offset 0     how many sums it has given its numbers for, as int64
    offset 64    two slots of `slot_bytes`; the numbers of sum n lie in slot n % 2

For sum n a rank writes its numbers, then counts n, waits until all others have counted n, and adds up the slots in the order of
ranks: every rank gets the same bits, whatever the timing. A slot is written again two sums later. By then everybody has counted
the sum in between, which nobody does before having read this one.

The memory has no name and goes with the last process that maps it. A rank keeps a lock on its own for as long as it lives, so
that the others see when it is gone. They do not see that it hangs: that is for the driver's watchdog.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import mmap
import os
import secrets
import time
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from millrace.loading.buffers import aligned_array
from millrace.training.reduction import CHUNK_BYTES, Piece, chunks_of

Numbers = npt.NDArray[np.floating[Any]]

_TOKEN_BYTES = 16
_ADDRESS_BYTES = 64
_HEADER_BYTES = 64
"""The count in the first 8 bytes, and what tells this memory from any other in the last 16."""
_SPINS = 50
_NAP_SECONDS = 20e-6
_LOOKS_IN_HASTE = 10_000  # most of a second; one who has waited for so long
_LONG_NAP_SECONDS = 1e-3  # does not take a CPU that others need, nor look as if it worked
_NAPS_BETWEEN_LOOKS = 500  # at whether the one waited for is alive


class RankLostError(Exception):
    """A rank has ended while this one waited for its numbers."""


class HostSum:
    """Adds up over the ranks of one host. Every rank asks for the same sums in the same order, from one thread at a time."""

    def __init__(self, rank: int, memories: Sequence[_Memory]) -> None:
        self._rank, self._memories = rank, tuple(memories)
        self._num_sums = 0

    def __call__(self, tensors: Sequence[tf.Tensor], *, name: str) -> list[tf.Tensor]:
        """A `Sum`. What it gives is valid until the graph that it is in runs again."""
        shapes = [tuple(tensor.shape) for tensor in tensors]
        dtype = tensors[0].dtype
        totals = [aligned_array((math.prod(shape),), np.dtype(dtype.as_numpy_dtype)) for shape in shapes]
        flat = [tf.reshape(tensor, [-1]) for tensor in tensors]
        summed = tf.numpy_function(
            lambda *numbers: self.add(numbers, totals), flat, [dtype] * len(flat), stateful=True, name=name
        )
        return [tf.reshape(total, shape) for total, shape in zip(summed, shapes, strict=True)]

    def add(self, numbers: Sequence[Numbers], totals: Sequence[Numbers]) -> Sequence[Numbers]:
        """Adds the ranks' `numbers` up into `totals`, which it gives: (numbers,) each. Raises RankLostError where one is gone."""
        for chunk in chunks_of([array.size for array in numbers], CHUNK_BYTES // numbers[0].itemsize):
            self._num_sums += 1
            slots = [memory.slot(self._num_sums, numbers[0].dtype) for memory in self._memories]
            places = _places(chunk)
            for piece, place in zip(chunk, places, strict=True):
                slots[self._rank][place] = numbers[piece.tensor][piece.first : piece.end]
            self._memories[self._rank].count[0] = self._num_sums
            for rank, memory in enumerate(self._memories):
                self._wait_for(rank, memory)
            for piece, place in zip(chunk, places, strict=True):
                total = totals[piece.tensor][piece.first : piece.end]
                np.add(slots[0][place], slots[1][place], out=total)
                for slot in slots[2:]:
                    np.add(total, slot[place], out=total)
        return totals

    def _wait_for(self, rank: int, memory: _Memory) -> None:
        looks = 0
        while memory.count[0] < self._num_sums:
            looks += 1
            if looks > _SPINS:
                time.sleep(_NAP_SECONDS if looks < _LOOKS_IN_HASTE else _LONG_NAP_SECONDS)
            if looks % _NAPS_BETWEEN_LOOKS == 0 and memory.is_left and memory.count[0] < self._num_sums:
                raise RankLostError(f"rank {rank} has left Horovod's group while rank {self._rank} waited for its numbers")


def open_host_sum(rank: int, world_size: int) -> HostSum | None:
    """For a group whose ranks all run on this host and can map each other's memory; else None, on every rank alike.

    Called on every rank, after Horovod has been initialised.
    """
    import horovod.tensorflow as hvd

    if hvd.local_size() != world_size or tf.config.list_physical_devices("GPU"):
        return None
    mine = _Memory.create()
    addresses = np.zeros((1, _ADDRESS_BYTES), np.uint8)
    addresses[0, : len(mine.address)] = np.frombuffer(mine.address, np.uint8)
    everybodys = hvd.allgather(addresses, name="host_memory").numpy()  # (ranks, _ADDRESS_BYTES)
    memories = [mine if other == rank else _Memory.open(bytes(everybodys[other])) for other in range(world_size)]
    opened = [memory for memory in memories if memory is not None]
    agreed = hvd.allreduce(np.int32(len(opened) == world_size), op=hvd.Sum, name="host_memory_opened")
    return HostSum(rank, opened) if int(agreed) == world_size else None


class _Memory:
    """What one rank writes, as each of them sees it."""

    def __init__(self, descriptor: int, *, writable: bool) -> None:
        self._descriptor = descriptor
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._bytes = np.frombuffer(mmap.mmap(descriptor, _HEADER_BYTES + 2 * CHUNK_BYTES, access=access), np.uint8)
        self.count = self._bytes[:8].view(np.int64)
        self.token = self._bytes[_HEADER_BYTES - _TOKEN_BYTES : _HEADER_BYTES]

    @staticmethod
    def create() -> _Memory:
        """Memory of this process, which is taken from the system as it is written to."""
        descriptor = os.memfd_create("millrace", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _HEADER_BYTES + 2 * CHUNK_BYTES)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        memory = _Memory(descriptor, writable=True)
        memory.token[:] = np.frombuffer(secrets.token_bytes(_TOKEN_BYTES), np.uint8)
        return memory

    @staticmethod
    def open(address: bytes) -> _Memory | None:
        """Another process's; None where it cannot be reached, as from a container of its own."""
        token, path = address[:_TOKEN_BYTES], address[_TOKEN_BYTES:].rstrip(b"\0")
        with contextlib.suppress(OSError, ValueError):
            memory = _Memory(os.open(path, os.O_RDONLY | os.O_CLOEXEC), writable=False)
            return memory if memory.token.tobytes() == token else None
        return None

    @property
    def address(self) -> bytes:
        """What others open it by."""
        return self.token.tobytes() + f"/proc/{os.getpid()}/fd/{self._descriptor}".encode()

    @property
    def is_left(self) -> bool:
        """Whether the process that made it is gone."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def slot(self, count: int, dtype: npt.DTypeLike) -> Numbers:
        """Where the numbers of sum `count` lie."""
        first = _HEADER_BYTES + count % 2 * CHUNK_BYTES
        return self._bytes[first : first + CHUNK_BYTES].view(dtype)


def _places(chunk: Sequence[Piece]) -> list[slice]:
    """Where each piece lies in a slot: one behind the other."""
    ends = list(accumulate(piece.end - piece.first for piece in chunk))
    return [slice(first, end) for first, end in pairwise([0, *ends])]
