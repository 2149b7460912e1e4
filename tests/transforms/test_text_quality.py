# ruff: noqa: RUF001 (signs of other scripts are meant)
"""The rules of Gopher and C4: each one's edge, its reason with the figure, and what they say of real and of odd texts."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.config.texts import C4Config, GopherConfig, TextQualityConfig
from millrace.transforms.c4 import first_broken_of_c4, kept_lines, rules_of_c4
from millrace.transforms.gopher import first_broken_of_gopher, rules_of_gopher
from millrace.transforms.text_pass import judge_of, rules_of_text
from millrace.transforms.words import is_mostly_cjk, num_sentences, paragraphs_of, words_of
from tests.transforms.real_texts import reviews

OFF: dict[str, Any] = {
    name: {} if name.endswith("gram_chars") else None for name in GopherConfig.model_fields if name != "stop_words"
}


def gopher(text: str, **thresholds: Any) -> tuple[str, str] | None:
    """What a text breaks where only these rules are on."""
    broken = first_broken_of_gopher(text, GopherConfig(**(OFF | thresholds)))
    return None if broken is None else (broken.rule, broken.reason)


def test_words_sentences_and_paragraphs() -> None:
    assert words_of("Hello, it's - the • 😀 3.5 你好 don't!\u3000世界 x") == [
        *("Hello", "it's", "the", "3.5", "你", "好", "don't", "世", "界", "x")
    ]
    assert words_of("") == words_of(" \n ") == words_of("--- 😀 …") == []
    assert words_of("한국어 문장") == ["한국어", "문장"]
    assert [num_sentences(text) for text in ("", " ", "no end", "A b. C d! E?", "你好。再见！", "3.14 is pi...")] == [
        0,
        0,
        1,
        3,
        2,
        1,
    ]
    assert paragraphs_of("a\nb\n\n\n c \n") == ["a\nb", "c"]
    assert [is_mostly_cjk(words_of(text)) for text in ("你好 ab", "你 a b", "かな", "")] == [True, False, True, False]


@pytest.mark.parametrize(
    ("good", "bad", "thresholds", "rule", "reason"),
    [
        ("a b", "a", {"min_words": 2}, "gopher_too_few_words", "1 words, at least 2 wanted"),
        ("你好", "你", {"min_words": 2}, "gopher_too_few_words", "1 words, at least 2 wanted"),
        ("a b", "a b c", {"max_words": 2}, "gopher_too_many_words", "3 words, at most 2 allowed"),
        ("abc", "ab abc", {"min_mean_word_length": 3}, "gopher_short_words", "2.5 characters a word, at least 3 wanted"),
        ("你好世界", "ab", {"min_mean_word_length": 3}, "gopher_short_words", "2 characters a word, at least 3 wanted"),
        ("abcd", "abcde", {"max_mean_word_length": 4}, "gopher_long_words", "5 characters a word, at most 4 allowed"),
        ("#a b", "#a #b", {"max_symbol_ratio": 0.5}, "gopher_symbols", "1 # a word, at most 0.5 allowed"),
        ("a b…", "a... b…", {"max_symbol_ratio": 0.5}, "gopher_symbols", "1 ellipses a word, at most 0.5 allowed"),
        (
            "- a\nb",
            "- a\n• b",
            {"max_bullet_lines": 0.5},
            "gopher_bullet_lines",
            "1 of the lines are bullets, at most 0.5 allowed",
        ),
        (
            *("a…\nb", "a…\n\nb..."),
            {"max_ellipsis_lines": 0.5},
            *("gopher_ellipsis_lines", "1 of the lines end in an ellipsis, at most 0.5 allowed"),
        ),
        (
            *("a 1", "1 2 a"),
            {"min_alphabetic_words": 0.5},
            *("gopher_alphabetic_words", "0.333 of the words have a letter, at least 0.5 wanted"),
        ),
        ("The mill of", "the mill, the", {"min_stop_words": 2}, "gopher_stop_words", "1 different stop words, at least 2 wanted"),
        ("今天", "a b", {"min_stop_words": 1}, "gopher_stop_words", "0 different stop words, at least 1 wanted"),
        (
            *("a\nb\na", "a\na\na"),
            {"max_duplicate_lines": 0.5},
            *("gopher_duplicate_lines", "0.667 of the lines stood before, at most 0.5 allowed"),
        ),
        (
            *("a\n\nb\n\na", "a\n\na\n\na"),
            {"max_duplicate_paragraphs": 0.5},
            *("gopher_duplicate_paragraphs", "0.667 of the paragraphs stood before, at most 0.5 allowed"),
        ),
        (
            *("aa\naa\nbbbbbb", "aa\naa\nbb"),
            {"max_duplicate_line_chars": 0.3},
            *("gopher_duplicate_line_chars", "0.333 of the characters are in lines that stood before, at most 0.3 allowed"),
        ),
        (
            *("aa\n\naa\n\nbbbbbb", "aa\n\naa\n\nbb"),
            {"max_duplicate_paragraph_chars": 0.3},
            *(
                "gopher_duplicate_paragraph_chars",
                "0.333 of the characters are in paragraphs that stood before, at most 0.3 allowed",
            ),
        ),
        (
            *("a b c d e", "a b c a b"),
            {"max_top_ngram_chars": {2: 0.5}},
            *("gopher_top_2_gram", "0.8 of the characters are in the most frequent 2-grams, at most 0.5 allowed"),
        ),
        (
            *("a b c a b", "a b a b a b"),
            {"max_duplicate_ngram_chars": {2: 0.5}},
            *("gopher_duplicate_2_gram", "0.667 of the characters are in repeated 2-grams, at most 0.5 allowed"),
        ),
    ],
)
def test_each_rule_of_gopher(good: str, bad: str, thresholds: dict[str, Any], rule: str, reason: str) -> None:
    assert gopher(good, **thresholds) is None
    assert gopher(bad, **thresholds) == (rule, reason)
    assert rules_of_gopher(GopherConfig(**(OFF | thresholds))) == (rule,)


def covered(words: list[str], starts: list[int], n: int) -> int:
    return sum(len(words[place]) for place in {start + offset for start in starts for offset in range(n)})


@given(st.lists(st.sampled_from(["a", "bb", "ccc"]), min_size=1, max_size=14), st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_shares_of_ngrams_are_those_of_a_plain_count(words: list[str], n: int) -> None:
    grams = [tuple(words[place : place + n]) for place in range(len(words) - n + 1)]
    total = sum(map(len, words))
    again = [place for place, gram in enumerate(grams) if gram in grams[:place]]
    repeated = covered(words, again, n) / total
    counts = Counter(grams)
    most = max(counts.values(), default=0)
    best = max(
        (gram for gram in counts if counts[gram] == most), key=lambda gram: (len("".join(gram)), -grams.index(gram)), default=()
    )
    top = covered(words, [place for place, gram in enumerate(grams) if gram == best], n) / total if most > 1 else 0.0
    for name, share in (("max_duplicate_ngram_chars", repeated), ("max_top_ngram_chars", top)):
        broken = gopher(" ".join(words), **{name: {n: 0.0}})
        assert (broken is None) == (share == 0.0)
        assert broken is None or broken[1].startswith(f"{share:.3g} of the characters")


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("Home\nThe mill stands by the river.\nMore...", {}, "The mill stands by the river."),
        ("水车在河边转动。\n首页", {}, "水车在河边转动。"),
        ("She said “go to the mill”", {}, "She said “go to the mill”"),
        ("Too few words.", {}, ""),
        ("Too few words.", {"min_words_per_line": 3}, "Too few words."),
        ("Please switch JavaScript on to read.", {}, ""),
        ("Please switch JavaScript on to read.", {"javascript": False}, "Please switch JavaScript on to read."),
        ("one two three four five", {"terminal_punctuation": False}, "one two three four five"),
        ("This site, by the way, uses Cookies.", {}, ""),
        ("This site, by the way, uses Cookies.", {"policies": False}, "This site, by the way, uses Cookies."),
        ("The mill[edit] is old[citation needed] and small.[1][]", {}, "The mill is old and small."),
        ("It is number [1] of the list.", {"citations": False}, "It is number [1] of the list."),
        ("one two three four " + "x" * 1001 + ".", {}, ""),
        ("one two three four " + "x" * 1001 + ".", {"max_word_length": None}, "one two three four " + "x" * 1001 + "."),
        ("", {}, ""),
        ("Teaser text of an article that goes on…", {}, ""),
        ("水车在河边转动……", {}, "水车在河边转动……"),
        ("水" * 1_500 + "。", {}, "水" * 1_500 + "。"),
    ],
)
def test_lines_that_c4_keeps(text: str, options: dict[str, Any], expected: str) -> None:
    assert kept_lines(text, C4Config(**options)) == expected


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("A. B. C.", {}, None),
        ("", {}, ("c4_no_line_left", "no line is a sentence")),
        ("Lorem Ipsum a. B. C.", {}, ("c4_lorem_ipsum", "it has the phrase lorem ipsum")),
        ("if (a) { b. } C. D.", {}, ("c4_curly_bracket", "1 curly brackets, none allowed")),
        ("A. B.", {}, ("c4_too_few_sentences", "2 sentences, at least 3 wanted")),
        ("A. B. C.", {"min_sentences": 5}, ("c4_too_few_sentences", "3 sentences, at least 5 wanted")),
        ("A Darn b. C. D.", {"bad_words": ("darn",)}, ("c4_bad_words", "a bad word at character 2")),
        ("A darning b. C. D.", {"bad_words": ("darn",)}, None),
        ("一二坏词三。四。五。", {"bad_words": ("坏词",)}, ("c4_bad_words", "a bad word at character 2")),
        ("今天天气怎么样?我觉得非常好!是吗?", {}, None),  # half-width marks, as some pages write them
        ("lorem ipsum {", {"lorem_ipsum": False, "curly_bracket": False, "min_sentences": None}, None),
    ],
)
def test_each_rule_of_c4(text: str, options: dict[str, Any], expected: tuple[str, str] | None) -> None:
    config = C4Config(**options)
    broken = first_broken_of_c4(text, config)
    assert (None if broken is None else tuple(broken)) == expected
    assert broken is None or broken.rule in rules_of_c4(config)


def test_a_dropped_text_stays_whole_and_null_is_an_empty_one() -> None:
    step = TextQualityConfig(column="body", c4=C4Config(min_sentences=1))
    judge = judge_of(step)
    kept = judge("Home\nThe mill stands by the river.")
    assert (kept.values, kept.rule) == (("The mill stands by the river.",), None)
    dropped = judge("Home\nNews")
    assert (dropped.values, dropped.rule) == (("Home\nNews",), "c4_no_line_left(body)")
    assert judge(None).values == (None,)
    assert judge(None).rule == "c4_no_line_left(body)"
    assert "c4_no_line_left(body)" in rules_of_text(step)
    both = TextQualityConfig(column="body", gopher=GopherConfig(), c4=C4Config())
    assert judge_of(both)(None).rule == "gopher_too_few_words(body)"
    assert len(rules_of_text(both)) == 22 + 4


def test_film_reviews() -> None:
    """Those of few words, and those of a few lines that trail off…, and no other."""
    judge = judge_of(TextQualityConfig(column="text", gopher=GopherConfig()))
    broken = Counter(judge(text.replace("<br />", "\n")).rule for text in reviews(300))
    assert broken == {None: 278, "gopher_ellipsis_lines(text)": 13, "gopher_too_few_words(text)": 9}


@pytest.mark.parametrize(
    "text", ["a b " * 100_000, "a" * 400_000, "你" * 200_000, "\n" * 400_000, "a\n" * 200_000, "😀 " * 100_000]
)
def test_long_texts_take_bounded_time(text: str) -> None:
    started = time.monotonic()
    gopher(text, max_top_ngram_chars={2: 1.0}, max_duplicate_ngram_chars={10: 1.0}, max_duplicate_lines=1.0)
    kept_lines(text, C4Config())
    assert time.monotonic() - started < 20.0  # a hang, not a speed
