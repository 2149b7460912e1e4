"""Decoding: offsets, nulls and types are heeded, nothing is guessed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from millrace.errors import ContractError
from millrace.loading.columns import ColumnSpec, decode

IMAGE = ColumnSpec(name="image", dtype="uint8", shape=(2, 2))
WORDS = ColumnSpec(name="words", dtype="int32", shape=(2,))
LABEL = ColumnSpec(name="label", dtype="int32")
ROW_ID = ColumnSpec(name="row_id", dtype="string")


def chunked(values, kind, *, rows=slice(None)) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)[rows]])


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(4)])
def test_tensors_of_a_slice(kind):
    """The first rows are cut off, so that the buffers' offsets are not 0."""
    column = chunked([bytes([row] * 4) for row in range(9)], kind, rows=slice(5, 8))
    images = decode(column, IMAGE, where="here")
    assert images.tolist() == [[[row, row], [row, row]] for row in (5, 6, 7)]
    assert images.dtype == np.uint8


def test_tensors_of_wider_type():
    column = chunked([np.array([row, -row], "<i4").tobytes() for row in range(3)], pa.binary())
    assert decode(column, WORDS, where="here").tolist() == [[0, 0], [1, -1], [2, -2]]


def test_several_chunks_are_joined():
    column = pa.chunked_array([pa.array([b"abcd"]), pa.array([b"efgh"])])
    assert decode(column, IMAGE, where="here").tobytes() == b"abcdefgh"


@pytest.mark.parametrize(
    ("spec", "kind"), [(IMAGE, pa.binary()), (IMAGE, pa.binary(4)), (LABEL, pa.int32()), (ROW_ID, pa.string())]
)
def test_no_rows(spec, kind):
    assert decode(pa.chunked_array([], kind), spec, where="here").shape == (0, *spec.shape)


@pytest.mark.parametrize("kind", [pa.int8(), pa.int32(), pa.int64(), pa.bool_()])
def test_numbers_keep_their_value(kind):
    labels = decode(pa.chunked_array([pa.array([1, 0, 1]).cast(kind)]), LABEL, where="here")
    assert labels.tolist() == [1, 0, 1]
    assert labels.dtype == np.int32


def test_strings():
    assert decode(chunked(["a", "ü"], pa.string()), ROW_ID, where="here").tolist() == ["a", "ü"]


@pytest.mark.parametrize(
    ("spec", "values", "kind", "message"),
    [
        (LABEL, [1, None], pa.int32(), "column label with no nulls; found 1 nulls in 2 rows"),
        (IMAGE, [b"abcd", None], pa.binary(), "column image with no nulls; found 1 nulls in 2 rows"),
        (IMAGE, [b"abcd", b"abc", b""], pa.binary(), "column image with 4 bytes in each row; found 3 bytes in row 1"),
        (IMAGE, [b"abc"], pa.binary(3), "column image with 4 bytes in each row; found 3 bytes"),
        (IMAGE, ["abcd"], pa.string(), "column image with a binary or list column; found string"),
        (LABEL, ["1"], pa.string(), "column label with numbers that fit int32; found string"),
        (LABEL, [2**40], pa.int64(), "column label with numbers that fit int32; found Integer value 1099511627776 not in range"),
        (LABEL, [0.5], pa.float64(), "column label with numbers that fit int32; found Float value 0.5 was truncated"),
        (ROW_ID, [b"a"], pa.binary(), "column row_id with strings; found binary"),
    ],
)
def test_what_does_not_fit_is_refused(spec, values, kind, message):
    with pytest.raises(ContractError) as caught:
        decode(chunked(values, kind), spec, where="row group 0 of f")
    assert message in str(caught.value)
    assert "in row group 0 of f. Compare the pipeline's features and label with the table's columns" in str(caught.value)
