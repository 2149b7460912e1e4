"""The split section: each method as it is written, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from millrace.config.load import hash_of, validate
from millrace.config.models import PipelineConfig
from millrace.config.splitting import GivenSplit, HashSplit, SplitConfig, SplitRule, TimeSplit
from millrace.errors import ConfigError
from tests.factories import make_pipeline, pipeline_values

SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}


def split(values: dict[str, Any]) -> SplitConfig:
    return make_pipeline(split=values).split


def test_hash_is_the_method_where_none_is_named() -> None:
    plain, named = split({"key": ["id"], "fractions": SHARES}), split({"method": "hash", "key": ["id"], "fractions": SHARES})
    assert isinstance(plain, HashSplit)
    assert plain == named
    # What a step's key is made of: a hash split's must stay what it was, or all that stands is made anew.
    assert hash_of(plain) == hash_of(
        {"method": "hash", "key": ["id"], "seed": 0, "fractions": SHARES, "test": None, "validation": None}
    )


def test_values_are_texts_and_lists_may_be_single() -> None:
    config = split({"method": "given", "column": "id", "names": {"train": [0, 1], "test": True}})
    assert isinstance(config, GivenSplit)
    assert config.names == {"train": ("0", "1"), "test": ("true",)}
    assert config.key == ()
    assert split({"method": "given", "column": "id", "test": {"where": "id = 1"}}).test is not None


@pytest.mark.parametrize("cuts", [{"test": "2020-01-01"}, {"validation": 2013, "test": 2014}])
def test_cuts(cuts: dict[str, Any]) -> None:
    assert isinstance(split({"method": "time", "column": "id", "cuts": cuts}), TimeSplit)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"method": "hsah", "key": ["id"], "fractions": SHARES},
            "expected split.method in x.yaml to be 'hash', 'stratified', 'group', 'time', 'given' or 'k_fold'; found 'hsah'. "
            "Did you mean 'hash'?",
        ),
        (
            {"method": "group", "key": ["id"], "group": ["id"], "fractions": SHARES},
            "expected known keys in x.yaml; found 'split.key'. Known: fractions, group, method, seed, test, validation.",
        ),
        (
            {"method": "group", "group": ["id"], "fractions": {"train": 0.5}},
            "expected a valid split in x.yaml; found fractions add up to 0.5, and must add up to 1. Mend it there.",
        ),
        (
            {"key": ["id"], "fractions": SHARES, "test": {"where": "id = 1"}},
            "expected a valid split in x.yaml; found test has both a rule and a fraction; keep one of them. Mend it there.",
        ),
        (
            {"key": ["id"], "fractions": {"train": 1}, "test": {"where": "id < RAND()"}},
            "expected a valid split.test.where in x.yaml; found a condition with RAND says another thing of a row at "
            "another time; say it by the row's columns. Mend it there.",
        ),
        (
            {"method": "stratified", "key": ["id"], "column": "digit", "fractions": SHARES, "strata": {3: {"test": 1}}},
            "expected a valid split in x.yaml; found strata.3.train must be above 0. Mend it there.",
        ),
        (
            {"method": "time", "column": "day", "fractions": SHARES},
            "expected a valid split in x.yaml; found fractions of a split by time would move old rows when rows are added; give "
            "cuts. Mend it there.",
        ),
        (
            {"method": "time", "column": "day", "cuts": {"validation": "2021-01-01", "test": "2020-01-01"}},
            "expected a valid split in x.yaml; found test begins after validation, which begins at 2021-01-01, not at "
            "2020-01-01. Mend it there.",
        ),
        (
            {"method": "time", "column": "day", "cuts": {"validation": 5, "test": "2020-01-01"}},
            "expected a valid split in x.yaml; found cuts are dates and timestamps, or numbers, not both. Mend it there.",
        ),
        (
            {"method": "time", "column": "day", "cuts": {"test": 5}, "test": {"where": "a"}},
            "expected a valid split in x.yaml; found test has both a rule and a cut; keep one of them. Mend it there.",
        ),
        (
            {"method": "given", "column": "id", "names": {"train": ["a"], "test": ["b", "a"]}},
            "expected a valid split in x.yaml; found names gives 'a' to two splits. Mend it there.",
        ),
        (
            {"method": "given", "column": "id", "names": {"test": ["b", "a"]}},
            "expected a valid split in x.yaml; found names.train needs at least one value. Mend it there.",
        ),
        (
            {"method": "k_fold", "key": ["id"], "k": 3, "fold": 3},
            "expected a valid split in x.yaml; found fold is one of 0 to 2, not 3. Mend it there.",
        ),
        (
            {"method": "k_fold", "key": ["id"], "k": 3, "fold": 0, "validation": {"where": "a"}},
            "expected a valid split in x.yaml; found validation has both a rule and a fold; keep one of them. Mend it there.",
        ),
    ],
)
def test_what_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(PipelineConfig, pipeline_values(split=values), origin="x.yaml")
    assert str(caught.value) == f"config: {message}"


def test_columns_and_texts_that_are_called_like_functions_are_fine() -> None:
    where = "name = 'now()' OR brand = 'x' OR uuid = 'y' OR unix_timestamp(day) > random"
    assert split({"key": ["id"], "fractions": {"train": 1}, "test": {"where": where}}).test is not None
    for name in ("Current_Date", "unix_timestamp()", "uuid ()"):
        with pytest.raises(ValidationError, match=rf"a condition with {name.rstrip('() ')} says another thing"):
            SplitRule(where=f"day < {name}")
