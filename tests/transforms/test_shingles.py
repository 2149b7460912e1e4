"""Tokens and shingles against a plain Python count."""

from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.transforms import shingles as module
from millrace.transforms.shingles import Unit, shingle_blocks

WITHOUT_SPACES = ["中", "ひ", "。", "ก", "𠀀", "\uff21"]
ALPHABET = [
    "a",
    "b",
    "é",
    "ß",
    "한",
    "😀",
    " ",
    "\t",
    "\n",
    "\x1f",
    "\x00",
    "\x85",
    "\u00a0",
    "\u2003",
    "\u3000",
    *WITHOUT_SPACES,
]


def tokens_of(text: str, unit: Unit) -> list[str]:
    """The documented tokenization, letter by letter."""
    if unit == "words":
        return text.split()
    if unit == "characters":
        return [letter for letter in text if not letter.isspace()]
    spaced = "".join(f" {letter} " if letter in WITHOUT_SPACES else letter for letter in text)
    return spaced.split()


def grams_of(text: str, unit: Unit, ngram: int) -> set[tuple[str, ...]]:
    """The set of n-grams."""
    tokens = tokens_of(text, unit)
    if not tokens:
        return set()
    return {tuple(tokens[first : first + ngram]) for first in range(max(1, len(tokens) - ngram + 1))}


def values_of(texts: list[str], unit: Unit, ngram: int) -> list[list[int]]:
    """The shingles of each text."""
    found = []
    for block in shingle_blocks(pa.array(texts, pa.string()), ngram=ngram, unit=unit):
        ends = block.offsets.tolist()
        found += [block.values[low:high].tolist() for low, high in pairwise(ends)]
    return found


@pytest.mark.parametrize("unit", ["words", "characters", "auto"])
@given(texts=st.lists(st.text(st.sampled_from(ALPHABET), max_size=30), max_size=8), ngram=st.integers(1, 4))
def test_shingles_are_equal_where_n_grams_are(unit: Unit, texts: list[str], ngram: int) -> None:
    found = values_of(texts, unit, ngram)
    expected = [grams_of(text, unit, ngram) for text in texts]
    assert [len(values) for values in found] == [len(grams) for grams in expected]
    assert all(values == sorted(set(values)) for values in found)
    for first, first_grams in zip(found, expected, strict=True):
        for second, second_grams in zip(found, expected, strict=True):
            assert len(set(first) & set(second)) == len(first_grams & second_grams)


def test_a_text_has_the_same_shingles_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"one two {number} three four five 中文字符 {number % 3}" for number in range(50)]
    whole = values_of(texts, "auto", 5)
    monkeypatch.setattr(module, "_BLOCK_BYTES", 100)
    assert values_of(texts, "auto", 5) == whole
    assert [values_of([text], "auto", 5)[0] for text in texts] == whole
    sliced = list(shingle_blocks(pa.array(["x y", *texts], pa.string()).slice(1), ngram=5, unit="auto"))
    assert [value for block in sliced for value in block.values.tolist()] == [value for values in whole for value in values]


def test_the_numbers_are_the_same_on_every_machine() -> None:
    """They are stored: a change here makes stored signatures useless."""
    assert values_of(["the quick brown fox", "狐 x"], "auto", 3) == [
        [507918509817752, 619047485056248],
        [660783523844770],
    ]
