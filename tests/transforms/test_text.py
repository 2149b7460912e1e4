# ruff: noqa: RUF001 (signs of other scripts are meant)
"""What makes texts uniform: each step on its cases, on every kind of odd text, and in bounded time."""

from __future__ import annotations

import time
import unicodedata
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.config.texts import ReplaceConfig, TextAction, TextConfig
from millrace.transforms.text import act, clean_text, replaced, sound

ACTIONS = get_args(TextAction)


@pytest.mark.parametrize(
    ("step", "text", "expected"),
    [
        ("mojibake", "schÃ¶n, â€œquoteâ€\x9d", "schön, “quote”"),
        ("mojibake", "ä½\xa0å¥½", "你好"),
        ("mojibake", "ﬁne Ａ &amp; “x”\r\n", "ﬁne Ａ &amp; “x”\r\n"),  # neither ligature, width, entity, quote nor line end
        ("nfkc", "ﬁ ① ｶﾞ ，Å", "fi 1 ガ ,Å"),
        ("nfc", "e\u0301 ﬁ ①", "é ﬁ ①"),
        ("width", "Ｈｅｌｌｏ　１２３％，世界！（ｘ）。ｶﾞ", "Hello 123%，世界！（x）。ｶﾞ"),
        ("punctuation", "你好，世界！（一）：；？～。、Ａ", "你好,世界!(一):;?~。、Ａ"),
        ("katakana", "ｶﾞｷﾞﾊﾟ｡ Ａ ガ", "ガギパ。 Ａ ガ"),
        ("control", "a\x00b\x1b[0m\u200b\ufeffc\td\ne\x85f\u202eg", "ab[0mc\td\ne\nfg"),
        ("control", "👨\u200d👩\u200d👧 نمی\u200cخواهم ❤\ufe0f", "👨\u200d👩\u200d👧 نمی\u200cخواهم ❤\ufe0f"),
        ("spaces", "  a\u3000b\xa0\r\n\tc ", "a b c"),
        ("lines", " a  b \r\nc\r\r\n\n\n d\u2028e \n\n", "a b\nc\n\nd\ne"),
        ("lower", "İSTANBUL ΣΑΣ ÀÉ", "i\u0307stanbul σας àé"),
        ("tags", "a<br>b", "a\nb"),
        ("html", "no markup, 1 < 2 & 3", "no markup, 1 < 2 & 3"),
    ],
)
def test_each_step(step: TextAction, text: str, expected: str) -> None:
    assert act(text, [step]) == expected


@pytest.mark.parametrize("step", ACTIONS)
def test_null_empty_and_plain_text(step: TextAction) -> None:
    config = TextConfig(column="a", steps=(step,))
    assert clean_text(None, config) is None
    assert clean_text("", config) == ""
    assert clean_text("plain text", config) == "plain text"


@pytest.mark.parametrize("step", [step for step in ACTIONS if step != "html"])
@given(text=st.text(st.characters(), max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_text_comes_out_sound(step: TextAction, text: str) -> None:
    """Surrogates too; and a second time changes nothing, but for the two that take one layer off."""
    once = act(sound(text), [step])
    assert once.encode().decode() == once
    assert act(once, [step]) == once or step in ("tags", "mojibake", "control")


def test_surrogates() -> None:
    assert sound("\ud83d\ude00 \ud800 a \udc00") == "😀 \ufffd a \ufffd"
    assert clean_text("\ud83d\ude00\ud800", TextConfig(column="a", steps=("spaces",))) == "😀\ufffd"


def test_order_replacement_and_cut() -> None:
    replace = (ReplaceConfig(pattern=r"(\d+) ?km", by=r"\1 kilometres"), ReplaceConfig(pattern=r"\p{Han}", by=" "))
    assert clean_text("Ｘ 12km 好y", TextConfig(column="a", steps=("width", "lower"), replace=replace)) == "x 12 kilometres  y"
    assert clean_text("你好😀吗", TextConfig(column="a", max_length=3)) == "你好😀"
    assert act("&lt;b&gt; x<br>y", ["tags", "spaces"]) == "<b> x y"


def test_patterns_that_hang_others_do_not_hang() -> None:
    assert replaced("a" * 100_000 + "!", "(a+)+$", "x") == "a" * 100_000 + "!"
    assert replaced("aaa", "(a|aa)+$", "x") == "x"


def test_a_bad_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="'\\(a' by '' is no replacement in RE2's syntax"):
        ReplaceConfig(pattern="(a")
    with pytest.raises(ValueError, match="is no replacement"):
        ReplaceConfig(pattern="a", by=r"\1")


def test_marks_that_sort_in_quadratic_time_are_cut() -> None:
    once = act("a" + "\u0300\u0316" * 200_000 + "b", ["nfc"])
    assert len(once) == 31
    thai = "ที่นี่" * 100
    assert act(thai, ["nfc"]) == unicodedata.normalize("NFC", thai)


@pytest.mark.parametrize("step", [step for step in ACTIONS if step != "html"])
def test_a_megabyte_takes_bounded_time(step: TextAction) -> None:
    texts = ["word " * 200_000, "你" * 400_000, "\u0300\u0316" * 200_000, "â€œ" * 130_000, "<" * 10**6, " " * 10**6]
    started = time.monotonic()
    for text in texts:
        act(text, [step])
    assert time.monotonic() - started < 30.0  # a hang, not a speed: a second or so on a quiet machine
