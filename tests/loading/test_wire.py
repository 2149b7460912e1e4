"""Columns as bytes and back: equal, without a copy, and never by pickling."""

from __future__ import annotations

import numpy as np
import pytest

from millrace.loading.columns import Sequences
from millrace.loading.wire import pack, unpack


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_columns_survive(rows):
    numbers = np.arange(rows)
    columns = {
        "image": np.repeat(numbers.astype(np.uint8), 6).reshape(rows, 3, 2),
        "flag": numbers % 2 == 0,
        "half": (numbers / 2).astype("<f4"),
        "name": np.array([f"ü{number}" for number in numbers], dtype=object),
        "tokens": Sequences(np.arange(3 * rows, dtype="<i4"), np.arange(0, 3 * rows + 1, 3)),
    }
    fields = {"place": 4, "error": None}
    found, found_fields = unpack(pack(columns, fields))
    assert found_fields == fields
    assert list(found) == list(columns)
    tokens = found.pop("tokens")
    assert (tokens.values.tolist(), tokens.offsets.tolist()) == (list(range(3 * rows)), list(range(0, 3 * rows + 1, 3)))
    for name, array in found.items():
        assert (array.dtype, array.shape, array.tolist()) == (columns[name].dtype, columns[name].shape, columns[name].tolist())


def test_arrays_share_the_bytes():
    data = pack({"image": np.zeros((4, 4), np.uint8)}, {})
    found, _ = unpack(data)
    np.frombuffer(data, dtype=np.uint8)[-64] = 9
    assert found["image"][0, 0] == 9


def test_view_that_does_not_lie_together():
    columns, _ = unpack(pack({"odd": np.arange(10)[1::2]}, {}))
    assert columns["odd"].tolist() == [1, 3, 5, 7, 9]
