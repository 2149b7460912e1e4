"""How many hashes a threshold asks for."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from millrace.config.near_duplicates import NearDuplicatesConfig, bands_for, candidate_probability


@pytest.mark.parametrize(("threshold", "shape"), [(0.5, (293, 6)), (0.7, (37, 6)), (0.8, (16, 6)), (0.95, (4, 5)), (1.0, (1, 4))])
def test_the_fewest_hashes_that_find_nearly_all(threshold: float, shape: tuple[int, int]) -> None:
    assert NearDuplicatesConfig(column="text", threshold=threshold).shape == bands_for(threshold) == shape
    bands, rows = shape
    assert candidate_probability(threshold, bands=bands, rows_per_band=rows) >= 0.99
    assert candidate_probability(threshold / 2, bands=bands, rows_per_band=rows) <= 0.1
    assert bands == 1 or candidate_probability(threshold, bands=bands - 1, rows_per_band=rows) < 0.99


def test_the_curve_of_datatrove() -> None:
    assert candidate_probability(0.8, bands=14, rows_per_band=8) == pytest.approx(0.924, abs=5e-4)


def test_what_is_given_stands_and_half_is_refused() -> None:
    given = NearDuplicatesConfig(column="text", bands=20, rows_per_band=5)
    assert (given.shape, given.rule) == ((20, 5), "near_duplicates(text)")
    with pytest.raises(ValidationError, match="bands and rows_per_band go together: give both, or neither"):
        NearDuplicatesConfig(column="text", bands=20)
