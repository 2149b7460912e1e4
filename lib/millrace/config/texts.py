"""The cleaning steps of texts: their options and thresholds."""

from __future__ import annotations

from typing import Annotated, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, StringConstraints, model_validator

from millrace.config.section import Column, Fraction, Positive, Section

TextAction = Literal[
    "html", "tags", "mojibake", "nfkc", "nfc", "width", "punctuation", "katakana", "control", "spaces", "lines", "lower"
]
Verbatim = Annotated[str, StringConstraints(strip_whitespace=False)]
"""A text whose spaces at its ends count."""
PiiKind = Literal["email", "phone", "ip", "chinese_id", "card", "iban"]


class ReplaceConfig(Section):
    """Every match of a pattern is replaced."""

    pattern: Verbatim = Field(min_length=1)
    r"""In RE2's syntax (no look-around, no back-references), whose time is linear in the text; \d and \s are ASCII's."""
    by: Verbatim = ""
    r"""\1 stands for the first group."""

    @model_validator(mode="after")
    def _pattern_compiles(self) -> ReplaceConfig:
        try:
            pc.replace_substring_regex(pa.scalar(""), pattern=self.pattern, replacement=self.by)
        except pa.ArrowInvalid as error:
            raise ValueError(f"'{self.pattern}' by '{self.by}' is no replacement in RE2's syntax: {error}") from None
        return self


class TextConfig(Section):
    """A text is mended and made uniform."""

    column: Column
    steps: tuple[TextAction, ...] = ()
    """In their order. html: the main text of a web page, without navigation and other boilerplate (trafilatura); tags: markup
    goes, all text stays; mojibake: text that was decoded wrongly (ftfy); nfkc, nfc: Unicode's forms (nfkc also makes Chinese
    punctuation half-width); width: full-width ASCII letters, digits and signs become half-width, Chinese punctuation stays;
    punctuation: its full-width signs become half-width too; katakana: half-width katakana become full-width; control: control
    and invisible characters go; spaces: runs of white space become one space; lines: the same within lines, which stay; lower:
    lower case, the same in every locale."""
    replace: tuple[ReplaceConfig, ...] = ()
    """After the steps; where the order matters, write two text steps."""
    max_length: Positive | None = None
    """Characters (code points); the rest is cut off at the end of all else."""
    into: Column | None = None
    """The column that gets the result: a new one, or one of the contract's; by default the text's own."""

    @model_validator(mode="after")
    def _does_something(self) -> TextConfig:
        if not self.steps and not self.replace and self.max_length is None:
            raise ValueError("text takes steps, replace or max_length, and none is given")
        if len(set(self.steps)) != len(self.steps):
            raise ValueError("text has a step twice; once is enough")
        return self


class LanguageConfig(Section):
    """Which language a text is in (py3langid, 97 languages); `und` where it has no letter."""

    column: Column
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes that stay; others are dropped by rule language(COLUMN). None: all stay."""
    min_probability: Fraction = 0.0
    """A text of these languages that is less certain is dropped as well."""
    into: Column | None = None
    """A column for the language."""
    probability_into: Column | None = None
    """A column for its probability, double, rounded to six digits."""
    max_chars: int = Field(default=5_000, gt=0, le=100_000)
    """How much of a text is looked at, from its start."""

    @model_validator(mode="after")
    def _does_something(self) -> LanguageConfig:
        if not self.languages and self.min_probability == 0.0 and self.into is None and self.probability_into is None:
            raise ValueError("language takes languages, min_probability, into or probability_into, and none is given")
        if self.into is not None and self.into == self.probability_into:
            raise ValueError(f"language has one column, {self.into}, for two things")
        return self


class GopherConfig(Section):
    """The rules of Rae et al. 2021 (Gopher), tables A1 and section A.1.1. A threshold of null turns its rule off.

    Words stand between white space, and each Han character or kana counts as one. Where these are most of a text's letters, mean
    word length and stop words say nothing and are passed over. Shares of characters count those of words, without white space.
    """

    min_words: int | None = Field(default=50, ge=0)
    max_words: int | None = Field(default=100_000, gt=0)
    min_mean_word_length: float | None = Field(default=3.0, ge=0.0)
    max_mean_word_length: float | None = Field(default=10.0, gt=0.0)
    max_symbol_ratio: float | None = Field(default=0.1, ge=0.0)
    """Of # and of ellipses, each over words."""
    max_bullet_lines: Fraction | None = 0.9
    max_ellipsis_lines: Fraction | None = 0.3
    min_alphabetic_words: Fraction | None = 0.8
    """Share of words with a letter in them."""
    min_stop_words: int | None = Field(default=2, ge=0)
    """How many of `stop_words` stand in the text."""
    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")
    max_duplicate_lines: Fraction | None = 0.3
    max_duplicate_paragraphs: Fraction | None = 0.3
    max_duplicate_line_chars: Fraction | None = 0.2
    max_duplicate_paragraph_chars: Fraction | None = 0.2
    max_top_ngram_chars: dict[Positive, Fraction] = Field(default={2: 0.20, 3: 0.18, 4: 0.16})
    """Words of the n-gram: share of characters in the most frequent one, where it is there more than once."""
    max_duplicate_ngram_chars: dict[Positive, Fraction] = Field(default={5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10})
    """Words of the n-gram: share of characters in n-grams that stood in the text before; none is counted twice."""

    @model_validator(mode="after")
    def _has_so_many_stop_words(self) -> GopherConfig:
        if self.min_stop_words is not None and self.min_stop_words > len(set(self.stop_words)):
            raise ValueError(f"min_stop_words is {self.min_stop_words}, and there are {len(set(self.stop_words))} stop_words")
        return self


class C4Config(Section):
    """The rules of Raffel et al. 2020 (C4), section 2.2. Lines that break a rule go from the text; then the page is judged."""

    terminal_punctuation: bool = True
    """Lines stay that end with a mark that ends a sentence, also a Chinese one, or with a closing quotation mark."""
    min_words_per_line: int | None = Field(default=5, ge=0)
    """Lines with fewer words go; each Han character or kana is a word."""
    max_word_length: int | None = Field(default=1000, gt=0)
    """Lines with a longer word go. This and the next but one: as TensorFlow Datasets builds C4."""
    javascript: bool = True
    """Lines with the word Javascript go."""
    policies: bool = True
    """Lines that speak of terms of use, a privacy or cookie policy, or the use of cookies go."""
    citations: bool = True
    """Wikipedia's marks ([1], [edit], [citation needed]) go from lines."""
    min_sentences: int | None = Field(default=3, ge=0)
    """Pages with fewer sentences are dropped. The paper's first version said 5."""
    lorem_ipsum: bool = True
    """Pages with this phrase are dropped."""
    curly_bracket: bool = True
    """Pages with { are dropped."""
    bad_words: tuple[str, ...] = ()
    """Pages with one of these as a whole word (for Han characters and kana: anywhere) are dropped."""


class TextQualityConfig(Section):
    """Rows whose text breaks a rule are dropped by it; the reason has the figure."""

    column: Column
    gopher: GopherConfig | None = None
    c4: C4Config | None = None
    """After gopher. It takes lines out of the text."""

    @model_validator(mode="after")
    def _does_something(self) -> TextQualityConfig:
        if self.gopher is None and self.c4 is None:
            raise ValueError("quality takes gopher, c4 or both ({} for all defaults), and none is given")
        return self


class MaskConfig(Section):
    """What identifies people is replaced by <EMAIL>, <PHONE>, <IP>, <ID>, <CARD>, <IBAN>, where its check digits are right."""

    column: Column
    kinds: tuple[PiiKind, ...] = Field(default=("email", "phone", "ip", "chinese_id", "card", "iban"), min_length=1)
    region: str | None = Field(default=None, pattern="^[A-Z]{2}$")
    """The country (ISO 3166) whose national phone numbers are found too; without it only those that start with +."""
    into: Column | None = None
    """The column that gets the result, by default the text's own."""
