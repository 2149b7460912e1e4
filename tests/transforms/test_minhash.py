"""Signatures, buckets, comparison and components, without Spark."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.config.near_duplicates import candidate_probability
from millrace.transforms.buckets import ALL_PAIRS, HUBS, pairs_in_buckets
from millrace.transforms.minhash import SIGNED, Banding, MinHash, components, sign, similarities
from millrace.transforms.shingles import Shingles

MINHASH = MinHash(ngram=5, unit="auto", bands=16, rows_per_band=6, seed=7)
INPUT = pa.schema([(name, pa.string()) for name in ("row_id", "_night", "_source_file", "text")])
BUCKETS = pa.schema([("key", pa.int64()), ("content", pa.int64()), ("is_new", pa.bool_())])


def packed(values: Iterable[int]) -> bytes:
    """A set of shingles as it is stored."""
    return np.array(sorted(values), "<u8").tobytes()


def sets_of(sizes: list[tuple[int, int, int]], seed: int) -> Shingles:
    """Pairs of sets with (shared, left only, right only) shingles, one after the other."""
    draw = random.Random(seed)
    values, offsets = [], [0]
    for shared, left, right in sizes:
        numbers = draw.sample(range(1 << 50), shared + left + right)
        for own in (numbers[shared : shared + left], numbers[shared + left :]):
            values += sorted([*numbers[:shared], *own])
            offsets.append(len(values))
    return Shingles(np.array(values, np.uint64), np.array(offsets, np.int64))


@pytest.mark.parametrize(
    ("sizes", "similarity"), [((8, 1, 1), 0.8), ((80, 10, 10), 0.8), ((400, 50, 50), 0.8), ((40, 30, 30), 0.4), ((4, 3, 3), 0.4)]
)
def test_pairs_share_a_band_as_often_as_the_curve_says(sizes: tuple[int, int, int], similarity: float) -> None:
    num_pairs = 2000
    keys = Banding(MINHASH).keys(sets_of([sizes] * num_pairs, seed=1))
    share = float((keys[::2] == keys[1::2]).any(axis=1).mean())
    expected = candidate_probability(similarity, bands=16, rows_per_band=6)
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / num_pairs) ** 0.5 + 0.01)


def test_a_seed_gives_other_bands_and_equal_sets_share_all() -> None:
    sets = sets_of([(20, 0, 0), (1, 0, 0)], seed=2)
    keys = Banding(MINHASH).keys(sets)
    assert (keys[0] == keys[1]).all()
    assert (keys[2] == keys[3]).all()
    assert len(set(keys[0].tolist())) == 16
    other = Banding(MinHash(ngram=5, unit="auto", bands=16, rows_per_band=6, seed=8)).keys(sets)
    assert not set(keys.ravel().tolist()) & set(other.ravel().tolist())


def test_signing_leaves_out_texts_without_tokens_and_depends_on_the_text_alone() -> None:
    texts = ["a b c d e f", " \n", "a b", "a  b", "", "a b c d e f"]
    batch = pa.record_batch([[str(place) for place in range(6)], ["n"] * 6, [None] * 6, texts], schema=INPUT)
    rows = pa.Table.from_batches(sign([batch], minhash=MINHASH), SIGNED).to_pylist()
    assert [row["row_id"] for row in rows] == ["0", "2", "3", "5"]
    assert [len(row["_shingles"]) for row in rows] == [16, 8, 8, 16]
    assert {len(row["_content"]) for row in rows} == {16}
    parts = [batch.slice(place, 1) for place in range(6)]
    assert pa.Table.from_batches(sign(parts, minhash=MINHASH), SIGNED).to_pylist() == rows
    for row in rows:
        del row["row_id"]
    assert rows[0] == rows[3] != rows[1] == rows[2]


@given(st.lists(st.tuples(st.sets(st.integers(0, 20), min_size=1), st.sets(st.integers(0, 20), min_size=1)), max_size=10))
def test_similarity_is_exact(pairs: list[tuple[set[int], set[int]]]) -> None:
    found = similarities([packed(left) for left, _ in pairs], [packed(right) for _, right in pairs])
    assert found.tolist() == [len(left & right) / len(left | right) for left, right in pairs]


def test_four_of_five_reach_the_threshold() -> None:
    assert similarities([packed(range(5))] * 5000, [packed(range(4))] * 5000).min() >= 0.8


@given(st.integers(1, 30).flatmap(lambda n: st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=40)))
def test_components(links: list[tuple[int, int]]) -> None:
    ends = np.array(links, np.int64).reshape(-1, 2)
    expected = list(range(30))
    for left, right in links * 30:
        expected[left] = expected[right] = min(expected[left], expected[right])
    assert components(ends[:, 0], ends[:, 1], 30).tolist() == expected


def test_a_long_chain_is_one_component() -> None:
    order = np.random.RandomState(0).permutation(100_000)
    assert not components(order[:-1], order[1:], order.size).any()


def bucketed(rows: list[tuple[int, int, bool]], batch_rows: int) -> list[tuple[int, int]]:
    """Pairs of sorted rows that come in batches."""
    parts = [rows[first : first + batch_rows] for first in range(0, len(rows), batch_rows)]
    batches = [pa.record_batch([pa.array(column) for column in zip(*part, strict=True)], schema=BUCKETS) for part in parts]
    found = [pair for batch in pairs_in_buckets(batches) for pair in zip(*batch.to_pydict().values(), strict=True)]
    return sorted(found)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 6), st.booleans()), max_size=40), st.integers(1, 12))
def test_a_bucket_gives_each_pair_with_something_new_once(rows: list[tuple[int, int, bool]], batch_rows: int) -> None:
    rows.sort(key=lambda row: (row[0], row[1], not row[2]))
    new = {(key, content) for key, content, is_new in rows if is_new}
    known = {(key, content) for key, content, _ in rows}
    expected = [
        (left, right)
        for key, left in known
        for other, right in known
        if key == other and left < right and new & {(key, left), (key, right)}
    ]
    assert bucketed(rows, batch_rows) == sorted(expected)


def test_big_buckets_stay_linear() -> None:
    equal = [(1, 5, True)] * 50_000
    assert bucketed(equal, 10_000) == []
    assert len(bucketed([(1, content, True) for content in range(ALL_PAIRS)], 50)) == ALL_PAIRS * (ALL_PAIRS - 1) // 2
    size = 20_000
    pairs = np.array(bucketed([(1, content, True) for content in range(size)], 7_000))
    assert len(pairs) == HUBS * (size - 1) - HUBS * (HUBS - 1) // 2
    assert not components(pairs[:, 0], pairs[:, 1], size).any()
