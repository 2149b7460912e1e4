"""What scikit-learn, Keras and plain counts say of a shipped pipeline's silver, beside what was fitted and what gold has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, RobustScaler, StandardScaler

from millrace.config.encoding import (
    LogFeature,
    MinmaxFeature,
    NumberFeatures,
    OneHotFeature,
    RobustFeature,
    ZscoreFeature,
)
from millrace.config.tokens import CharactersFeature, JiebaFeature, Tokens, WordsFeature
from tests.flows.encoded import Encoded

_STRATEGIES = {"mean": "mean", "median": "median", "mode": "most_frequent"}
_QUANTILES = 5e-3
"""Ours are within 0.1 % of the value."""


def check_peers(encoded: Encoded) -> None:
    """Numbers and one-hots of gold, block by block, against scikit-learn fitted on the train rows of silver."""
    if encoded.state.features is None:
        return
    features = encoded.packed("features", "<f4")
    place = 0
    for feature in encoded.config.fitted_features:
        if isinstance(feature, NumberFeatures):
            place = _check_numbers(encoded, feature, features, place)
        else:
            assert isinstance(feature, OneHotFeature), "give the shipped pipeline's encoder a peer here"
            for column in feature.columns:
                expected = _one_hot(encoded, feature, column)
                np.testing.assert_array_equal(features[:, place : place + expected.shape[1]], expected, err_msg=column)
                place += expected.shape[1]
    assert place == features.shape[1]


def _check_numbers(encoded: Encoded, feature: Any, features: np.ndarray, place: int) -> int:
    """Returns where the next feature begins."""
    raw = np.column_stack([encoded.silver.column(name).to_numpy().astype(float) for name in feature.columns])  # (rows, n)
    train = raw[encoded.is_train]
    if isinstance(feature, LogFeature):
        log = FunctionTransformer(lambda x: np.sign(x) * np.log1p(np.abs(x)))
        scaler: Any = StandardScaler() if feature.then == "zscore" else FunctionTransformer()
        scaler.fit(log.transform(train))
        scale = lambda x: scaler.transform(log.transform(x))  # noqa: E731
    else:
        scaler = _scaler_of(feature).fit(train)
        scale = scaler.transform
    strategy: Any = _STRATEGIES.get(str(feature.impute), "constant")
    imputer = SimpleImputer(strategy=strategy, fill_value=feature.impute if strategy == "constant" else None).fit(train)
    expected, missing = scale(imputer.transform(raw)), np.isnan(raw)
    found = features[:, place : place + raw.shape[1]]
    tolerance = _QUANTILES if isinstance(feature, RobustFeature) else 1e-5
    np.testing.assert_allclose(found[~missing], expected[~missing], rtol=tolerance, atol=tolerance)
    tolerance = _QUANTILES if isinstance(feature, RobustFeature) or feature.impute == "median" else 1e-5
    np.testing.assert_allclose(found[missing], expected[missing], rtol=tolerance, atol=tolerance)
    place += raw.shape[1]
    if feature.indicator:
        np.testing.assert_array_equal(features[:, place : place + raw.shape[1]], missing)
        place += raw.shape[1]
    return place


def _scaler_of(feature: Any) -> Any:
    if isinstance(feature, ZscoreFeature):
        return StandardScaler()
    if isinstance(feature, MinmaxFeature):
        return MinMaxScaler(feature.range)
    if isinstance(feature, RobustFeature):
        low, high = feature.quantiles
        return RobustScaler(quantile_range=(100 * low, 100 * high))
    return FunctionTransformer()


def _one_hot(encoded: Encoded, feature: OneHotFeature, column: str) -> np.ndarray:
    """(rows, places): the vocabulary by a plain count of the train rows, the places by scikit-learn, then the slots."""
    values = encoded.silver.column(column).to_pylist()
    train = [value for value, is_train in zip(values, encoded.is_train, strict=True) if is_train and value is not None]
    counts = Counter(train)
    known = sorted((value for value in counts if counts[value] >= feature.min_count), key=lambda value: (-counts[value], value))
    order = list(map(str, known[: feature.max_size]))
    texts = np.array(["\\N" if value is None else str(value) for value in values], object)[:, None]
    encoder = OneHotEncoder(categories=[order], handle_unknown="ignore", sparse_output=False, dtype=np.float32)
    columns = [encoder.fit(texts[:0] if len(texts) == 0 else np.array(order, object)[:, None]).transform(texts)]
    if feature.unknown == "slot":
        columns.append(np.array([value is not None and str(value) not in set(order) for value in values], np.float32)[:, None])
    if feature.missing == "slot" and encoded.context.silver.columns[column].nullable:
        columns.append(np.array([value is None for value in values], np.float32)[:, None])
    return np.concatenate(columns, axis=1)


def tokens_of(encoded: Encoded, feature: Tokens, texts: Sequence[str], directory: Path) -> list[list[str]]:
    """Each text's tokens as Keras, jieba or Python cut it, after a check that the vocabulary is a plain count of the train rows'.

    Nothing for BPE and WordPiece, which have no such tokens.
    """
    cut = _cutter_of(feature, directory)
    if cut is None or not isinstance(feature, WordsFeature | CharactersFeature | JiebaFeature):
        return []
    tokens = [cut(text) for text in texts]
    counts = Counter(token for each, is_train in zip(tokens, encoded.is_train, strict=True) if is_train for token in each)
    boundary = encoded.config.blocks.boundary_token if encoded.config.blocks else None
    special = [token for token in (feature.oov_token, boundary) if token is not None]
    frequent = [token for token in counts if counts[token] >= feature.min_frequency and token not in special]
    order = special + sorted(frequent, key=lambda token: (-counts[token], token))
    saved = encoded.state.tokenizers[feature.column]
    assert list(saved.tokens) == order[: None if feature.num_words is None else feature.num_words - 1]
    return tokens


def _cutter_of(feature: Tokens, directory: Path) -> Any:
    if isinstance(feature, WordsFeature):
        from keras.src.legacy.preprocessing.text import text_to_word_sequence

        return lambda text: text_to_word_sequence(text, filters=feature.filters, lower=feature.lower, split=feature.split)
    if isinstance(feature, CharactersFeature):
        return lambda text: list(text.lower() if feature.lower else text)
    if isinstance(feature, JiebaFeature):
        import jieba

        jieba.setLogLevel("ERROR")
        jieba.dt.tmp_dir = str(directory)
        return lambda text: [word for word in jieba.cut(text, HMM=feature.hmm) if not word.isspace()]
    return None
