"""What a row of each class counts, from the config and the rows of gold."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from millrace.errors import ConfigError
from millrace.flows.context import Context
from millrace.flows.train import class_weights
from millrace.lake.layout import Lake, gold
from tests.factories import image_contract, make_pipeline, make_run

CLASSES = ("0", "1", "7")


def context(lake: Lake, spark: SparkSession, setting: object) -> Context:
    config = make_pipeline(training={"class_weights": setting})
    return Context(lambda: spark, lake, config, image_contract(), make_run())


def test_balanced_counts_the_rows_of_the_train_split_at_the_pinned_version(
    lake: Lake, spark: SparkSession, tmp_path: Path
) -> None:
    address = lake.spark_path(gold("tiny"))
    rows = [(label, "train") for label in (0, 0, 0, 2)] + [(1, "test"), (2, "validation")]
    for more in (rows, [(2, "train")] * 5):
        spark.createDataFrame(more, "label int, split string").write.format("delta").mode("append").save(address)
    assert class_weights(context(lake, spark, "balanced"), 0, CLASSES) == pytest.approx((4 / 6, 1.0, 2.0))
    assert class_weights(context(lake, spark, "balanced"), 1, CLASSES) == pytest.approx((9 / 6, 1.0, 9 / 12))


def test_weights_by_name_need_no_rows(lake: Lake, spark: SparkSession) -> None:
    assert class_weights(context(lake, spark, None), 0, CLASSES) is None
    assert class_weights(context(lake, spark, {7: 2}), 0, CLASSES) == (1.0, 1.0, 2.0)
    with pytest.raises(ConfigError, match=r"found '8'\. Known: 0, 1, 7\."):
        class_weights(context(lake, spark, {8: 2}), 0, CLASSES)
