"""How tensors are laid into buffers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.training.reduction import chunks_of


@pytest.mark.parametrize(
    ("sizes", "chunk_numbers", "chunks"),
    [
        ([5, 2], 4, (((0, 0, 4),), ((0, 4, 5), (1, 0, 2)))),
        ([5, 2], 7, (((0, 0, 5), (1, 0, 2)),)),
        ([2, 2], 2, (((0, 0, 2),), ((1, 0, 2),))),
        ([9], 4, (((0, 0, 4),), ((0, 4, 8),), ((0, 8, 9),))),
        ([], 4, ()),
    ],
)
def test_layout(sizes, chunk_numbers, chunks):
    assert chunks_of(sizes, chunk_numbers) == chunks


@given(st.lists(st.integers(1, 40), max_size=12), st.integers(1, 50))
def test_every_number_travels_once_in_order_in_full_chunks(sizes, chunk_numbers):
    chunks = chunks_of(sizes, chunk_numbers)
    sent = [(piece.tensor, number) for chunk in chunks for piece in chunk for number in range(piece.first, piece.end)]
    assert sent == [(tensor, number) for tensor, size in enumerate(sizes) for number in range(size)]
    numbers = [sum(piece.end - piece.first for piece in chunk) for chunk in chunks]
    assert numbers[:-1] == [chunk_numbers] * (len(chunks) - 1)
    assert all(0 < number <= chunk_numbers for number in numbers)
