"""Sections of tokens, blocks and windows: Keras' defaults, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from millrace.config.models import FeatureConfig
from millrace.config.tokens import BlocksConfig, WordsFeature
from tests.factories import make_pipeline

tokens = TypeAdapter(FeatureConfig)


def test_words_have_the_defaults_of_keras() -> None:
    feature = tokens.validate_python({"column": "text", "encode": "words"})
    assert isinstance(feature, WordsFeature)
    assert feature.filters == '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
    assert (feature.lower, feature.split, feature.num_words, feature.oov_token) == (True, " ", None, None)
    assert (feature.padding, feature.truncating, feature.pad_id, feature.length) == ("pre", "pre", 0, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encode": "words", "vocab_size": 500}, "Extra inputs are not permitted"),
        ({"encode": "bpe", "num_words": 500}, "Extra inputs are not permitted"),
        ({"encode": "bpe", "vocab_size": 299}, "greater than or equal to 300"),
        ({"encode": "characters", "num_words": 1}, "greater than or equal to 2"),
        ({"encode": "letters"}, "does not match any of the expected tags"),
    ],
)
def test_options_that_an_encoding_does_not_have_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        tokens.validate_python({"column": "text", **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"length": 4, "stride": 5}, "stride 5 is above length 4: tokens between blocks would be lost"),
        ({"length": 4, "order": "given"}, "order: given and order_by go together: give both, or neither"),
        ({"length": 4, "order_by": ["line"]}, "order: given and order_by go together: give both, or neither"),
        ({"length": 4, "group_by": ["file"]}, "group_by goes with order: given"),
    ],
)
def test_blocks_that_do_not_fit_together_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BlocksConfig.model_validate(values)


WORDS = {"column": "text", "encode": "words", "length": 4}


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([WORDS], "a model takes one image, or numbers and one-hots: tokens and ids end at gold for now"),
        (
            [{"column": "size", "encode": "zscore"}, WORDS],
            "a model takes one image, or numbers and one-hots: tokens and ids end at gold for now",
        ),
        (
            [WORDS, {"column": "text", "encode": "characters"}],
            "two features make gold's column text of text: copy it by a step of clean that has `into`, and take the copy",
        ),
    ],
)
def test_features_that_no_model_or_no_column_of_gold_takes_are_refused(features: list[Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_pipeline(features=features)


def test_a_text_may_be_tokens_and_a_category() -> None:
    config = make_pipeline(features=[WORDS, {"column": "text", "encode": "one_hot"}], model=None)
    assert len(config.token_features) == len(config.fitted_features) == 1
