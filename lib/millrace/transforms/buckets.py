"""Pairs of texts that share a band, out of rows sorted by band key. No Spark.

A bucket of up to 64 distinct contents gives all its pairs. A bigger one, which is a family of nearly equal texts more often than
not, gives each content's pairs with 16 of them: enough to connect the family, and linear in its size. Texts with equal sets of
shingles are one content, so however often a text comes, it counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ALL_PAIRS = 64
"""Contents in a bucket that are all compared with each other."""
HUBS = 16
"""Contents of a bigger bucket that all its others are compared with."""

PAIRS = pa.schema([pa.field("left", pa.int64()), pa.field("right", pa.int64())])

Numbers = NDArray[np.int64]


def pairs_in_buckets(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches of (key, content, is_new), sorted in this order with is_new falling -> batches of PAIRS, left < right.

    Pairs of contents of which neither is new are left out.
    """
    rest: tuple[Numbers, Numbers, NDArray[np.bool_]] | None = None
    waiting: list[tuple[Numbers, Numbers, NDArray[np.bool_]]] = []
    for batch in batches:
        key, content = (batch.column(place).to_numpy() for place in (0, 1))
        is_new = batch.column(2).to_numpy(zero_copy_only=False).astype(bool)
        if key.size == 0:
            continue
        last = int(np.searchsorted(key, key[-1]))  # where the last bucket, which may go on in the next batch, begins
        if last == 0 and waiting and waiting[-1][0][-1] == key[0]:
            waiting.append((key, content, is_new))
            continue
        waiting.append((key[:last], content[:last], is_new[:last]))
        rest = key[last:], content[last:], is_new[last:]
        yield from _all_pairs(waiting)
        waiting = [rest]
    yield from _all_pairs(waiting)


def _all_pairs(parts: list[tuple[Numbers, Numbers, NDArray[np.bool_]]]) -> Iterator[pa.RecordBatch]:
    if not parts:
        return
    key, content, is_new = (np.concatenate([part[place] for part in parts]) for place in range(3))
    if key.size == 0:
        return
    first = np.concatenate([[True], (key[1:] != key[:-1]) | (content[1:] != content[:-1])])
    key, content, is_new = key[first], content[first], is_new[first]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    sizes = np.diff(np.append(starts, key.size))
    for size in np.unique(sizes[sizes > 1]).tolist():
        left, right = np.triu_indices(size, 1, size) if size <= ALL_PAIRS else star(size)
        for start in _chunks(starts[sizes == size], left.size):
            lefts, rights = (start[:, None] + left).ravel(), (start[:, None] + right).ravel()
            wanted = is_new[lefts] | is_new[rights]
            if wanted.any():
                arrays = [pa.array(content[lefts[wanted]]), pa.array(content[rights[wanted]])]
                yield pa.RecordBatch.from_arrays(arrays, schema=PAIRS)


def star(size: int) -> tuple[Numbers, Numbers]:
    """Each of the hubs with all that come after it."""
    left = np.repeat(np.arange(HUBS), size - 1 - np.arange(HUBS))
    right = np.concatenate([np.arange(hub + 1, size) for hub in range(HUBS)])
    return left, right


def _chunks(starts: Numbers, num_pairs: int) -> Iterator[Numbers]:
    """So many buckets at a time that their pairs fit well into memory."""
    step = max(1, 200_000 // num_pairs)
    for first in range(0, starts.size, step):
        yield starts[first : first + step]
