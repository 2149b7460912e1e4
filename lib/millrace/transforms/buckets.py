"""Pairs of texts that share a band, on NumPy and Arrow. No Spark.

Where one machine has room for the bands of all texts, it pairs them at once. Else they travel packed: a row of a shuffle holds
thousands of them, not one. They are dealt out by the upper bits of their keys, so that a task has one of 64 ranges of keys in
memory at a time: 6 bytes for each text that there is, with 16 bands.

A bucket is what has one key. One of up to 64 distinct contents gives all its pairs. A bigger one, which is a family of nearly
equal texts more often than not, gives each content's pairs with 16 of them: enough to connect the family, and linear in its size.
Texts with equal sets of shingles are one content, so however often a text comes, it counts once; the least of its rows' numbers
says where its shingles are to be found. A new content that several rows have is paired with itself, once, in the bucket of its
new rows' first key: who asks which rows can be later ones than others needs to look at contents in pairs alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ALL_PAIRS = 64
"""Contents in a bucket that are all compared with each other."""
HUBS = 16
"""Contents of a bigger bucket that all its others are compared with."""
_RANGE_BITS = 6
_PAIRS_AT_ONCE = 200_000

BANDED = ("_bands", "_number", "_row", "_stands")
"""Of a text: its keys, its content and its row as numbers, whether it stands."""
DEALT = pa.schema([pa.field("_range", pa.int32()), pa.field("_entries", pa.binary())])
PAIRS = pa.schema([pa.field(name, pa.int64()) for name in ("left", "right", "left_row", "right_row")])
_ENTRY = np.dtype([("key", "<i8"), ("content", "<i8"), ("row", "<i8"), ("is_new", "?"), ("is_first", "?")])
"""is_first: the row is new, and the key the first of its own."""

_LOW = (1 << 32) - 1

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]


def deal(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches of BANDED -> DEALT: the entries of each range."""
    for batch in batches:
        keys, counts, texts = _texts(batch)
        entries = np.empty(keys.size, _ENTRY)
        entries["key"] = keys
        for name, values in zip(("content", "row", "is_new"), texts, strict=True):
            entries[name] = np.repeat(values, counts)
        entries["is_first"] = False
        entries["is_first"][(np.cumsum(counts) - counts)[texts[2] & (counts > 0)]] = True
        ranges = (keys.view(np.uint64) >> np.uint64(64 - _RANGE_BITS)).astype(np.uint8)
        sizes = np.bincount(ranges, minlength=1 << _RANGE_BITS)
        ends = np.append(0, np.cumsum(sizes)) * _ENTRY.itemsize
        data = entries[np.argsort(ranges, kind="stable")].tobytes()
        some = np.flatnonzero(sizes)
        packed = [data[ends[number] : ends[number + 1]] for number in some]
        yield pa.RecordBatch.from_arrays([pa.array(some, pa.int32()), pa.array(packed, pa.binary())], schema=DEALT)


def pairs_in_range(dealt: pa.Table) -> pa.Table:
    """The rows of DEALT of one range -> PAIRS: each pair of contents that share a key in it, once, left < right; and left = right
    of new contents that several rows have, of which a first key lies in it.

    Pairs of contents of which neither is new are left out.
    """
    entries = np.frombuffer(b"".join(dealt.column("_entries").to_pylist()), _ENTRY)
    contents, codes = _contents(*(np.ascontiguousarray(entries[name]) for name in ("content", "row", "is_new", "is_first")))
    return _pairs_of(_buckets(np.ascontiguousarray(entries["key"]), codes), contents)


def pairs_among(texts: pa.Table, *, max_pairs: int) -> pa.Table | None:
    """The same of all texts that there are, in a table that has BANDED; None where buckets have more than so many pairs, also
    repeated ones."""
    chosen = texts.select(BANDED)
    batch = pa.RecordBatch.from_arrays([column.combine_chunks() for column in chosen.columns], schema=chosen.schema)
    keys, counts, (content, row, is_new) = _texts(batch)
    contents, codes = _contents(content, row, is_new, is_new & (counts > 0))
    buckets = _buckets(keys, np.repeat(codes, counts))
    return _pairs_of(buckets, contents) if buckets.num_pairs <= max_pairs else None


def _texts(banded: pa.RecordBatch) -> tuple[Numbers, Numbers, tuple[Numbers, Numbers, Flags]]:
    """Keys of all texts, one after the other; how many each has; its content, its row, whether it is new."""
    bands, content, row, stands = banded.columns
    counts = np.diff(bands.offsets.to_numpy())
    is_new = ~stands.to_numpy(zero_copy_only=False)
    return bands.flatten().to_numpy(), counts, (content.to_numpy(), row.to_numpy(), is_new)


class _Contents(NamedTuple):
    """Distinct contents, in the order of their numbers."""

    number: Numbers
    row: Numbers
    """Of its rows' numbers the least."""
    is_new: Flags
    is_repeated: Flags
    """It is new, and several rows have it."""


def _contents(number: Numbers, row: Numbers, is_new: Flags, is_first: Flags) -> tuple[_Contents, Numbers]:
    """The contents of entries or texts, and the place among them of each entry's."""
    numbers, codes = np.unique(number, return_inverse=True)
    least = np.full(numbers.size, np.iinfo(np.int64).max)
    most = np.full(numbers.size, np.iinfo(np.int64).min)
    np.minimum.at(least, codes, row)
    np.maximum.at(most, codes, row)
    new, first = (np.bincount(codes[marked], minlength=numbers.size) > 0 for marked in (is_new, is_first))
    return _Contents(numbers, least, new, first & (least != most)), codes


class _Buckets(NamedTuple):
    """Contents by their keys."""

    codes: Numbers
    """Places of contents: those of a bucket, which is what has one key, one after the other, each once."""
    starts: Numbers
    sizes: Numbers

    @property
    def num_pairs(self) -> int:
        """Of all buckets, also of contents of which neither is new."""
        sizes = self.sizes
        return int(np.where(sizes <= ALL_PAIRS, sizes * (sizes - 1) // 2, HUBS * sizes).sum())


def _buckets(keys: Numbers, codes: Numbers) -> _Buckets:
    """Those of contents, given by their places, that have these keys. Keys that one entry alone has are left out."""
    order = np.argsort(keys)
    keys = keys[order]
    begins = np.append(True, keys[1:] != keys[:-1])[: keys.size]
    is_shared = ~(begins & np.append(begins[1:], True)[: keys.size])
    entries = np.unique(np.cumsum(begins)[is_shared] << 32 | codes[order[is_shared]])  # by bucket, by place, each once
    bucket = entries >> 32
    starts = np.flatnonzero(np.append(True, bucket[1:] != bucket[:-1])[: bucket.size])
    return _Buckets(entries & _LOW, starts, np.diff(np.append(starts, bucket.size)))


def _pairs_of(buckets: _Buckets, contents: _Contents) -> pa.Table:
    """PAIRS of the contents that share a bucket; and of those that are repeated with themselves."""
    itself = np.flatnonzero(contents.is_repeated)
    both = np.unique(np.concatenate([itself << 32 | itself, *_pairs(buckets, contents.is_new)]))
    left, right = both >> 32, both & _LOW
    columns = [contents.number[left], contents.number[right], contents.row[left], contents.row[right]]
    return pa.table(columns, schema=PAIRS)


def _pairs(buckets: _Buckets, is_new: Flags) -> Iterator[Numbers]:
    """Pairs of places, left above, right below: (pairs,)."""
    codes, starts, sizes = buckets
    for size in np.unique(sizes[sizes > 1]).tolist():
        left, right = np.triu_indices(size, 1, size) if size <= ALL_PAIRS else star(size)
        for start in _chunks(starts[sizes == size], left.size):
            lefts, rights = (codes[(start[:, None] + side).ravel()] for side in (left, right))
            wanted = is_new[lefts] | is_new[rights]
            yield lefts[wanted] << 32 | rights[wanted]


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
