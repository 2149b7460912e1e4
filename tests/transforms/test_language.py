# ruff: noqa: RUF001 (signs of other scripts are meant)
"""Which language a text is in, what has none, and which rows are dropped for it."""

from __future__ import annotations

import time

import pytest

from millrace.config.texts import LanguageConfig
from millrace.transforms.language import Language, known_languages, language_of, why_not
from tests.transforms.real_texts import reviews


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The mill stands by the river and turns all day long.", "en"),
        ("水车在河边日夜不停地转动，人们都喜欢它。", "zh"),
        ("これは日本語の文章です。", "ja"),
        ("한국어로 쓴 문장입니다.", "ko"),
        ("Le moulin se trouve au bord de la rivière.", "fr"),
        ("Die Mühle steht am Fluss und dreht sich den ganzen Tag.", "de"),
        ("Мельница стоит у реки и крутится весь день.", "ru"),
    ],
)
def test_languages(text: str, code: str) -> None:
    found = language_of(text)
    assert found.code == code
    assert 0.9 <= found.probability <= 1.0
    assert language_of(text) == found


@pytest.mark.parametrize("text", [None, "", " \n", "12 3.5 %", "😀😀", "\ud800"])
def test_a_text_without_a_letter_has_none(text: str | None) -> None:
    assert language_of(text) == Language("und", 0.0)


def test_surrogates_and_long_texts() -> None:
    assert language_of("The mill \ud83d\ude00 stands \ud800 by the river and turns.").code == "en"
    started = time.monotonic()
    assert language_of("The mill stands by the river. " * 40_000).code == "en"
    assert language_of("the mill " * 12_000, max_chars=100_000).code == "en"  # more than 65,535 of a feature would wrap in uint16
    assert time.monotonic() - started < 20.0
    assert language_of("The mill stands by the river." + "水车" * 1000, max_chars=29).code == "en"


def test_why_a_row_is_dropped() -> None:
    config = LanguageConfig(column="t", languages=("en", "zh"), min_probability=0.5)
    assert why_not(Language("en", 0.5), config) is None
    assert why_not(Language("zh", 0.9), config) is None
    assert why_not(Language("fr", 0.98), config) == "language fr (0.98), not en or zh"
    assert why_not(Language("en", 0.31), config) == "language en with probability 0.31, at least 0.5 wanted"
    assert why_not(Language("und", 0.0), LanguageConfig(column="t", languages=("und",))) is None


def test_known_languages() -> None:
    assert len(known_languages()) == 97
    assert {"en", "zh", "ja", "ko"} <= set(known_languages())


def test_film_reviews_are_english() -> None:
    codes = [language_of(text).code for text in reviews(200)]
    assert codes.count("en") >= 198
