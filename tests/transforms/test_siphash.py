"""SipHash-2-4: the paper's vector, a plain reading of it in Python, and TensorFlow's own."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.transforms.siphash import siphash

BUCKETS = 2**61 - 1


def of_tensorflow(texts: list[bytes], key: tuple[int, int]) -> list[int]:
    return tf.strings.to_hash_bucket_strong(tf.constant(texts), BUCKETS, key=list(key)).numpy().tolist()


def test_the_vector_of_the_paper() -> None:
    key = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
    texts = [bytes(range(15)), b""]
    assert [hex(number) for number in siphash(pa.array(texts), key)] == ["0xa129ca6149be45e5", "0x726fdb47dd0e0e31"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=40), st.tuples(st.integers(0, 2**31), st.integers(0, 2**31)))
def test_as_tensorflow_does(texts: list[bytes], key: tuple[int, int]) -> None:
    assert (siphash(pa.array(texts), key) % np.uint64(BUCKETS)).tolist() == of_tensorflow(texts, key)


def test_sizes_and_slices() -> None:
    texts = [bytes([size % 251]) * size for size in (*range(70), 255, 256, 257, 300, 100_000)] * 2
    assert (siphash(pa.array(texts), (1, 2)) % np.uint64(BUCKETS)).tolist() == of_tensorflow(texts, (1, 2))
    assert siphash(pa.array(texts)[3:20], (1, 2)).tolist() == siphash(pa.array(texts[3:20]), (1, 2)).tolist()
    assert siphash(pa.array(["é", "😀"]), (1, 2)).tolist() == siphash(pa.array(["é".encode(), "😀".encode()]), (1, 2)).tolist()
    assert siphash(pa.array([], pa.string()), (1, 2)).tolist() == []
