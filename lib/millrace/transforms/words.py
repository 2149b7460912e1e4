"""Words, lines and sentences of a text, as the rules of Gopher and C4 count them, in languages with and without spaces."""

# ruff: noqa: RUF001 (signs of other scripts are meant)

from __future__ import annotations

import re

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Hiragana, katakana and Han characters: scripts that write no spaces between words. Korean does."""
_CJK = re.compile(f"[{CJK}]")
_TOKEN = re.compile(f"[{CJK}]|[^\\s{CJK}]+")
_EDGES = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~“”‘’„…—–•«»。，、！？；：（）《》〈〉【】「」『』〔〕～·"
_SENTENCE_END = re.compile(rf"(?<![.!?])[.!?]++(?=[\s\"'”’)\]]|$)|(?<![!?])[!?]++(?=[{CJK}])|[。！？…]+")
TERMINAL = (".", "!", "?", '"', "'", "”", "’", "。", "！", "？", "…", "」", "』")


def words_of(text: str) -> list[str]:
    """The words in their order: what stands between white space, without signs at its ends; each Han character or kana is one.

    Signs alone, such as a bullet or an emoji, are no words.
    """
    tokens = _TOKEN.findall(text) if not text.isascii() and _CJK.search(text) else text.split()
    return [word for token in tokens if (word := token.strip(_EDGES)) and (word.isalnum() or any(map(str.isalnum, word)))]


def is_mostly_cjk(words: list[str]) -> bool:
    """Whether at least half of the words are single Han characters or kana."""
    return 2 * sum(1 for word in words if len(word) == 1 and _CJK.match(word)) >= max(1, len(words))


def lines_of(text: str) -> list[str]:
    """The lines that are not empty, without white space at their ends."""
    return [line for part in text.split("\n") if (line := part.strip())]


def paragraphs_of(text: str) -> list[str]:
    """What stands between empty lines."""
    found: list[list[str]] = [[]]
    for part in text.split("\n"):
        line = part.strip()
        if line:
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return ["\n".join(lines) for lines in found if lines]


def num_sentences(text: str) -> int:
    """How many marks, or runs of them, end a sentence; a text without any is one sentence, an empty one none."""
    return max(sum(1 for _ in _SENTENCE_END.finditer(text)), 1 if text.strip() else 0)
