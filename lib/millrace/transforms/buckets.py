"""Pairs of texts that share a band, on NumPy and Arrow. No Spark.

Bands travel packed: a row of a shuffle holds thousands of them, not one. They are dealt out by the upper bits of their keys, so
that a task has one of 64 ranges of keys in memory at a time: 6 bytes for each text that there is, with 16 bands.

A bucket is what has one key. One of up to 64 distinct contents gives all its pairs. A bigger one, which is a family of nearly
equal texts more often than not, gives each content's pairs with 16 of them: enough to connect the family, and linear in its size.
Texts with equal sets of shingles are one content, so however often a text comes, it counts once; the least of its rows' numbers
says where its shingles are to be found. A new content that several rows have is paired with itself, once, in the bucket of its
new rows' first key: who asks which rows can be later ones than others needs to look at contents in pairs alone.
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
_RANGE_BITS = 6
_PAIRS_AT_ONCE = 200_000

DEALT = pa.schema([pa.field("_range", pa.int32()), pa.field("_entries", pa.binary())])
PAIRS = pa.schema([pa.field(name, pa.int64()) for name in ("left", "right", "left_row", "right_row")])
_ENTRY = np.dtype([("key", "<i8"), ("content", "<i8"), ("row", "<i8"), ("is_new", "?"), ("is_first", "?")])
"""is_first: the row is new, and the key the first of its own."""

Entries = NDArray[np.void]
Numbers = NDArray[np.int64]


def deal(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches of (bands, content, row, is_new), a list of keys and two numbers a text -> DEALT: the entries of each range."""
    for batch in batches:
        bands = batch.column(0)
        counts = np.diff(bands.offsets.to_numpy())
        keys = bands.flatten().to_numpy()
        ranges = keys.view(np.uint64) >> np.uint64(64 - _RANGE_BITS)
        order = np.argsort(ranges.astype(np.uint8), kind="stable")
        entries = np.empty(keys.size, _ENTRY)
        entries["key"] = keys[order]
        entries["content"] = np.repeat(batch.column(1).to_numpy(), counts)[order]
        entries["row"] = np.repeat(batch.column(2).to_numpy(), counts)[order]
        is_new = batch.column(3).to_numpy(zero_copy_only=False)
        entries["is_new"] = np.repeat(is_new, counts)[order]
        is_first = np.zeros(keys.size, bool)
        is_first[(np.cumsum(counts) - counts)[is_new & (counts > 0)]] = True
        entries["is_first"] = is_first[order]
        sizes = np.bincount(ranges.astype(np.int64), minlength=1 << _RANGE_BITS)
        ends = np.append(0, np.cumsum(sizes)) * _ENTRY.itemsize
        data = entries.tobytes()
        some = np.flatnonzero(sizes)
        packed = [data[ends[number] : ends[number + 1]] for number in some]
        yield pa.RecordBatch.from_arrays([pa.array(some, pa.int32()), pa.array(packed, pa.binary())], schema=DEALT)


def pairs_in_range(dealt: pa.Table) -> pa.Table:
    """The rows of DEALT of one range -> each pair of contents that share a key, once, as PAIRS: left < right; and left = right of
    new contents that several rows have, of which a first key lies in the range.

    Pairs of contents of which neither is new are left out.
    """
    entries = np.frombuffer(b"".join(dealt.column("_entries").to_pylist()), _ENTRY)
    contents, is_repeated = _contents(entries)
    pairs = np.concatenate([_with_themselves(contents[is_repeated]), *_pairs(contents)])
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    pairs = pairs[order]
    pairs = pairs[np.append(True, (pairs[1:, :2] != pairs[:-1, :2]).any(axis=1))] if len(pairs) else pairs
    return pa.table(list(pairs.T.copy()), schema=PAIRS)


def _contents(entries: Entries) -> tuple[Entries, NDArray[np.bool_]]:
    """One entry per key and content, sorted by them: of its rows' the least number, and whether one of them is new. And whether
    it is a new row's first key that other rows of the content have too.

    Keys that only one row has, which most are, are left out.
    """
    keys = np.ascontiguousarray(entries["key"])
    order = np.argsort(keys)
    keys = keys[order]
    begins = np.append(True, keys[1:] != keys[:-1])[: keys.size]
    is_alone = begins & np.append(begins[1:], True)[: keys.size]
    entries = entries[order[~is_alone]]
    entries = entries[np.lexsort((entries["row"], entries["content"], entries["key"]))]
    key, content = entries["key"], entries["content"]
    starts = np.flatnonzero(np.append(True, (key[1:] != key[:-1]) | (content[1:] != content[:-1]))[: entries.size])
    found = entries[starts]
    if starts.size == 0:
        return found, np.zeros(0, bool)
    for name in ("is_new", "is_first"):
        found[name] = np.logical_or.reduceat(entries[name], starts)
    return found, found["is_first"] & (np.diff(np.append(starts, entries.size)) > 1)


def _with_themselves(contents: Entries) -> NDArray[np.int64]:
    """(contents, 4): the columns of PAIRS."""
    return np.stack([contents[name] for name in ("content", "content", "row", "row")], axis=1)


def _pairs(contents: Entries) -> Iterator[NDArray[np.int64]]:
    """(pairs, 4): the columns of PAIRS."""
    key, content, row, is_new = (np.ascontiguousarray(contents[name]) for name in ("key", "content", "row", "is_new"))
    starts = np.flatnonzero(np.append(True, key[1:] != key[:-1])[: key.size])
    sizes = np.diff(np.append(starts, key.size))
    for size in np.unique(sizes[sizes > 1]).tolist():
        left, right = np.triu_indices(size, 1, size) if size <= ALL_PAIRS else star(size)
        for start in _chunks(starts[sizes == size], left.size):
            lefts, rights = (start[:, None] + left).ravel(), (start[:, None] + right).ravel()
            wanted = is_new[lefts] | is_new[rights]
            lefts, rights = lefts[wanted], rights[wanted]
            yield np.stack([content[lefts], content[rights], row[lefts], row[rights]], axis=1)


def star(size: int) -> tuple[Numbers, Numbers]:
    """Each of the hubs with all that come after it."""
    left = np.repeat(np.arange(HUBS), size - 1 - np.arange(HUBS))
    right = np.concatenate([np.arange(hub + 1, size) for hub in range(HUBS)])
    return left, right


def _chunks(starts: Numbers, num_pairs: int) -> Iterator[Numbers]:
    """So many buckets at a time that their pairs fit well into memory."""
    step = max(1, _PAIRS_AT_ONCE // num_pairs)
    for first in range(0, starts.size, step):
        yield starts[first : first + step]
