"""Fitted features: what scikit-learn says, no leakage, and clear errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from pydantic import ValidationError
from pyspark.sql import SparkSession
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, RobustScaler, StandardScaler

from millrace.config.encoding import ZscoreFeature
from millrace.contracts.features import FittedFeatures, VocabularyBlock
from millrace.contracts.spark import struct_type
from millrace.errors import ConfigError
from millrace.fit.collect import statistics_of_train
from millrace.fit.features import fit_features, needs_of
from millrace.transforms.encoding import encode_batch
from tests import feature_tables as tables

RANDOM = np.random.default_rng(0)
COLUMNS = {
    "gauss": RANDOM.normal(5, 3, 400),
    "great": 1e9 + RANDOM.normal(size=400),
    "whole": RANDOM.integers(-50, 50, 400).astype(float),
    "constant": np.full(400, 0.1),
}
MATRIX = np.column_stack(list(COLUMNS.values()))  # (400, 4)


@pytest.mark.parametrize(
    ("options", "peer", "tolerance"),
    [
        ({"encode": "zscore"}, StandardScaler(), 1e-6),
        ({"encode": "minmax"}, MinMaxScaler(), 1e-6),
        ({"encode": "minmax", "range": [-2, 3]}, MinMaxScaler((-2, 3)), 1e-6),
        ({"encode": "robust"}, RobustScaler(), None),  # quantiles are not exact
    ],
    ids=["zscore", "minmax", "minmax with a range", "robust"],
)
def test_numbers_as_scikit_learn_has_them(options: dict[str, Any], peer: Any, tolerance: float | None) -> None:
    contract = tables.contract_of(dict.fromkeys(COLUMNS, "double"))
    batch = pa.RecordBatch.from_arrays([pa.array(column) for column in COLUMNS.values()], list(COLUMNS))
    fitted = tables.fitted_on([tables.feature(columns=list(COLUMNS), **options)], batch, contract)
    found = encode_batch(batch, fitted)[0]
    np.testing.assert_allclose(found, peer.fit_transform(MATRIX), rtol=tolerance or 4e-3, atol=tolerance or 4e-3)


def test_categories_as_scikit_learn_has_them() -> None:
    values = [["b", "a", "c", "", "é"][place] for place in RANDOM.integers(0, 5, 200)]
    contract = tables.contract_of({"text": "string"})
    batch = tables.batch_of([{"text": value} for value in values], contract)
    column = np.array(values, object)[:, None]
    one_hot = tables.fitted_on([tables.feature(encode="one_hot", column="text", missing="zeros")], batch, contract)
    index = tables.fitted_on([tables.feature(encode="index", column="text")], batch, contract)
    block = one_hot.blocks[0]
    assert isinstance(block, VocabularyBlock)
    order = [list(block.texts)]
    np.testing.assert_array_equal(
        encode_batch(batch, one_hot)[0], OneHotEncoder(categories=order, sparse_output=False).fit_transform(column)
    )
    np.testing.assert_array_equal(encode_batch(batch, index)[1], OrdinalEncoder(categories=order).fit_transform(column) + 2)
    assert sorted(block.texts) == list(OrdinalEncoder().fit(column).categories_[0])


def test_the_order_of_places_and_what_missing_and_unknown_give() -> None:
    contract = tables.contract_of({"text": "string", "x": "double"})
    train = tables.batch_of([{"text": text, "x": x} for text, x in [("b", 1.0), ("a", 3.0), ("b", None), ("c", 5.0)]], contract)
    features = [
        tables.feature(encode="zscore", column="x", indicator=True, impute="median"),
        tables.feature(encode="one_hot", column="text", unknown="slot", max_size=2),
        tables.feature(encode="index", column="text"),
        tables.feature(encode="hash", column="text", buckets=3, output="ids"),
    ]
    fitted = tables.fitted_on(features, train, contract)
    assert fitted.names == ("x", "x__is_missing", "text=b", "text=a", "text__is_unknown", "text__is_missing")
    assert (fitted.width, fitted.id_names, fitted.id_sizes) == (6, ("text", "text"), (5, 4))
    found, ids = encode_batch(tables.batch_of([{"text": "z", "x": 3.0}, {"text": None, "x": None}], contract), fitted)
    assert found.tolist() == [[0, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, 1]]
    assert ids[:, 0].tolist() == [1, 0] and ids[1, 1] == 0
    assert FittedFeatures.from_json(fitted.to_json()).hash == fitted.hash


def test_values_that_stand_for_something_are_never_known() -> None:
    contract = tables.contract_of({"text": "string"})
    batch = tables.batch_of([{"text": text} for text in ["\\N", "\\O", "a\x00", "\\O", "ok", None]], contract)
    fitted = tables.fitted_on([tables.feature(encode="index", column="text")], batch, contract)
    assert encode_batch(batch, fitted)[1][:, 0].tolist() == [0, 1, 1, 1, 2, 0]


def _in_order(row: dict[str, Any]) -> list[Any]:
    return [row[name] for name in tables.TYPES]


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(tables.tables, tables.tables, tables.tables)
def test_nothing_leaks(spark: SparkSession, train: list[Any], others: list[Any], changed: list[Any]) -> None:
    """Nothing fitted changes when rows of validation and test change, nor where the rows lie."""
    features = [tables.feature(**options) for options in tables.FEATURES.values()]
    contract = tables.contract_of()
    splits = [("validation", "test", None)[place % 3] for place in range(len(others) + len(changed))]
    found = set()
    for rest in (others, changed):
        rows = [
            *((*_in_order(row), "train") for row in train),
            *((*_in_order(row), split) for row, split in zip(rest, splits, strict=False)),
        ]
        schema = struct_type(contract).add("split", "string")
        silver = spark.createDataFrame(rows[::-1], schema).repartition(1 + len(rows) % 3)
        known = statistics_of_train(silver, needs=needs_of(features))
        assert known.to_json() == tables.statistics_for(features, [tables.batch_of(train)]).to_json()
        found.add(fit_features(features, known, contract).hash)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"encode": "zscore", "column": "text"},
            "features: expected a column of type boolean, tinyint, smallint, int, bigint, float, double for encode: zscore; "
            "found text, which is a string. Choose another encode, or cast the column in clean.",
        ),
        (
            {"encode": "hash", "column": "x", "buckets": 3},
            "features: expected a column of type string, boolean, tinyint, smallint, int, bigint, date, timestamp for encode: "
            "hash; found x, which is a double. Choose another encode, or cast the column in clean.",
        ),
        (
            {"encode": "datetime", "column": "day", "parts": ["hour"]},
            "features: expected a column of type timestamp for encode: datetime; found day, which is a date. "
            "Choose another encode, or cast the column in clean.",
        ),
        (
            {"encode": "index", "column": "nope"},
            "features: expected a column of the contract tiny_raw; found nope. "
            "It has x, y, n, small, flag, text, other, day, moment.",
        ),
    ],
)
def test_columns_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    feature = tables.feature(**options)
    known = tables.statistics_for([], [])
    with pytest.raises(ConfigError) as error:
        fit_features([feature], known, tables.contract_of())
    assert str(error.value) == message


def test_too_wide_a_vector_is_refused() -> None:
    features = [tables.feature(encode="hash", columns=["text", "n"], buckets=40_000)]
    with pytest.raises(ConfigError) as error:
        fit_features(features, tables.statistics_for([], []), tables.contract_of())
    assert str(error.value) == (
        "features: expected at most 65536 numbers a row; found 80000, of which 40000 are of text. "
        "Take encode: index, hash with fewer buckets, min_count or max_size."
    )


def test_column_is_short_for_columns() -> None:
    assert tables.feature(encode="zscore", column="a") == ZscoreFeature(encode="zscore", columns=("a",))
    assert needs_of([tables.feature(encode="scale", column="image", shape=[2])]) == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encode": "zscore", "column": "a", "columns": ["b"]}, "give column or columns, not both"),
        ({"encode": "index", "columns": ["b", "b"]}, "a column stands twice in ['b', 'b']"),
        (
            {"encode": "minmax", "column": "a", "range": [1, 1]},
            "range goes from a smaller to a larger number, not from 1.0 to 1.0",
        ),
        (
            {"encode": "robust", "column": "a", "quantiles": [0.9, 0.1]},
            "quantiles go from a smaller to a larger share, not from 0.9 to 0.1",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("[", r"\[").replace("]", r"\]")):
        tables.feature(**options)
