"""Spark applies fitted features in Arrow batches and gives what NumPy gives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from millrace.contracts.packed import Packing, as_binary
from millrace.contracts.spark import struct_type
from millrace.fit.collect import collect_statistics
from millrace.fit.features import fit_features, needs_of
from millrace.transforms.encoding import encode_batch
from millrace.transforms.features import EncodedWhenRead, _slices, encode_features
from tests import feature_tables as tables

DATA = Path(os.environ.get("MILLRACE_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def rows_of(num_rows: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    return [
        {
            "x": float(random.normal()),
            "y": None if row % 5 == 0 else row / 4,
            "n": int(random.integers(-4, 4)),
            "small": row % 100,
            "flag": bool(row % 2),
            "text": tables.TEXTS[row % len(tables.TEXTS)],
            "other": None,
        }
        for row in range(num_rows)
    ]


def test_spark_gives_what_numpy_gives(spark: SparkSession) -> None:
    contract, rows = tables.contract_of(), rows_of(100)
    features = [tables.feature(**options) for options in tables.FEATURES.values()]
    fitted = tables.fitted_on(features, tables.batch_of(rows))
    assert [block.width for block in fitted.blocks] == [len(block.names) for block in fitted.blocks]
    assert fitted.width == len(fitted.names)
    schema = struct_type(contract).add("row_id", "integer")
    frame = spark.createDataFrame(
        [(*(row.get(name) for name in tables.TYPES), number) for number, row in enumerate(rows)], schema
    )
    encoded = encode_features(frame.repartition(3), fitted=fitted, keep=["text"])
    assert encoded.schema.simpleString() == "struct<text:string,row_id:int,features:binary,ids:binary>"
    found = sorted(encoded.collect(), key=lambda row: row["row_id"])
    expected, ids = encode_batch(tables.batch_of(rows), fitted)
    assert [row["text"] for row in found] == [row["text"] for row in rows]
    np.testing.assert_array_equal(np.stack([np.frombuffer(row["features"], "<f4") for row in found]), expected)
    np.testing.assert_array_equal(np.stack([np.frombuffer(row["ids"], "<i4") for row in found]), ids)


def test_rows_are_encoded_where_they_are_read() -> None:
    contract = tables.contract_of({"x": "double", "text": "string", "n": "int"})
    rows = [{"x": number / 3, "text": "ab"[number % 2], "n": number} for number in range(9)]
    batch = tables.batch_of(rows, contract)
    features = [tables.feature(encode="zscore", column="x"), tables.feature(encode="index", column="text")]
    fitted = tables.fitted_on(features, batch, contract)
    encoded = EncodedWhenRead.of(Packing({"x": pa.float64(), "n": pa.int32()}), fitted, contract)
    assert encoded is not None
    made = encoded.packed(batch, came_typed=True)
    assert made.schema.equals(encoded.schema(batch.schema))
    assert made.schema.names == ["text", "features", "ids"] == encoded.around(contract.columns)
    expected, ids = encode_batch(batch, fitted)
    assert made.column("features").to_pylist() == [row.tobytes() for row in expected]
    assert made.column("ids").to_pylist() == [row.tobytes() for row in ids]
    assert made.column("text").equals(batch.column("text"))
    as_text = encoded.packed(batch, came_typed=False)
    assert as_text.schema.equals(made.schema)
    assert as_text.column("features").null_count == as_text.column("ids").null_count == 9


@pytest.mark.parametrize(
    ("column", "kind", "options"),
    [
        ("flag", "boolean", {"encode": "index"}),  # comes as text, for Spark to cast
        ("text", "string", {"encode": "hash", "buckets": 2000}),  # a reader's 10,000 rows would come to 80 MB
    ],
)
def test_what_is_not_encoded_where_it_is_read(column: str, kind: str, options: dict[str, Any]) -> None:
    contract = tables.contract_of({column: kind})
    batch = tables.batch_of([{column: True if kind == "boolean" else "a"}], contract)
    fitted = tables.fitted_on([tables.feature(column=column, **options)], batch, contract)
    assert EncodedWhenRead.of(Packing({}), fitted, contract) is None


def test_a_vector_without_places_is_left_out(spark: SparkSession) -> None:
    contract = tables.contract_of({"x": "double"})
    fitted = tables.fitted_on([tables.feature(encode="number", column="x")], tables.batch_of([{"x": 1.0}], contract), contract)
    encoded = encode_features(spark.createDataFrame([(2.0,), (None,)], "x double"), fitted=fitted)
    assert encoded.columns == ["features"]
    assert [np.frombuffer(row["features"], "<f4").tolist() for row in encoded.collect()] == [[2.0], [1.0]]


def test_a_text_that_is_no_utf8_is_a_value_of_its_own(spark: SparkSession) -> None:
    """A lone surrogate, which Spark holds as three bytes: unknown to a vocabulary, whatever it was fitted on, and hashed."""
    from tests.feature_twins import as_model, assert_equal, tensors

    contract = tables.contract_of({"text": "string"})
    texts = ["a", "\ud800", "\ud801", "\ud800"]
    batch = tables.batch_of([{"text": text} for text in texts], contract)
    options = [{"encode": "index"}, {"encode": "hash", "buckets": 1000, "output": "ids"}]
    features = [tables.feature(column="text", **each) for each in options]
    rows = [(number, bytearray(text.encode("utf-8", "surrogatepass"))) for number, text in enumerate(texts)]
    frame = spark.createDataFrame(rows, "number int, raw binary").selectExpr("number", "CAST(raw AS string) AS text")
    fitted = fit_features(features, collect_statistics(frame, needs=needs_of(features)), contract)
    assert fitted == tables.fitted_on(features, batch, contract)
    encoded = sorted(encode_features(frame, fitted=fitted).collect(), key=lambda row: row["number"])
    ids = np.stack([np.frombuffer(row["ids"], "<i4") for row in encoded])
    assert ids[:, 0].tolist() == [2, 1, 1, 1]
    assert ids[1, 1] == ids[3, 1] != ids[2, 1]
    assert_equal(as_model(fitted)(tensors(batch, fitted)), np.zeros((4, 0), np.float32), ids, fitted)


def test_awkward_rows_through_spark_equal_the_graph(spark: SparkSession) -> None:
    """Fitted by Spark on half of the rows, encoded by Spark: NULLs, unseen and empty texts, surrogates, NaN and infinities, long
    texts, and times from the year 1 to 9999."""
    from tests.feature_twins import as_model, assert_equal, tensors

    rows = tables.awkward()
    places = {name: number for number, name in enumerate(tables.TYPES)}
    plain = [
        tuple(
            bytearray(row["text"].encode("utf-8", "surrogatepass"))
            if name == "text" and row.get("text") is not None
            else row.get(name)
            for name in places
        )
        for row in rows
    ]
    schema = ", ".join(f"{name} {'binary' if name == 'text' else kind}" for name, kind in tables.TYPES.items())
    numbered = [(*row, number) for number, row in enumerate(plain)]
    frame = spark.createDataFrame(numbered, f"{schema}, number int").withColumn("text", F.col("text").cast("string"))
    features = [tables.feature(**options) for options in tables.FEATURES.values()]
    contract, half = tables.contract_of(), len(rows) // 2
    fitted = fit_features(features, collect_statistics(frame.filter(f"number < {half}"), needs=needs_of(features)), contract)
    assert fitted == tables.fitted_on(features, tables.batch_of(rows[:half]))
    encoded = sorted(
        encode_features(frame.repartition(5), fitted=fitted, keep=["number"]).collect(), key=lambda row: row["number"]
    )
    found, ids = (
        np.stack([np.frombuffer(row[name], dtype) for row in encoded]) for name, dtype in (("features", "<f4"), ("ids", "<i4"))
    )
    assert_equal(as_model(fitted)(tensors(tables.batch_of(rows), fitted)), found, ids, fitted)


def test_wide_rows_are_encoded_a_few_at_a_time() -> None:
    batch = pa.RecordBatch.from_pydict({"a": list(range(5))})
    assert [each.to_pydict()["a"] for each in _slices([batch, batch.slice(4)], 2)] == [[0, 1], [2, 3], [4], [4]]


def test_packed_bytes_are_in_c_order() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert as_binary(values[:, ::-1]).to_pylist() == [values[row, ::-1].tobytes() for row in range(2)]
    assert as_binary(values[:0]).to_pylist() == []


SETS = {
    "titanic": (
        "titanic/titanic.csv",
        {"age": "double", "fare": "double", "sex": "string", "embarked": "string", "pclass": "int"},
        None,
    ),
    "penguins": (
        "penguins/penguins.csv",
        {"bill_length_mm": "double", "body_mass_g": "double", "island": "string", "sex": "string", "year": "int"},
        None,
    ),
    "adult": (
        "adult/adult-train.csv",
        {"age": "int", "fnlwgt": "int", "hours": "int", "workclass": "string", "education": "string", "country": "string"},
        {"age": 0, "fnlwgt": 2, "hours": 12, "workclass": 1, "education": 3, "country": 13},
    ),
}


@pytest.mark.parametrize("name", [*(pytest.param(name, marks=pytest.mark.full) for name in ("adult", "penguins")), "titanic"])
def test_real_data_equals_the_graph(spark: SparkSession, name: str) -> None:
    """Fitted and encoded by Spark, and by the exported graph from the raw columns."""
    from tests.feature_twins import as_model, assert_twins, tensors

    path, types, places = SETS[name]
    if not (DATA / path).exists():
        pytest.skip(f"{path} is not under MILLRACE_DATA")
    contract = tables.contract_of(types)
    kinds = {
        f"f{places[column]}" if places else column: kind for column, kind in ((c.name, c.type) for c in contract.arrow_schema)
    }
    read = pa.csv.read_csv(
        DATA / path,
        read_options=pa.csv.ReadOptions(autogenerate_column_names=places is not None),
        convert_options=pa.csv.ConvertOptions(
            column_types=kinds, include_columns=list(kinds), null_values=["", "NA", "?", " ?"], strings_can_be_null=True
        ),
    )
    batch = read.rename_columns(list(types)).combine_chunks().to_batches()[0]
    numbers = [column for column, kind in types.items() if kind != "string"]
    texts = [column for column, kind in types.items() if kind == "string"]
    features = [
        tables.feature(encode="zscore", columns=numbers, indicator=True),
        tables.feature(encode="log", columns=numbers),
        tables.feature(encode="robust", columns=numbers),
        tables.feature(encode="one_hot", columns=texts, min_count=20, unknown="slot"),
        tables.feature(encode="index", columns=texts),
        tables.feature(encode="cross", columns=texts, buckets=50),
    ]
    frame = spark.createDataFrame([tuple(row.values()) for row in batch.to_pylist()], struct_type(contract))
    fitted = fit_features(features, collect_statistics(frame, needs=needs_of(features)), contract)
    assert fitted == tables.fitted_on(features, batch, contract)
    encoded = encode_features(frame, fitted=fitted).collect()
    ours, ids = encode_batch(batch, fitted)
    assert {bytes(row["features"] + row["ids"]) for row in encoded} == {
        one.tobytes() + two.tobytes() for one, two in zip(ours, ids, strict=True)
    }
    assert_twins(as_model(fitted)(tensors(batch, fitted)), batch, fitted)
    assert abs(ours[:, 0].mean(dtype=float)) < 0.2 and len(encoded) == batch.num_rows
