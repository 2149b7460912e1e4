"""The quality rules of Gopher (Rae et al., 2021, section A.1.1 and table A1): is this text, and does it not repeat itself?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from millrace.config.texts import GopherConfig
from millrace.transforms.words import is_mostly_cjk, lines_of, paragraphs_of, words_of

Numbers = NDArray[np.int64]
_BULLETS = ("•", "-", "*", "‣", "◦", "·", "●")
_ELLIPSES = ("...", "…")


class Broken(NamedTuple):
    """A rule that a text breaks, and why, with the figure."""

    rule: str
    reason: str


def rules_of_gopher(config: GopherConfig) -> tuple[str, ...]:
    """The rules that are on, in the order in which they are asked."""
    names = {name: getattr(config, name) for name in _ORDER}
    rules = [_ORDER[name] for name, threshold in names.items() if threshold is not None]
    rules += [f"gopher_top_{n}_gram" for n in sorted(config.max_top_ngram_chars)]
    return (*rules, *(f"gopher_duplicate_{n}_gram" for n in sorted(config.max_duplicate_ngram_chars)))


_ORDER = {
    "min_words": "gopher_too_few_words",
    "max_words": "gopher_too_many_words",
    "min_mean_word_length": "gopher_short_words",
    "max_mean_word_length": "gopher_long_words",
    "max_symbol_ratio": "gopher_symbols",
    "max_bullet_lines": "gopher_bullet_lines",
    "max_ellipsis_lines": "gopher_ellipsis_lines",
    "min_alphabetic_words": "gopher_alphabetic_words",
    "min_stop_words": "gopher_stop_words",
    "max_duplicate_lines": "gopher_duplicate_lines",
    "max_duplicate_paragraphs": "gopher_duplicate_paragraphs",
    "max_duplicate_line_chars": "gopher_duplicate_line_chars",
    "max_duplicate_paragraph_chars": "gopher_duplicate_paragraph_chars",
}


def first_broken_of_gopher(text: str, config: GopherConfig) -> Broken | None:
    """The first rule that a text breaks; None for a good text."""
    words = words_of(text)
    lines = lines_of(text)
    for rules in (_of_words(text, words, config), _of_lines(lines, config), _of_repeats(text, lines, config)):
        if broken := next(rules, None):
            return broken
    return next(_of_ngrams(words, config), None)


def _of_words(text: str, words: list[str], config: GopherConfig) -> Iterator[Broken]:
    num_words = len(words)
    yield from _at_least("min_words", num_words, config, "words")
    yield from _at_most("max_words", num_words, config, "words")
    if not words:
        return
    has_spaces = not is_mostly_cjk(words)
    if has_spaces:
        mean = sum(map(len, words)) / num_words
        yield from _at_least("min_mean_word_length", mean, config, "characters a word")
        yield from _at_most("max_mean_word_length", mean, config, "characters a word")
    for signs, name in ((("#",), "# a word"), (_ELLIPSES, "ellipses a word")):
        yield from _at_most("max_symbol_ratio", sum(map(text.count, signs)) / num_words, config, name)
    if config.min_alphabetic_words is not None:
        alphabetic = sum(1 for word in words if word.isalpha() or any(map(str.isalpha, word)))
        yield from _at_least("min_alphabetic_words", alphabetic / num_words, config, "of the words have a letter")
    if has_spaces and config.min_stop_words is not None:
        found = len(set(config.stop_words).intersection(map(str.lower, words)))
        yield from _at_least("min_stop_words", found, config, "different stop words")


def _of_lines(lines: list[str], config: GopherConfig) -> Iterator[Broken]:
    if lines:
        bullets = sum(1 for line in lines if line.startswith(_BULLETS))
        yield from _at_most("max_bullet_lines", bullets / len(lines), config, "of the lines are bullets")
        ellipses = sum(1 for line in lines if line.endswith(_ELLIPSES))
        yield from _at_most("max_ellipsis_lines", ellipses / len(lines), config, "of the lines end in an ellipsis")


def _of_repeats(text: str, lines: list[str], config: GopherConfig) -> Iterator[Broken]:
    for unit, parts in (("line", lines), ("paragraph", paragraphs_of(text))):
        again = len(parts) - len(set(parts))
        if not again:
            continue
        yield from _at_most(f"max_duplicate_{unit}s", again / len(parts), config, f"of the {unit}s stood before")
        chars = sum((count - 1) * len(part) for part, count in Counter(parts).items())
        share = chars / max(1, sum(map(len, parts)))
        yield from _at_most(f"max_duplicate_{unit}_chars", share, config, f"of the characters are in {unit}s that stood before")


def _of_ngrams(words: list[str], config: GopherConfig) -> Iterator[Broken]:
    known: dict[str, int] = {}
    ids = np.array([known.setdefault(word, len(known)) for word in words], dtype=np.int64)
    lengths = np.array([len(word) for word in words], dtype=np.int64)
    total = max(1, int(lengths.sum()))
    grams, broken = ids, {}
    for n in range(1, max((*config.max_top_ngram_chars, *config.max_duplicate_ngram_chars), default=0) + 1):
        if n > 1:
            grams = grams[:-1] * len(known) + ids[n - 1 :]  # below 2^63: both factors are at most the number of words
        if not len(grams):
            break
        unique, first, inverse, counts = np.unique(grams, return_index=True, return_inverse=True, return_counts=True)
        if len(unique) == len(grams):  # none is there twice, nor is any longer one
            break
        for kind, thresholds in (("top", config.max_top_ngram_chars), ("duplicate", config.max_duplicate_ngram_chars)):
            if n not in thresholds:
                continue
            chars = _top(counts, first, inverse, lengths, n) if kind == "top" else _repeated(first, inverse, lengths, n)
            if chars / total > thresholds[n]:
                which = "the most frequent" if kind == "top" else "repeated"
                reason = f"{chars / total:.3g} of the characters are in {which} {n}-grams, at most {thresholds[n]:g} allowed"
                broken[f"gopher_{kind}_{n}_gram"] = reason
        grams = inverse
    yield from (Broken(rule, broken[rule]) for rule in rules_of_gopher(config) if rule in broken)


def _top(counts: Numbers, first: Numbers, inverse: Numbers, lengths: Numbers, n: int) -> int:
    """Characters that the most frequent n-gram covers; of equally frequent ones the longest counts, then the earliest."""
    if counts.max() == 1:
        return 0
    ends = np.concatenate(([0], np.cumsum(lengths)))
    chars = np.where(counts == counts.max(), ends[first + n] - ends[first], -1)
    best = np.lexsort((first, -chars))[0]
    return _covered(np.flatnonzero(inverse == best), lengths, n)


def _repeated(first: Numbers, inverse: Numbers, lengths: Numbers, n: int) -> int:
    """Characters that n-grams cover which stood before."""
    return _covered(np.flatnonzero(first[inverse] != np.arange(len(inverse))), lengths, n)


def _covered(starts: Numbers, lengths: Numbers, n: int) -> int:
    """Characters of the words in n-grams that start there, each word once."""
    edges = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + n, -1)
    return int(lengths[np.cumsum(edges)[:-1] > 0].sum())


def _at_least(name: str, found: float, config: GopherConfig, what: str) -> Iterator[Broken]:
    threshold = getattr(config, name)
    if threshold is not None and found < threshold:
        yield Broken(_ORDER[name], f"{found:.3g} {what}, at least {threshold:g} wanted")


def _at_most(name: str, found: float, config: GopherConfig, what: str) -> Iterator[Broken]:
    threshold = getattr(config, name)
    if threshold is not None and found > threshold:
        yield Broken(_ORDER[name], f"{found:.3g} {what}, at most {threshold:g} allowed")
