"""Duplicates, classes and the order of gold."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.testing import assertDataFrameEqual

from millrace.transforms.deduplicate import tag_duplicates
from millrace.transforms.encode import class_index, in_hash_order

ROWS = "row_id string, x string, note string, _night string, _source_file string, _rule string, _reason string, _action string"


def tagged(spark: SparkSession, *rows: tuple[object, ...], standing: DataFrame | None = None) -> dict[str, str | None]:
    """(row_id, x, note, night, file, rule) -> note of each row, and the rule that took it."""
    frame = spark.createDataFrame([(*row, None, None) for row in rows], ROWS)
    found = tag_duplicates(frame, columns=["x"], rule="same_x", tie_break=["note"], standing=standing)
    assert found.columns == frame.columns
    kept = {row["note"]: (row["_rule"], row["_reason"], row["_action"]) for row in found.collect()}
    assert len(kept) == len(rows)
    assert all(tags[1:] == ("equal to an earlier row in x", "dropped") for tags in kept.values() if tags[0] == "same_x")
    return {note: tags[0] for note, tags in kept.items()}


def test_the_earliest_night_file_and_row_stays(spark: SparkSession) -> None:
    assert tagged(
        spark,
        ("1", "a", "second night", "n2", "f1", None),
        ("9", "a", "first", "n1", "f1", None),
        ("0", "a", "later file", "n1", "f2", None),
        ("5", "b", "row 5", "n1", "f1", None),
        ("4", "b", "row 4", "n1", "f1", None),
        ("6", None, "null 6", "n1", "f1", None),
        ("7", None, "null 7", "n1", "f1", None),
        ("8", "c", "alone", "n1", "f1", None),
    ) == {
        "second night": "same_x",
        "first": None,
        "later file": "same_x",
        "row 5": "same_x",
        "row 4": None,
        "null 6": None,
        "null 7": "same_x",
        "alone": None,
    }


def test_ties_are_decided_by_content(spark: SparkSession) -> None:
    rows = [("1", "a", note, "n1", "f1", None) for note in ("b", "a", "c")]
    assert tagged(spark, *rows) == tagged(spark, *reversed(rows)) == {"a": None, "b": "same_x", "c": "same_x"}


def test_tagged_rows_are_passed_over(spark: SparkSession) -> None:
    assert tagged(spark, ("1", "a", "broken", "n1", "f1", "x_is_null"), ("2", "a", "good", "n1", "f2", None)) == {
        "broken": "x_is_null",
        "good": None,
    }


def test_rows_that_stand_win(spark: SparkSession) -> None:
    standing = spark.createDataFrame([("a", 1), ("a", 2), (None, 3)], "x string, other int")
    assert tagged(
        spark,
        ("1", "a", "known", "n1", "f1", None),
        ("2", None, "known null", "n1", "f1", None),
        ("3", "b", "new", "n1", "f1", None),
        ("4", "a", "broken", "n1", "f1", "r"),
        standing=standing,
    ) == {"known": "same_x", "known null": "same_x", "new": None, "broken": "r"}


def test_classes(spark: SparkSession) -> None:
    frame = spark.createDataFrame([(3,), (7,), (5,), (None,)], "digit int")
    found = frame.select(class_index("digit", ["3", "7"]).alias("label"))
    assertDataFrameEqual(found, spark.createDataFrame([(0,), (1,), (None,), (None,)], "label int"), checkRowOrder=True)


def test_gold_is_sorted_by_hash_within_each_file(spark: SparkSession) -> None:
    rows = spark.range(60).select(
        F.col("id").cast("string").alias("row_id"), F.when(F.col("id") % 3 == 0, "test").otherwise("train").alias("split")
    )
    ordered = in_hash_order(rows, seed=7, num_partitions=2)
    assert ordered.columns == ["row_id", "split"]
    numbered = ordered.withColumns({"part": F.spark_partition_id(), "hash": F.xxhash64(F.lit(7), "row_id")})
    parts = numbered.collect()
    assert {row["row_id"] for row in parts} == {str(number) for number in range(60)}
    assert {row["part"] for row in parts} == {0, 1}
    known = {"0": -2628462363104744633, "1": 8355570699060118697, "59": -8010813654836272262}  # by the package xxhash
    assert {row["row_id"]: row["hash"] for row in parts if row["row_id"] in known} == known
    for part in (0, 1):
        found = [row["hash"] for row in parts if row["part"] == part]
        assert found == sorted(found)
        names = [int(row["row_id"]) for row in parts if row["part"] == part]
        assert names != sorted(names)
    again = in_hash_order(rows.repartition(5), seed=7, num_partitions=2).collect()
    assert [row["row_id"] for row in again] == [row["row_id"] for row in parts]
    other = in_hash_order(rows, seed=8, num_partitions=2).collect()
    assert [row["row_id"] for row in other] != [row["row_id"] for row in parts]
