"""SipHash-2-4 of many texts at once: the hash of TensorFlow's `to_hash_bucket_strong` and of Keras' `Hashing` with a salt.

Aumasson and Bernstein, SipHash: a fast short-input PRF (2012). Whole numbers modulo 2^64 throughout.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Words = npt.NDArray[np.uint64]

_START = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
_MASK = 2**64 - 1
_FEW = 8
"""So few texts are still unfinished: plain Python is faster than NumPy on them."""


def siphash(texts: pa.Array, key: tuple[int, int]) -> Words:
    """(rows,) uint64: the hash of each text's UTF-8 bytes. Strings or bytes, without NULL, in 32-bit offsets."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, texts.offset * 4).astype(np.int64)
    buffer = texts.buffers()[2]
    data = np.frombuffer(buffer if buffer is not None else b"", np.uint8)
    padded = np.concatenate([data[offsets[0] : offsets[-1]], np.zeros(8, np.uint8)])
    return _hash(padded, offsets[:-1] - offsets[0], np.diff(offsets), key)


def _hash(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], key: tuple[int, int]
) -> Words:
    """data: bytes, with 8 more at the end; text i is data[starts[i] : starts[i] + sizes[i]]."""
    num_words = sizes // 8 + 1
    order = np.argsort(-num_words, kind="stable")
    num_words, starts, sizes = num_words[order], starts[order], sizes[order]
    keys = (key[0], key[1], key[0], key[1])
    state = [np.full(len(order), start ^ each, np.uint64) for start, each in zip(_START, keys, strict=True)]
    position, unfinished = 0, len(order)
    while unfinished:
        unfinished = int(np.searchsorted(-num_words, -position, side="left"))  # texts with more words than `position`
        if unfinished <= _FEW:
            break
        words = _words(data, starts[:unfinished], sizes[:unfinished], position)
        v = [each[:unfinished] for each in state]
        v[3] = v[3] ^ words
        v = _round(_round(v))
        v[0] = v[0] ^ words
        for whole, part in zip(state, v, strict=True):
            whole[:unfinished] = part
        position += 1
    for row in range(unfinished):
        text = data[starts[row] : starts[row] + sizes[row]].tobytes()
        for whole, number in zip(state, _rest([int(each[row]) for each in state], text, position), strict=True):
            whole[row] = number
    state[2] = state[2] ^ np.uint64(0xFF)
    for _ in range(4):
        state = _round(state)
    hashes = np.empty(len(order), np.uint64)
    hashes[order] = state[0] ^ state[1] ^ state[2] ^ state[3]
    return hashes


def _words(data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], position: int) -> Words:
    """Word number `position` of each text, little-endian; the last one has the text's size modulo 256 on top."""
    at = starts + 8 * position
    words = data[at[:, None] + np.arange(8)].view("<u8")[:, 0]  # (texts,)
    left = sizes - 8 * position
    is_last = left < 8
    kept = (np.uint64(1) << (np.clip(left, 0, 7) * 8).astype(np.uint64)) - np.uint64(1)
    top = (sizes & 0xFF).astype(np.uint64) << np.uint64(56)
    last: Words = np.where(is_last, (words & kept) | top, words)
    return last


def _round(v: list[Words]) -> list[Words]:
    a, b, c, d = v
    a = a + b
    b = _turned(b, 13) ^ a
    a = _turned(a, 32)
    c = c + d
    d = _turned(d, 16) ^ c
    a = a + d
    d = _turned(d, 21) ^ a
    c = c + b
    b = _turned(b, 17) ^ c
    c = _turned(c, 32)
    return [a, b, c, d]


def _turned(words: Words, by: int) -> Words:
    turned: Words = (words << np.uint64(by)) | (words >> np.uint64(64 - by))
    return turned


def _rest(state: list[int], text: bytes, position: int) -> list[int]:
    """The state after the words from `position` on, in Python's whole numbers."""
    a, b, c, d = state
    full = len(text) - len(text) % 8
    for at in range(8 * position, full + 8, 8):
        piece = text[at : at + 8]
        word = int.from_bytes(piece, "little") | ((len(text) & 0xFF) << 56 if at == full else 0)
        d ^= word
        for _ in range(2):
            a = (a + b) & _MASK
            b = (b << 13 & _MASK | b >> 51) ^ a
            a = a << 32 & _MASK | a >> 32
            c = (c + d) & _MASK
            d = (d << 16 & _MASK | d >> 48) ^ c
            a = (a + d) & _MASK
            d = (d << 21 & _MASK | d >> 43) ^ a
            c = (c + b) & _MASK
            b = (b << 17 & _MASK | b >> 47) ^ c
            c = c << 32 & _MASK | c >> 32
        a ^= word
    return [a, b, c, d]
