"""Near-duplicates: what counts as near, and how many hashes it takes to find nearly all of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from millrace.config.section import Column, Positive, Section

MIN_RECALL = 0.99
"""The least chance, at the threshold itself, that a pair becomes a candidate."""
MAX_CANDIDATES_AT_HALF = 0.1
"""The greatest chance that a pair of half the threshold's similarity becomes one: each costs a comparison."""
_MAX_ROWS = 16


class NearDuplicatesConfig(Section):
    """Of texts that share most of their n-grams (Jaccard similarity >= threshold) the earliest stays.

    Nearness carries on: where a is near b and b near c, one of the three stays. Case and punctuation count: fold them before.
    """

    column: Column
    """The text. NULL, and a text of white space alone, is near nothing."""
    threshold: float = Field(default=0.8, ge=0.5, le=1.0)
    """Of the n-grams that either text has, the share that both have."""
    ngram: Positive = Field(default=5, le=64)
    """Tokens in a row that make one n-gram. A text of fewer tokens is one n-gram as a whole."""
    unit: Literal["words", "characters", "auto"] = "auto"
    """What a token is. words: what stands between white space. characters: every character but white space. auto: words, but
    characters of scripts that are written without spaces (Han, kana, Thai, Lao, Khmer, Burmese) are tokens of their own."""
    bands: Positive | None = Field(default=None, le=1000)
    """Two texts are compared where one of so many bands of hashes is equal. By default as many as find at least 99 % of the
    pairs at the threshold."""
    rows_per_band: Positive | None = Field(default=None, le=_MAX_ROWS)
    """Hashes in a band. More of them mean fewer comparisons, and more bands for the same recall."""
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _bands_with_rows(self) -> NearDuplicatesConfig:
        if (self.bands is None) != (self.rows_per_band is None):
            raise ValueError("bands and rows_per_band go together: give both, or neither (they then follow from the threshold)")
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """Bands and rows per band: those given, or those that the threshold asks for."""
        if self.bands is None or self.rows_per_band is None:
            return bands_for(self.threshold)
        return self.bands, self.rows_per_band

    @property
    def rule(self) -> str:
        """The rule that takes a row."""
        return f"near_duplicates({self.column})"


def candidate_probability(similarity: float, *, bands: int, rows_per_band: int) -> float:
    """The S-curve of banded MinHash: how likely a pair of that Jaccard similarity shares a band.

    Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4.
    """
    return 1.0 - float((1.0 - similarity**rows_per_band) ** bands)


def bands_for(threshold: float) -> tuple[int, int]:
    """(bands, rows per band) with the fewest hashes for which both limits hold; where none does, the longest bands."""
    for rows in range(1, _MAX_ROWS + 1):
        bands = 1
        while candidate_probability(threshold, bands=bands, rows_per_band=rows) < MIN_RECALL:
            bands += 1
        if candidate_probability(threshold / 2, bands=bands, rows_per_band=rows) <= MAX_CANDIDATES_AT_HALF:
            return bands, rows
    return bands, rows
