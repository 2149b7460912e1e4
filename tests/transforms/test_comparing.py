"""Comparison and components, without Spark."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.transforms import comparing
from millrace.transforms.buckets import PAIRS
from millrace.transforms.comparing import (
    GROUPS,
    LINKS,
    TO_GROUP,
    components,
    connected,
    contents_of,
    in_chunks,
    later_in_groups,
    near_in_chunk,
    near_side_by_side,
    similarities,
    unpacked,
    with_groups,
)

SETS = st.sets(st.integers(0, 20), min_size=1)


def packed(values: Iterable[int]) -> bytes:
    """A set of shingles as it is stored."""
    return np.array(sorted(values), "<u8").tobytes()


@settings(deadline=None)
@given(st.lists(SETS, min_size=1, max_size=8), st.data())
def test_similarity_is_exact_for_any_pairs_of_stored_sets(sets: list[set[int]], data: st.DataObject) -> None:
    places = st.integers(0, len(sets) - 1)
    pairs = data.draw(st.lists(st.tuples(places, places), max_size=10))
    left, right = np.array(pairs, np.int64).reshape(-1, 2).T
    cut = data.draw(places)
    before = pa.array([b"12345678", *(packed(each) for each in sets[:cut])], pa.binary())
    column = pa.chunked_array([before.slice(1), pa.array([packed(each) for each in sets[cut:]], pa.binary())])
    found = similarities(unpacked(column), left, right)
    assert found.tolist() == [len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in pairs]


def test_four_of_five_reach_the_threshold() -> None:
    sets = unpacked(pa.chunked_array([[packed(range(5)), packed(range(4))]], pa.binary()))
    assert similarities(sets, np.zeros(5000, np.int64), np.ones(5000, np.int64)).min() >= 0.8


@pytest.mark.parametrize("pairs_in_chunk", [1, 3, 1000])
def test_chunks_and_pairs_side_by_side_give_the_same_links(pairs_in_chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "PAIRS_IN_CHUNK", pairs_in_chunk)
    draw = random.Random(4)
    sets = [set(draw.sample(range(12), draw.randint(6, 10))) for _ in range(30)]
    chosen = [tuple(sorted(draw.sample(range(30), 2))) for _ in range(60)]
    assert len(set(chosen)) < len(chosen)  # some come twice
    pairs = pa.table([pa.array(side) for side in zip(*[(a, b, a + 100, b + 100) for a, b in chosen], strict=True)], schema=PAIRS)
    chunked, seats = in_chunks(pairs)
    assert chunked.num_rows == len(set(chosen))
    found = []
    for number in set(chunked.column("_chunk").to_pylist()):
        chunk = chunked.filter(pa.array(chunked.column("_chunk").to_numpy() == number))
        assert chunk.num_rows <= pairs_in_chunk
        seated = [row for row, at in zip(*seats.to_pydict().values(), strict=True) if at == number]
        assert sorted(seated) == sorted({*chunk.column("left_row").to_pylist(), *chunk.column("right_row").to_pylist()})
        draw.shuffle(seated)
        rows = pa.table(
            {
                "_row": pa.array(seated, pa.int64()),
                "_content": pa.array([bytes([row - 100]) for row in seated], pa.binary()),
                "_shingles": pa.array([packed(sets[row - 100]) for row in seated], pa.binary()),
            }
        )
        links = near_in_chunk(chunk, rows, threshold=0.6)
        assert links.schema == LINKS
        found += links.to_pylist()
    expected = {(a, b) for a, b in chosen if len(sets[a] & sets[b]) / len(sets[a] | sets[b]) >= 0.6}
    assert 5 < len(expected) < len(set(chosen)) - 5
    assert sorted((row["left"][0], row["right"][0]) for row in found) == sorted(expected)
    sides = list(zip(*sorted(set(chosen)), strict=True))
    contents = [pa.array([bytes([number]) for number in side], pa.binary()) for side in sides]
    shingles = [pa.array([packed(sets[number]) for number in side], pa.binary()) for side in sides]
    names = ["left_content", "right_content", "left_shingles", "right_shingles"]
    batch = pa.record_batch([*contents, *shingles], names=names)
    (links,) = near_side_by_side([batch], threshold=0.6)
    assert sorted((row["left"][0], row["right"][0]) for row in links.to_pylist()) == sorted(expected)


def test_nothing_to_compare() -> None:
    chunked, seats = in_chunks(PAIRS.empty_table())
    assert (chunked.num_rows, seats.num_rows) == (0, 0)
    assert contents_of(PAIRS.empty_table()).num_rows == 0
    assert list(connected(LINKS.empty_table().to_batches())) == []


@settings(deadline=None)
@given(st.integers(1, 30).flatmap(lambda n: st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=40)))
def test_components(links: list[tuple[int, int]]) -> None:
    ends = np.array(links, np.int64).reshape(-1, 2)
    expected = list(range(30))
    for left, right in links * 30:
        expected[left] = expected[right] = min(expected[left], expected[right])
    assert components(ends[:, 0], ends[:, 1], 30).tolist() == expected


def test_the_least_content_names_a_group() -> None:
    links = [(b"\x05", b"\x03"), (b"\x03", b"\x09"), (b"\x01", b"\x02")]
    batches = [pa.record_batch([pa.array([side], pa.binary()) for side in link], schema=LINKS) for link in links]
    found = pa.Table.from_batches(connected(batches), GROUPS).to_pydict()
    assert dict(zip(*found.values(), strict=True)) == {
        b"\x01": b"\x01",
        b"\x02": b"\x01",
        b"\x03": b"\x03",
        b"\x05": b"\x03",
        b"\x09": b"\x03",
    }


def test_a_long_chain_is_one_component() -> None:
    order = np.random.RandomState(0).permutation(100_000)
    assert not components(order[:-1], order[1:], order.size).any()


def test_the_first_of_a_group_stays() -> None:
    """One that stands before all, else by night, file and row_id; a content without a group has its equals alone."""
    rows = [
        (b"a", False, "n2", "f1", "r1"),
        (b"b", False, "n1", "f2", "r3"),
        (b"b", False, "n1", "f1", "r4"),
        (b"b", False, "n1", "f1", "r2"),
        (b"c", False, "n1", "f0", "r5"),
        (b"d", False, "n1", "f1", "r7"),
        (b"d", False, "n1", "f1", "r6"),
        (b"e", True, None, None, "s1"),
        (b"f", True, None, None, "s0"),
        (b"f", False, "n0", "f0", "r0"),
    ]
    groups = pa.table([pa.array([b"a", b"b", b"e", b"f"]), pa.array([b"a", b"a", b"e", b"e"])], schema=GROUPS)
    table = pa.table([pa.array(column) for column in zip(*rows, strict=True)], names=TO_GROUP)
    for order in ([*range(len(rows))], [*reversed(range(len(rows)))]):
        found = later_in_groups(with_groups(table.take(order), groups)).to_pydict()
        later = dict(zip(found["row_id"], found["_kept"], strict=True))
        assert later == {"r1": "r2", "r3": "r2", "r4": "r2", "r7": "r6", "r0": "s0"}
    assert later_in_groups(with_groups(table.slice(0, 0), groups.slice(0, 0))).num_rows == 0
