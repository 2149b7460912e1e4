"""The n-grams of texts as numbers, made with NumPy straight from Arrow's bytes. No Spark.

Tokens: white space (Unicode's) separates them and belongs to none. By `words` a token is what stands between; by `characters`
each character is one; by `auto` a character of a script without spaces (Han, kana, Thai, Lao, Khmer, Burmese) is one, and the
rest is words. A text of fewer than n tokens is one shingle, of all its tokens; a text without tokens has none.

A token's hash is a polynomial over 64-bit numbers drawn for each byte, modulo 2**64; a shingle's is one over its tokens', mixed
(Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014) and cut to 50 bits. It depends on the bytes alone, so
it is the same on every machine. Two given shingles have the same number by a chance of 2**-50.

Shape letters: c bytes, t tokens, s shingles, d texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

BITS = 50  # of a shingle; the others of a 64-bit number hold the text's or pair's place in its block, so that one sort does all
BLOCK = 1 << (64 - BITS)
_BLOCK_BYTES = 1 << 20
_MASK = np.uint64((1 << BITS) - 1)
_BASE = 0x9E3779B97F4A7C15
_TOKEN_BASE = np.uint64(0xD1342543DE82EF95)
_SPACES = (0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)  # beyond ASCII
# First and last code point of scripts that are written without spaces.
_WITHOUT_SPACES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x312F),  # radicals, CJK punctuation, kana, bopomofo
    (0x31A0, 0xA4CF),  # CJK in all its blocks, Yi
    (0xF900, 0xFAFF),  # compatibility ideographs
    (0xFE30, 0xFE4F),
    (0xFF00, 0xFFEF),  # full and half width
    (0x1B000, 0x1B16F),  # kana supplement
    (0x20000, 0x3FFFF),
)

Unit = Literal["words", "characters", "auto"]
Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Shingles:
    """The shingles of d texts: those of text i are values[offsets[i]:offsets[i + 1]], sorted, each once."""

    values: Hashes  # (s,)
    offsets: Places  # (d + 1,)

    @property
    def counts(self) -> Places:
        """Distinct shingles of each text: (d,)."""
        return np.diff(self.offsets)


def mix(values: Hashes) -> Hashes:
    """SplitMix64's last step, in place: every bit of the input changes half of the output's."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values ^= values >> np.uint64(shift)
        values *= np.uint64(factor)
    values ^= values >> np.uint64(31)
    return values


def shingle_blocks(texts: pa.Array, *, ngram: int, unit: Unit) -> Iterator[Shingles]:
    """The shingles of texts (strings without NULL), about a MiB and at most 16,384 texts at a time, in their order."""
    texts = texts.cast(pa.large_string())
    num_texts = len(texts)
    _, offset_bytes, data_bytes = texts.buffers()
    if num_texts == 0 or offset_bytes is None:
        return
    offsets = np.frombuffer(offset_bytes, np.int64)[texts.offset : texts.offset + num_texts + 1]
    data = np.frombuffer(data_bytes or b"", np.uint8)
    hasher = _hasher()
    first = 0
    while first < num_texts:
        last = int(np.searchsorted(offsets, offsets[first] + _BLOCK_BYTES, side="right")) - 1
        last = min(max(last, first + 1), first + BLOCK, num_texts)
        low = int(offsets[first])
        yield _shingles(data[low : int(offsets[last])], offsets[first : last + 1] - low, hasher, ngram, unit)
        first = last


class _Hasher:
    """Powers of the base and of its inverse, as far as they were asked for."""

    def __init__(self) -> None:
        self.of_byte = mix(np.arange(1, 257, dtype=np.uint64))  # (256,)
        self.of_byte[[*range(9, 14), *range(28, 33)]] = 0  # ASCII's white space adds nothing to the token before it
        self._powers = self._inverse = np.ones(0, np.uint64)

    def powers(self, num_bytes: int) -> tuple[Hashes, Hashes]:
        """base**i and base**-i modulo 2**64, for i below `num_bytes`."""
        if self._powers.size < num_bytes:
            self._powers = _powers(_BASE, num_bytes)
            self._inverse = _powers(pow(_BASE, -1, 1 << 64), num_bytes)
        return self._powers[:num_bytes], self._inverse[:num_bytes]


@cache
def _hasher() -> _Hasher:
    """The process's: powers are some MiB, and take as long as a tenth of the rest for each batch of texts."""
    return _Hasher()


def _powers(base: int, num: int) -> Hashes:
    powers = np.full(num, base, np.uint64)
    powers[:1] = 1
    np.multiply.accumulate(powers, out=powers)
    return powers


def _shingles(data: NDArray[np.uint8], offsets: Places, hasher: _Hasher, ngram: int, unit: Unit) -> Shingles:
    num_texts = offsets.size - 1
    tokens, firsts = _tokens(data, offsets, hasher, unit)
    counts = np.diff(firsts)  # (d,) tokens of each text
    sums = _windows(tokens, ngram)
    text_of = np.repeat(np.arange(num_texts, dtype=np.uint64), counts)
    inside = text_of[: sums.size] == text_of[tokens.size - sums.size :]
    keys = [_keys(text_of[: sums.size][inside], sums[inside])]
    for length in range(1, ngram):
        short = np.flatnonzero(counts == length)
        if short.size:
            together = tokens[firsts[short][:, None] + np.arange(length)]  # (short, length)
            factors = _powers(int(_TOKEN_BASE), length)
            keys.append(_keys(short.astype(np.uint64), (together * factors).sum(axis=1, dtype=np.uint64) + np.uint64(length)))
    found = np.sort(np.concatenate(keys))
    found = found[np.concatenate([[True], found[1:] != found[:-1]])] if found.size else found
    bounds = np.searchsorted(found, np.arange(num_texts, dtype=np.uint64) << np.uint64(BITS))
    return Shingles(found & _MASK, np.append(bounds, found.size).astype(np.int64))


def _keys(texts: Hashes, sums: Hashes) -> Hashes:
    """The text's number above, the shingle's below."""
    return (texts << np.uint64(BITS)) | (mix(sums) >> np.uint64(64 - BITS))


def _windows(tokens: Hashes, ngram: int) -> Hashes:
    """The hash of each run of `ngram` tokens: (t - ngram + 1,)."""
    num_windows = max(0, tokens.size - ngram + 1)
    sums = np.zeros(num_windows, np.uint64)
    for place in reversed(range(ngram)):
        sums *= _TOKEN_BASE
        sums += tokens[place : place + num_windows]
    return sums


def _tokens(data: NDArray[np.uint8], offsets: Places, hasher: _Hasher, unit: Unit) -> tuple[Hashes, Places]:
    """The tokens' hashes (t,), and the number of the first token of each text (d + 1,)."""
    values = hasher.of_byte[data]  # (c,)
    space = values == 0
    alone = _mark_wide(data, values, space, unit)
    begins = np.ones(data.size + 1, bool)  # of a token, if a character begins here
    if unit != "characters":
        begins[1:-1] = space[:-1]
        begins[offsets] = True
        for shift in (0, 1, 2, 3):  # a character that stands alone begins a token, and so does the one after it
            begins[alone[shift]] = True
    begins[:-1] &= ~space & ((data & 0xC0) != 0x80)
    starts = np.flatnonzero(begins[:-1])
    if starts.size == 0:
        return np.zeros(0, np.uint64), np.zeros(offsets.size, np.int64)
    powers, inverse = hasher.powers(data.size)
    values *= powers
    tokens = np.add.reduceat(values, starts)
    tokens *= inverse[starts]
    return mix(tokens), np.searchsorted(starts, offsets).astype(np.int64)


def _mark_wide(
    data: NDArray[np.uint8], values: Hashes, space: NDArray[np.bool_], unit: Unit
) -> tuple[Places, Places, Places, Places]:
    """Marks white space beyond ASCII; gives where characters that stand alone begin, and where those of 2, 3, 4 bytes end."""
    leads = np.flatnonzero(data >= 0xC2)
    none = np.zeros(0, np.int64)
    if leads.size == 0:
        return none, none, none, none
    lengths = 2 + (data[leads] >= 0xE0).astype(np.int64) + (data[leads] >= 0xF0)  # bytes of each character
    codes = data[leads].astype(np.int64) & (0xFF >> (lengths + 1))
    for place in (1, 2, 3):
        longer = lengths > place
        codes[longer] = codes[longer] << 6 | data[leads[longer] + place] & 0x3F
    is_space = np.isin(codes, _SPACES)
    for place in (0, 1, 2):
        where = leads[is_space & (lengths > place)] + place
        space[where] = True
        values[where] = 0
    if unit != "auto":
        return none, none, none, none
    edges = np.array([edge for low, high in _WITHOUT_SPACES for edge in (low, high + 1)])
    is_alone = (np.searchsorted(edges, codes, side="right") % 2 == 1) & ~is_space
    alone, length_of = leads[is_alone], lengths[is_alone]
    two, three, four = (alone[length_of == length] + length for length in (2, 3, 4))
    return alone, two, three, four
