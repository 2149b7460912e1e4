"""A gold table stays ordinary Parquet: Petastorm's own readers and converter, and pyarrow, see the same rows."""

from __future__ import annotations

import warnings

import pyarrow.dataset as ds
import pytest
from pyspark.sql import SparkSession

from millrace.loading import ColumnSpec, dataset
from millrace.loading.index import build_index
from millrace.loading.reader import read_in_order

DIGIT = ColumnSpec(name="digit", dtype="int32")
ROW_ID = ColumnSpec(name="row_id", dtype="string")


@pytest.fixture
def gold(digits_table) -> str:
    return digits_table(40, 30, max_rows=16)


def ours(uri: str) -> list[tuple[str, int]]:
    index = build_index(uri, version=1, partitions={"split": "train"})
    batches = [batch.columns for batch in read_in_order(index, [ROW_ID, DIGIT], 16)]
    return sorted(pair for batch in batches for pair in zip(batch["row_id"].tolist(), batch["digit"].tolist(), strict=True))


def test_make_batch_reader(gold):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Petastorm calls what its dependencies have deprecated
        from petastorm import make_batch_reader

        urls = [f"file://{file}" for file in build_index(gold, version=1, partitions={}).files]
        with make_batch_reader(urls, schema_fields=["row_id", "digit"], shuffle_row_groups=False, num_epochs=1) as reader:
            found = [pair for batch in reader for pair in zip(batch.row_id, batch.digit, strict=True)]
    assert sorted(found) == ours(gold)


@pytest.mark.full
def test_make_spark_converter(gold, spark: SparkSession, tmp_path):
    """The converter writes the rows that Spark reads from the table, and gives them to TensorFlow. Spark and TensorFlow start."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Petastorm calls what its dependencies have deprecated
        from petastorm.spark import SparkDatasetConverter, make_spark_converter

        key = SparkDatasetConverter.PARENT_CACHE_DIR_URL_CONF
        spark.conf.set(key, f"file://{tmp_path}/converted")
        try:
            converter = make_spark_converter(spark.read.format("delta").load(gold).select("row_id", "digit"))
            with converter.make_tf_dataset(batch_size=16, num_epochs=1) as batches:
                pairs = [pair for batch in batches for pair in zip(batch.row_id.numpy(), batch.digit.numpy(), strict=True)]
            converter.delete()
        finally:
            spark.conf.unset(key)
    assert sorted((row_id.decode(), int(digit)) for row_id, digit in pairs) == ours(gold)


def test_pyarrow(gold):
    files = list(dataset(gold, columns=["digit"]).index.files)
    table = ds.dataset(files, format="parquet").to_table(columns=["row_id", "digit"])
    assert sorted(zip(table["row_id"].to_pylist(), table["digit"].to_pylist(), strict=True)) == ours(gold)
