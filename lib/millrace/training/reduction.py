"""The sum of gradients over all ranks, by way of few flat buffers in a fixed order.

Vocabulary, with n tensors:

    piece       a run of numbers of one tensor: (tensor, first, end)
    chunk       pieces that lie together in one buffer of at most `chunk_numbers` numbers, which is sent as a whole

Reduced one by one, or as chunks that Horovod may join as their timing has it, sums differ from run to run in their last bit,
because a number's place in a buffer decides in which order the ranks' values are added. So a chunk waits for the one before.

Example: tensors of 5 and 2 numbers in chunks of 4 are ((0, 0, 4),) and ((0, 4, 5), (1, 0, 2)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import tensorflow as tf

CHUNK_BYTES = 64 * 1024**2
CHUNK_NUMBERS = CHUNK_BYTES // 4  # of float32


class Sum(Protocol):
    """Adds tensors up over all ranks, in a graph."""

    def __call__(self, tensors: Sequence[tf.Tensor], *, name: str) -> list[tf.Tensor]:
        """Each tensor's sum. All have one type and shapes that are known; every rank gives the same ones in the same order."""


class Piece(NamedTuple):
    """Numbers `first` to `end` of a flattened tensor."""

    tensor: int
    first: int
    end: int


def chunks_of(sizes: Sequence[int], chunk_numbers: int) -> tuple[tuple[Piece, ...], ...]:
    """All numbers of tensors of these sizes in order, in chunks that are full but for the last."""
    chunks: list[tuple[Piece, ...]] = []
    chunk: list[Piece] = []
    left = chunk_numbers
    for tensor, size in enumerate(sizes):
        first = 0
        while first < size:
            end = min(size, first + left)
            chunk.append(Piece(tensor, first, end))
            left -= end - first
            first = end
            if not left:
                chunks.append(tuple(chunk))
                chunk, left = [], chunk_numbers
    return (*chunks, tuple(chunk)) if chunk else tuple(chunks)


def horovod_sum(tensors: Sequence[tf.Tensor], *, name: str, chunk_numbers: int = CHUNK_NUMBERS) -> list[tf.Tensor]:
    """A `Sum` by Horovod: by Gloo between hosts, by NCCL between GPUs."""
    import horovod.tensorflow as hvd

    shapes = [tuple(tensor.shape) for tensor in tensors]
    flat = [tf.reshape(tensor, [-1]) for tensor in tensors]
    summed: list[list[tf.Tensor]] = [[] for _ in tensors]
    before: list[tf.Tensor] = []
    for number, chunk in enumerate(chunks_of([math.prod(shape) for shape in shapes], chunk_numbers)):
        buffer = tf.concat([flat[piece.tensor][piece.first : piece.end] for piece in chunk], axis=0)
        with tf.control_dependencies(before):
            buffer = hvd.allreduce(buffer, op=hvd.Sum, name=f"{name}_{number}")
        before = [buffer]
        parts = tf.split(buffer, [piece.end - piece.first for piece in chunk])
        for piece, part in zip(chunk, parts, strict=True):
            summed[piece.tensor].append(part)
    return [tf.reshape(tf.concat(parts, axis=0), shape) for parts, shape in zip(summed, shapes, strict=True)]


def add_up_in_half(add: Sum, gradients: Sequence[tf.Tensor], share: tf.Tensor, *, name: str) -> list[tf.Tensor]:
    """Float32 gradients added up that travel as float16; infinite where a number gets too large for that.

    `share`, the same on all ranks, is the weight of the global batch over the number of ranks. The numbers are divided by it on
    the way: those of a mean fit, whatever the size of the batch.
    """
    halves = add([tf.cast(gradient / share, tf.float16) for gradient in gradients], name=name)
    return [tf.cast(half, tf.float32) * share for half in halves]
