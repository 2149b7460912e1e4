"""Exact comparison of candidate pairs, and what is connected by those that are near, on NumPy and Arrow. No Spark.

Candidates that one machine can list are cut into chunks along the components that they form, so that a content belongs to hardly
more than one chunk: each chunk is compared by a task that gets its contents, each once, and nothing else.

Shape letters: p pairs, s shingles, d contents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from millrace.transforms.shingles import BITS, BLOCK, Hashes, Places, Shingles

PAIRS_IN_CHUNK = 1 << 12
_SHINGLES_AT_ONCE = 1 << 20

CHUNKED = pa.schema([pa.field("_chunk", pa.int32()), pa.field("left_row", pa.int64()), pa.field("right_row", pa.int64())])
SEATS = pa.schema([pa.field("_row", pa.int64()), pa.field("_chunk", pa.int32())])
LINKS = pa.schema([pa.field("left", pa.binary()), pa.field("right", pa.binary())])
TO_GROUP = ("_content", "_stands", "_night", "_source_file", "row_id")
IN_GROUPS = ("_group", "_stands", "_night", "_source_file", "row_id")
LATER = pa.schema([pa.field("row_id", pa.string()), pa.field("_kept", pa.string())])
GROUPS = pa.schema([pa.field("_content", pa.binary()), pa.field("_group", pa.binary())])


def contents_of(pairs: pa.Table) -> pa.Table:
    """The contents in pairs as PAIRS, each once: _number."""
    both = [column.to_numpy() for column in pairs.columns[:2]]
    return pa.table([np.unique(np.concatenate(both))], names=["_number"])


def of_contents(texts: pa.Table, contents: pa.Table) -> pa.Table:
    """Those of texts (_number, the columns of TO_GROUP) that have one of the contents; the columns of TO_GROUP."""
    wanted = pc.is_in(texts.column("_number"), value_set=contents.column("_number").combine_chunks())
    return texts.select(TO_GROUP).filter(wanted)


def in_chunks(pairs: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Pairs of contents as PAIRS, in any order and any number of times -> those of two, each once, by chunk, as CHUNKED, and
    SEATS: which rows (as numbers) each chunk needs."""
    left, right, left_row, right_row = (column.to_numpy() for column in pairs.columns)
    apart = left != right
    left, right, left_row, right_row = (column[apart] for column in (left, right, left_row, right_row))
    order = np.lexsort((right, left))
    left, right, left_row, right_row = (column[order] for column in (left, right, left_row, right_row))
    once = np.append(True, (left[1:] != left[:-1]) | (right[1:] != right[:-1]))[: left.size]
    left, right, left_row, right_row = (column[once] for column in (left, right, left_row, right_row))
    contents, nodes = np.unique(np.concatenate([left, right]), return_inverse=True)
    family = components(nodes[: left.size], nodes[left.size :], contents.size)[nodes[: left.size]]
    order = np.argsort(family, kind="stable")
    chunk = (np.arange(left.size) // PAIRS_IN_CHUNK).astype(np.int32)
    left_row, right_row = left_row[order], right_row[order]
    seats = np.unique(np.stack([np.concatenate([left_row, right_row]), np.concatenate([chunk, chunk])], axis=1), axis=0)
    chunked = pa.table([chunk, left_row, right_row], schema=CHUNKED)
    return chunked, pa.table([seats[:, 0].copy(), seats[:, 1].astype(np.int32)], schema=SEATS)


def near_in_chunk(pairs: pa.Table, rows: pa.Table, *, threshold: float) -> pa.Table:
    """A chunk's pairs as CHUNKED and its rows (_row, _content, _shingles) -> LINKS: the pairs that are at least so similar."""
    numbers = rows.column("_row").to_numpy()
    order = np.argsort(numbers)
    wanted = [pairs.column(side).to_numpy() for side in ("left_row", "right_row")]
    left, right = (order[np.searchsorted(numbers, side, sorter=order)] for side in wanted)
    assert np.array_equal(numbers[left], wanted[0]) and np.array_equal(numbers[right], wanted[1])
    near = similarities(unpacked(rows.column("_shingles")), left, right) >= threshold
    contents = rows.column("_content").combine_chunks()
    return pa.table([contents.take(pa.array(side[near])) for side in (left, right)], schema=LINKS)


def near_side_by_side(batches: Iterable[pa.RecordBatch], *, threshold: float) -> Iterator[pa.RecordBatch]:
    """Batches of (left's content, right's content, left's shingles, right's shingles) -> LINKS."""
    for batch in batches:
        sets = unpacked(pa.chunked_array([batch.column(2), batch.column(3)]))
        places = np.arange(batch.num_rows)
        near = similarities(sets, places, places + batch.num_rows) >= threshold
        kept = batch.filter(pa.array(near))
        yield pa.RecordBatch.from_arrays(kept.columns[:2], schema=LINKS)


def unpacked(packed: pa.ChunkedArray) -> Shingles:
    """Sets of shingles that are stored as little-endian 64-bit numbers."""
    array = packed.cast(pa.large_binary()).combine_chunks()
    array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    _, offset_bytes, data = array.buffers()
    if len(array) == 0:
        return Shingles(np.zeros(0, np.uint64), np.zeros(1, np.int64))
    offsets = np.frombuffer(offset_bytes, np.int64)[array.offset : array.offset + len(array) + 1]
    values = np.frombuffer(data, "<u8", count=(int(offsets[-1]) - int(offsets[0])) // 8, offset=int(offsets[0]))
    return Shingles(values, (offsets - offsets[0]) // 8)


def similarities(sets: Shingles, left: Places, right: Places) -> NDArray[np.float64]:
    """The Jaccard similarity of pairs of sets, given by their places: (p,). About a million shingles at a time."""
    parts = [np.zeros(0)]
    totals = np.cumsum(sets.counts[left] + sets.counts[right])
    first = before = 0
    while first < left.size:
        last = int(np.searchsorted(totals, before + _SHINGLES_AT_ONCE, side="right"))
        last = min(max(last, first + 1), first + BLOCK)
        parts.append(_similarities(sets, left[first:last], right[first:last]))
        first, before = last, int(totals[last - 1])
    return np.concatenate(parts)


def _similarities(sets: Shingles, left: Places, right: Places) -> NDArray[np.float64]:
    counts = sets.counts
    # Two sorted runs, which a stable sort merges in one pass.
    merged = np.sort(np.concatenate([_marked(sets, left), _marked(sets, right)]), kind="stable")
    twice = merged[1:][merged[1:] == merged[:-1]]
    shared = np.bincount((twice >> np.uint64(BITS)).astype(np.int64), minlength=left.size)
    # A division rounds to the nearest double, as the threshold's text did: equal fractions compare equal.
    similarity: NDArray[np.float64] = shared / (counts[left] + counts[right] - shared)
    return similarity


def _marked(sets: Shingles, chosen: Places) -> Hashes:
    """The shingles of the chosen sets, one after the other, with the set's place among the chosen above: (s,), sorted."""
    counts = sets.counts[chosen]
    begins = np.cumsum(counts) - counts
    values = sets.values[np.arange(counts.sum()) + np.repeat(sets.offsets[chosen] - begins, counts)]
    marks: Hashes = np.repeat(np.arange(chosen.size, dtype=np.uint64) << np.uint64(BITS), counts)
    marks |= values
    return marks


def connected(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """All LINKS there are -> GROUPS: each content that is near another, and the least that it is connected with."""
    links = list(batches)
    num_links = sum(batch.num_rows for batch in links)
    if num_links == 0:
        return
    both = pa.concat_arrays([batch.column(side) for side in (0, 1) for batch in links]).dictionary_encode()
    contents = both.dictionary
    in_order = pc.sort_indices(contents).to_numpy()
    rank = np.empty(in_order.size, np.int64)
    rank[in_order] = np.arange(in_order.size)
    nodes = rank[both.indices.to_numpy()]
    roots = components(nodes[:num_links], nodes[num_links:], in_order.size)
    contents = contents.take(pa.array(in_order))
    yield pa.RecordBatch.from_arrays([contents, contents.take(pa.array(roots))], schema=GROUPS)


def with_groups(rows: pa.Table, groups: pa.Table) -> pa.Table:
    """TO_GROUP and GROUPS -> IN_GROUPS: a content without a group is one by itself."""
    content = rows.column("_content").combine_chunks()
    place = pc.index_in(content, value_set=groups.column("_content").combine_chunks())
    group = pc.coalesce(groups.column("_group").combine_chunks().take(place), content)
    return pa.table([group, *rows.select(TO_GROUP[1:]).columns], names=IN_GROUPS)


def later_in_groups(rows: pa.Table) -> pa.Table:
    """IN_GROUPS, all rows of some groups in any order -> LATER: each new row that is not the first of its group, and that one's
    row_id.

    First is one that stands, else the earliest by (_night, _source_file, row_id).
    """
    group, stands, *names = rows.select(IN_GROUPS).columns
    keys = pa.table([group.combine_chunks().dictionary_encode().indices, pc.invert(stands), *names], names=IN_GROUPS)
    order = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in IN_GROUPS])
    ordered = keys.take(order)
    codes = ordered.column("_group").to_numpy()
    begins = np.flatnonzero(np.append(True, codes[1:] != codes[:-1])[: codes.size])
    is_later = ordered.column("_stands").to_numpy().copy()  # now: is new
    is_later[begins] = False
    row_ids = ordered.column("row_id")
    first = np.repeat(begins, np.diff(np.append(begins, codes.size)))
    later = np.flatnonzero(is_later)
    return pa.table([row_ids.take(pa.array(later)), row_ids.take(pa.array(first[later]))], schema=LATER)


def components(left: Places, right: Places, num_nodes: int) -> Places:
    """The least node of each node's connected component: (nodes,). Roots hook to lesser roots until none has one beside it."""
    parent = np.arange(num_nodes)
    while True:
        a, b = parent[left], parent[right]
        apart = a != b
        if not apart.any():
            return parent
        left, right, a, b = left[apart], right[apart], a[apart], b[apart]
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(above := parent[parent], parent):
            parent = above
