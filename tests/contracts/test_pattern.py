"""Patterns: what is taken compiles in Java and means the same there; what only one of the two languages knows is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from millrace.contracts.pattern import check_pattern

TOKENS = (
    list("abz09_-+*?.|^$()[]{},:=!<>&~ \\")
    + [rf"\{letter}" for letter in ("d", "w", "s", ".", "\\", "b", "n", "x41", "u00e9", "1", "z", "Z", "Q", "E", "h", "v", "R")]
    + [r"\p{L}", r"\P{Lu}", r"\p{IsHan}", "(?:", "(?=", "(?!", "(?<=", "(?i)", "(?P<a>", "(?<a>", "(?>"]
    + ["[a-z]", "[^0-9]", "[a&&b]", "[[a]]", "{2}", "{1,3}", "{,2}", "++", "*?", "[\\d-]", "[]a]", "^("]
)


@pytest.mark.parametrize(
    "pattern",
    [
        r"[A-Z]{2}\d{3,5}",
        r"[^@\s]+@[^@\s]+\.[a-z]{2,}",
        r"(?:\p{Lu}\p{Ll}*[ -]?)+",
        r"[\p{IsHan}\u3000-\u303f]+",
        r"(?i)yes|no",
        r"(a)\1*+",
        r"(?<!x)a{2}",
    ],
)
def test_patterns_that_are_taken(pattern: str, spark: SparkSession) -> None:
    check_pattern(pattern)
    java = spark._jvm.java.util.regex.Pattern  # type: ignore[union-attr]
    assert java.compile(pattern).pattern() == pattern


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "the pattern ( is no regular expression: missing ), unterminated subpattern at position 0"),
        ("a**", "the pattern a** is no regular expression: multiple repeat at position 2"),
        ("[z-a]", "the pattern [z-a] is no regular expression: bad character range z-a at position 1"),
        (r"\p{Lx}", r"the pattern \p{Lx} has at character 1 what Java and Python do not read alike; write it out"),
        ("a{", "the pattern a{ has at character 2 what Java and Python do not read alike; write it out"),
        ("a{,3}", "the pattern a{,3} has at character 2 what Java and Python do not read alike; write it out"),
        ("(?P<a>b)", "the pattern (?P<a>b) has at character 1 what Java and Python do not read alike; write it out"),
        ("[a-z&&[b]]", "the pattern [a-z&&[b]] has at character 5 what Java and Python do not read alike; write it out"),
        ("[]a]", "the pattern []a] has at character 1 what Java and Python do not read alike; write it out"),
        ("[a", "the pattern [a has at character 1 what Java and Python do not read alike; write it out"),
        (r"a\Z", r"the pattern a\Z has at character 2 what Java and Python do not read alike; write it out"),
        ("a\\", "the pattern a\\ has at character 2 what Java and Python do not read alike; write it out"),
    ],
)
def test_patterns_that_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_pattern(pattern)
    assert str(caught.value) == message


@settings(max_examples=600, deadline=None)
@given(
    tokens=st.lists(st.sampled_from(TOKENS), min_size=1, max_size=6), texts=st.lists(st.text("abz0-_ \n", max_size=4), max_size=2)
)
def test_what_is_taken_means_the_same_in_java(tokens: list[str], texts: list[str], spark: SparkSession) -> None:
    pattern = "".join(tokens)
    try:
        check_pattern(pattern)
    except ValueError:
        return
    compiled = spark._jvm.java.util.regex.Pattern.compile(pattern)  # type: ignore[union-attr]
    if r"\p" in pattern.lower():
        return
    try:
        python = re.compile(rf"(?:{pattern})\Z", re.ASCII)
    except re.error:  # a flag that has to stand first
        return
    for text in texts:
        whole = compiled.matcher(text).matches()
        assert whole == (python.match(text) is not None), text
