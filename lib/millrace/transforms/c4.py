"""The quality rules of C4 (Raffel et al., 2020, section 2.2): lines that are no sentences go, then the page is judged."""

from __future__ import annotations

import re
from functools import cache

from millrace.config.texts import C4Config
from millrace.transforms.gopher import Broken
from millrace.transforms.words import CJK, TERMINAL, lines_of, num_sentences, words_of

_POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_CITATION = re.compile(r"\[[0-9]*\]|\[edit\]|\[citation needed\]")
_TRAILS_OFF = re.compile(f"(?:[.]{{3}}|(?<![…{CJK}])…)$")  # in Chinese …… ends a sentence
_LETTERS_AROUND = re.compile(f"[{CJK}]")


def rules_of_c4(config: C4Config) -> tuple[str, ...]:
    """The rules that are on, in the order in which they are asked."""
    asked = {
        "c4_no_line_left": True,
        "c4_lorem_ipsum": config.lorem_ipsum,
        "c4_curly_bracket": config.curly_bracket,
        "c4_bad_words": bool(config.bad_words),
        "c4_too_few_sentences": config.min_sentences is not None,
    }
    return tuple(rule for rule, is_on in asked.items() if is_on)


def kept_lines(text: str, config: C4Config) -> str:
    """The text without the lines that end in no terminal mark, have too few words or too long ones, or speak of Javascript or
    policies; and without citation marks."""
    lines = (_CITATION.sub("", line).strip() if config.citations else line for line in lines_of(text))
    return "\n".join(line for line in lines if _stays(line, config))


def first_broken_of_c4(text: str, config: C4Config) -> Broken | None:
    """The first rule that the text, whose bad lines are gone, breaks; None for a good page."""
    if not text:
        return Broken("c4_no_line_left", "no line is a sentence")
    lower = text.lower()
    if config.lorem_ipsum and "lorem ipsum" in lower:
        return Broken("c4_lorem_ipsum", "it has the phrase lorem ipsum")
    if config.curly_bracket and "{" in text:
        return Broken("c4_curly_bracket", f"{text.count('{')} curly brackets, none allowed")
    if config.bad_words and (match := _bad_words(config.bad_words).search(lower)):
        return Broken("c4_bad_words", f"a bad word at character {match.start()}")
    if config.min_sentences is not None and (found := num_sentences(text)) < config.min_sentences:
        return Broken("c4_too_few_sentences", f"{found} sentences, at least {config.min_sentences} wanted")
    return None


def _stays(line: str, config: C4Config) -> bool:
    if config.terminal_punctuation and (not line.endswith(TERMINAL) or _TRAILS_OFF.search(line)):
        return False
    lower = line.lower()
    if config.javascript and "javascript" in lower:
        return False
    if config.policies and any(policy in lower for policy in _POLICIES):
        return False
    words = words_of(line)
    if config.max_word_length is not None and any(len(word) > config.max_word_length for word in words):
        return False
    return config.min_words_per_line is None or len(words) >= config.min_words_per_line


@cache
def _bad_words(words: tuple[str, ...]) -> re.Pattern[str]:
    """One pattern of plain words, so that its time is linear in the text."""
    parts = [
        re.escape(word.lower()) if _LETTERS_AROUND.search(word) else rf"(?<!\w){re.escape(word.lower())}(?!\w)" for word in words
    ]
    return re.compile("|".join(parts))
