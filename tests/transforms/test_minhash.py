"""Signatures, without Spark."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from millrace.config.near_duplicates import candidate_probability
from millrace.transforms.minhash import SIGNED, Banding, MinHash, sign
from millrace.transforms.shingles import Shingles

MINHASH = MinHash(ngram=5, unit="auto", bands=16, rows_per_band=6, seed=7)
INPUT = pa.schema([(name, pa.string()) for name in ("row_id", "_night", "_source_file", "text")])


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
