"""Which contents share a band, without Spark."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.transforms.buckets import ALL_PAIRS, DEALT, HUBS, deal, pairs_among, pairs_in_range
from millrace.transforms.comparing import components

BANDED = pa.schema([("_bands", pa.list_(pa.int64())), ("_number", pa.int64()), ("_row", pa.int64()), ("_stands", pa.bool_())])

Banded = tuple[list[int], int, int, bool]
"""Keys, content, row, whether it is new."""


def banded(rows: list[Banded], batch_rows: int) -> pa.Table:
    """The rows in batches of some size."""
    stored = [(keys, content, row, not is_new) for keys, content, row, is_new in rows]
    batches = [
        pa.record_batch([pa.array(column) for column in zip(*stored[first : first + batch_rows], strict=True)], schema=BANDED)
        for first in range(0, len(rows), batch_rows)
    ]
    return pa.Table.from_batches(batches, BANDED)


def dealt(rows: list[Banded], batch_rows: int) -> pa.Table:
    """What comes of rows in batches of some size."""
    return pa.Table.from_batches(deal(banded(rows, batch_rows).to_batches()), DEALT)


def paired(rows: list[Banded], batch_rows: int = 10_000) -> list[tuple[int, int, int, int]]:
    """(left, right, left's row, right's row) of all ranges."""
    table = dealt(rows, batch_rows)
    ranges = table.column("_range").to_numpy()
    parts = [pairs_in_range(table.filter(pa.array(ranges == number))) for number in np.unique(ranges)]
    return sorted(row for part in parts for row in zip(*part.to_pydict().values(), strict=True))


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5), st.booleans()), max_size=20), st.integers(1, 7))
def test_each_band_comes_to_the_range_of_its_key(rows: list[tuple[list[int], bool]], batch_rows: int) -> None:
    table = dealt([(keys, place, -place, is_new) for place, (keys, is_new) in enumerate(rows)], batch_rows)
    entry = np.dtype([("key", "<i8"), ("content", "<i8"), ("row", "<i8"), ("is_new", "?"), ("is_first", "?")])
    found: Counter[tuple[int, int, int, bool, bool]] = Counter()
    for number, packed in zip(*table.to_pydict().values(), strict=True):
        entries = np.frombuffer(packed, entry).tolist()
        assert {(key % 2**64) >> 58 for key, *_ in entries} == {number}
        found.update(entries)
    assert found == Counter(
        (key, place, -place, is_new, is_new and at == 0)
        for place, (keys, is_new) in enumerate(rows)
        for at, key in enumerate(keys)
    )


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 6), st.integers(0, 2), st.booleans()), max_size=40), st.integers(1, 12)
)
def test_a_bucket_gives_each_pair_with_something_new_once(rows: list[tuple[int, int, int, bool]], batch_rows: int) -> None:
    keys_of: dict[tuple[int, int, bool], set[int]] = {}
    for key, content, copy, is_new in rows:  # a content's rows have all its keys
        for other in range(3):
            keys_of.setdefault((content, content * 10 + other, is_new and other == copy), set()).add(key)
    by_content: dict[int, set[int]] = {}
    for (content, _, _), keys in keys_of.items():
        by_content.setdefault(content, set()).update(keys)
    texts = [(sorted(by_content[content]), content, row, is_new) for content, row, is_new in keys_of]
    is_new = {content for _, content, _, new in texts if new}
    of_content = Counter(content for _, content, _, _ in texts)
    expected = {
        (left, right, left * 10, right * 10)
        for left, keys in by_content.items()
        for right, others in by_content.items()
        if left < right and keys & others and {left, right} & is_new
    }
    itself = [(content, content, content * 10, content * 10) for content in is_new if of_content[content] > 1]
    found = paired(texts, batch_rows=5)
    together = pairs_among(banded(texts, batch_rows), max_pairs=10**6)
    assert together is not None
    assert [tuple(row.values()) for row in together.to_pylist()] == sorted(set(found))
    assert sorted(pair for pair in found if pair[0] == pair[1]) == sorted(itself)
    found = [pair for pair in found if pair[0] != pair[1]]
    assert set(found) == expected
    assert Counter(found).total() <= 2 * len(expected)  # once in each of the two ranges that the keys fall into


def test_too_many_pairs_are_not_listed() -> None:
    for size, num_pairs in ((3, 3), (ALL_PAIRS, ALL_PAIRS * (ALL_PAIRS - 1) // 2), (ALL_PAIRS + 1, HUBS * (ALL_PAIRS + 1))):
        texts = banded([([1, number + 2], number, number, True) for number in range(size)], 50)
        assert pairs_among(texts, max_pairs=num_pairs) is not None
        assert pairs_among(texts, max_pairs=num_pairs - 1) is None


def test_equal_texts_count_once_and_big_buckets_stay_linear() -> None:
    assert paired([([1, 2], 5, row, True) for row in range(50_000)]) == [(5, 5, 0, 0)]
    small = [([1], content, content, True) for content in range(ALL_PAIRS)]
    assert len(paired(small, 50)) == ALL_PAIRS * (ALL_PAIRS - 1) // 2
    size = 20_000
    pairs = np.array(paired([([1], content, content, True) for content in range(size)], 7_000))
    assert len(pairs) == HUBS * (size - 1) - HUBS * (HUBS - 1) // 2
    assert not components(pairs[:, 0], pairs[:, 1], size).any()
