"""Row groups copied into memory that is used again."""

from __future__ import annotations

import numpy as np
import pytest

from millrace.loading.blocks import Blocks
from millrace.loading.columns import Sequences


def columns_of(rows: int) -> dict[str, np.ndarray | Sequences]:
    offsets = np.arange(rows + 1, dtype=np.int64) * 3
    return {
        "image": np.arange(rows * 5, dtype=np.uint8).reshape(rows, 5),
        "name": np.array([f"row {number}" for number in range(rows)], dtype=object),
        "ids": Sequences(np.arange(rows * 3, dtype=np.int32), offsets),
        "flag": np.arange(rows) % 2 == 0,
    }


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_a_copy_is_equal_and_shares_nothing(rows: int) -> None:
    columns = columns_of(rows)
    own = Blocks(2).copy(columns)
    assert list(own) == list(columns)
    for name in ("image", "name", "flag"):
        np.testing.assert_array_equal(own[name], columns[name])
        assert own[name].dtype == columns[name].dtype
    np.testing.assert_array_equal(own["ids"].values, columns["ids"].values)
    np.testing.assert_array_equal(own["ids"].offsets, columns["ids"].offsets)
    assert not any(np.shares_memory(own[name], columns[name]) for name in ("image", "flag"))


def test_what_was_given_back_is_used_for_the_next() -> None:
    blocks = Blocks(2)
    large = blocks.copy(columns_of(9))
    blocks.give_back(large)
    small = blocks.copy(columns_of(3))
    assert small.block is large.block
    np.testing.assert_array_equal(small["image"], columns_of(3)["image"])


def test_a_block_that_is_too_small_is_left() -> None:
    blocks = Blocks(2)
    small = blocks.copy(columns_of(1))
    blocks.give_back(small)
    large = blocks.copy(columns_of(50))
    assert large.block is not small.block
    np.testing.assert_array_equal(large["image"], columns_of(50)["image"])


def test_no_more_are_kept_than_asked_for() -> None:
    blocks = Blocks(1)
    first, second = blocks.copy(columns_of(2)), blocks.copy(columns_of(2))
    for own in (first, second, columns_of(2)):
        blocks.give_back(own)
    assert blocks.copy(columns_of(2)).block is first.block
    assert blocks.copy(columns_of(2)).block is not second.block
