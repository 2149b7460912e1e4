"""Decoding: offsets, nulls and types are heeded, nothing is guessed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from millrace.errors import ContractError
from millrace.loading.columns import ColumnSpec, decode

IMAGE = ColumnSpec(name="image", dtype="uint8", shape=(2, 2))
WORDS = ColumnSpec(name="words", dtype="int32", shape=(2,))
TOKENS = ColumnSpec(name="tokens", dtype="int32", length_buckets=(2, 4))
LABEL = ColumnSpec(name="label", dtype="int32")
HALF = ColumnSpec(name="half", dtype="float32")
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


SEQUENCES = {
    "bytes": ([b"", b"\1\0\0\0\2\0\0\0", b"\3\0\0\0"], pa.binary()),
    "large bytes": ([b"", b"\1\0\0\0\2\0\0\0", b"\3\0\0\0"], pa.large_binary()),
    "list": ([[], [1, 2], [3]], pa.list_(pa.int64())),
    "large list": ([[], [1, 2], [3]], pa.large_list(pa.int32())),
}


@pytest.mark.parametrize("rows", [slice(None), slice(1, 3), slice(2, 2)], ids=["all", "a slice", "none"])
@pytest.mark.parametrize(("values", "kind"), list(SEQUENCES.values()), ids=list(SEQUENCES))
def test_sequences_of_any_length(values, kind, rows):
    decoded = decode(chunked(values, kind, rows=rows), TOKENS, where="here")
    offsets = decoded.offsets.tolist()
    found = [decoded.values[begin:end].tolist() for begin, end in pairwise(offsets)]
    assert found == [[], [1, 2], [3]][rows]
    assert decoded.values.dtype == np.int32


def test_sequences_of_tensors():
    spec = ColumnSpec(name="frames", dtype="uint8", shape=(2,), length_buckets=(4,))
    decoded = decode(chunked([b"abcd", b"ef"], pa.binary()), spec, where="here")
    assert (decoded.values.tolist(), decoded.offsets.tolist()) == ([[97, 98], [99, 100], [101, 102]], [0, 2, 3])


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.list_(pa.int64(), 2)])
def test_tensors_of_lists(kind):
    assert decode(chunked([[1, 2], [3, 4], [5, 6]], kind, rows=slice(1, 3)), WORDS, where="here").tolist() == [[3, 4], [5, 6]]


@pytest.mark.parametrize("buckets", [(8, 4), (4, 4), (0, 4)])
def test_buckets_that_do_not_ascend_are_refused(buckets):
    with pytest.raises(ContractError) as caught:
        ColumnSpec(name="tokens", dtype="int32", length_buckets=buckets)
    assert str(caught.value) == (
        f"load: expected length_buckets of column tokens to ascend from 1 or more, of numbers; found {buckets} of int32. "
        "Name the lengths to pad to in order, the longest length that occurs last."
    )


@pytest.mark.parametrize("dtype", ["int32", "string"])
@pytest.mark.parametrize("shape", [(28, -1), (0,), (2.0,), 28, (2,)])
def test_shape_that_no_tensor_has_is_refused(dtype, shape):
    if (dtype, shape) == ("int32", (2,)):
        return
    with pytest.raises(ContractError) as caught:
        ColumnSpec(name="image", dtype=dtype, shape=shape)
    assert str(caught.value) == (
        f"load: expected shape of column image to be whole numbers from 1 up, of numbers; found {shape} of {dtype}. "
        "Give the shape of one row's tensor, without the batch; leave it out where a row holds one value."
    )


@pytest.mark.parametrize(
    ("dtype", "hint"),
    [("flaot32", "Did you mean 'float32'?"), ("str", "Did you mean 'string'?"), (None, "Known: bool, float16,")],
)
def test_unknown_dtype_is_refused(dtype, hint):
    with pytest.raises(ContractError) as caught:
        ColumnSpec(name="x", dtype=dtype)
    assert str(caught.value).startswith(
        "load: expected dtype of column x to be one of bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, "
        f"float16, float32, float64, string; found {dtype!r}. {hint}"
    )


def test_bucket_is_the_next_length():
    spec = ColumnSpec(name="tokens", dtype="int32", length_buckets=(2, 4, 8))
    assert [spec.bucket(length) for length in range(9)] == [2, 2, 2, 4, 4, 8, 8, 8, 8]
    assert spec.row_bytes == 8 * 4 + 8


def test_sequence_longer_than_the_last_bucket_is_refused():
    with pytest.raises(ContractError) as caught:
        decode(chunked([[1], [1, 2, 3, 4, 5]], pa.list_(pa.int64())), TOKENS, where="row group 0 of f")
    assert str(caught.value) == (
        "load: expected column tokens with at most 4 elements in a row (the last of length_buckets); "
        "found 5 elements in row 1, in row group 0 of f. "
        "Add a longer bucket to length_buckets, or cut the sequences before they are written."
    )


@pytest.mark.parametrize(
    ("spec", "values", "kind", "message"),
    [
        (TOKENS, [b"abcde"], pa.binary(), "column tokens with whole elements of 4 bytes; found 5 bytes in row 0"),
        (TOKENS, [[1, None]], pa.list_(pa.int32()), "column tokens with no nulls; found 1 nulls in 2 numbers"),
        (TOKENS, [[2**40]], pa.list_(pa.int64()), "column tokens with numbers that fit int32; found Integer value 1099511627776"),
        (TOKENS, [["a"]], pa.list_(pa.string()), "column tokens with numbers that fit int32; found string"),
        (WORDS, [[1, 2], [3]], pa.list_(pa.int32()), "column words with 2 numbers in each row; found 1 numbers in row 1"),
        (LABEL, [1, None], pa.int32(), "column label with no nulls; found 1 nulls in 2 rows"),
        (IMAGE, [b"abcd", None], pa.binary(), "column image with no nulls; found 1 nulls in 2 rows"),
        (IMAGE, [b"abcd", b"abc", b""], pa.binary(), "column image with 4 bytes in each row; found 3 bytes in row 1"),
        (IMAGE, [b"abc"], pa.binary(3), "column image with 4 bytes in each row; found 3 bytes"),
        (IMAGE, ["abcd"], pa.string(), "column image with a binary or list column; found string"),
        (LABEL, ["1"], pa.string(), "column label with numbers that fit int32; found string"),
        (LABEL, [2**40], pa.int64(), "column label with numbers that fit int32; found Integer value 1099511627776 not in range"),
        (LABEL, [0.5], pa.float64(), "column label with numbers that fit int32; found Float value 0.5 was truncated"),
        (HALF, [1.0, -1e300], pa.float64(), "column half with numbers that fit float32; found -1e+300"),
        (ROW_ID, [b"a"], pa.binary(), "column row_id with strings; found binary"),
    ],
)
def test_what_does_not_fit_is_refused(spec, values, kind, message):
    with pytest.raises(ContractError) as caught:
        decode(chunked(values, kind), spec, where="row group 0 of f")
    assert message in str(caught.value)
    assert str(caught.value).endswith(
        "in row group 0 of f. "
        "Compare what was asked of the column with what the table holds; change the one, or write the other again."
    )
