"""No key on two sides of a split."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from millrace.errors import QualityError
from millrace.quality.keys import check_disjoint, straddling

ROWS = "user string, visit int, split string"


def test_disjoint_rows_pass(spark: SparkSession) -> None:
    rows = [("a", 1, "train"), ("a", 2, "train"), ("b", 1, "test"), (None, 1, "validation"), (None, 1, "validation")]
    check_disjoint(spark.createDataFrame(rows, ROWS), columns=["user"], stage="preprocess")
    check_disjoint(spark.createDataFrame([], ROWS), columns=["user"], stage="preprocess")


def test_straddling_keys_are_counted_and_shown(spark: SparkSession) -> None:
    rows = [(f"u{number}", 1, split) for number in range(5) for split in ("train", "test")]
    rows += [("u0", 2, "validation"), (None, 1, "train"), (None, 2, "test"), ("z", 1, "test")]
    frame = spark.createDataFrame(rows, ROWS)
    assert straddling(frame, columns=["user"]).count() == 6
    with pytest.raises(QualityError) as caught:
        check_disjoint(frame, columns=["user"], stage="preprocess")
    assert str(caught.value) == (
        "preprocess: expected each user in one split; found 6 in more than one (user=None in test and train; user=u0 in test and "
        "train and validation; user=u1 in test and train). "
        "Drop duplicates of it in clean, split by something else, or mend the rules of split.test and split.validation."
    )
    with pytest.raises(QualityError) as caught:
        check_disjoint(frame, columns=["user", "visit"], stage="preprocess")
    assert str(caught.value).startswith(
        "preprocess: expected each user, visit in one split; found 5 in more than one (user=u0, visit=1 in test and train; "
    )
