"""Near-duplicates on Spark: which row stays, against a plain comparison of all pairs."""

from __future__ import annotations

import random

import pytest
from pyspark.sql import DataFrame, SparkSession

from millrace.config.near_duplicates import NearDuplicatesConfig
from millrace.errors import ContractError
from millrace.transforms.near_duplicates import signatures, tag_near_duplicates

ROWS = "row_id string, text string, _night string, _source_file string, _rule string, _reason string, _action string"
CONFIG = NearDuplicatesConfig(column="text")

Row = tuple[str, str | None, str, str, str | None]


def frame_of(spark: SparkSession, rows: list[Row]) -> DataFrame:
    """(row_id, text, night, file, rule) as a frame."""
    return spark.createDataFrame([(*row, None, None) for row in rows], ROWS)


def tags_of(frame: DataFrame) -> dict[str, str | None]:
    """The kept row of each row that was dropped; None for one that stays, the rule for one that had a tag."""
    found = {}
    for row in frame.collect():
        if row["_rule"] == "near_duplicates(text)":
            start = "its text is nearly equal to that of the row "
            assert row["_reason"].startswith(start)
            assert row["_action"] == "dropped"
            found[row["row_id"]] = row["_reason"].removeprefix(start)
        else:
            found[row["row_id"]] = row["_rule"]
    return found


def words(first: int, last: int) -> str:
    """The words from one number to another."""
    return " ".join(f"w{number}" for number in range(first, last))


def corpus(num_families: int, seed: int) -> list[Row]:
    """Families of texts of which each comes out of the one before by an edit; equal ones among them, short ones and Chinese."""
    draw = random.Random(seed)
    rows: list[Row] = []
    for family in range(num_families):
        tokens = [f"w{draw.randrange(500)}" for _ in range(draw.randint(2, 80))]
        if family % 3 == 0:
            tokens = list("".join(chr(0x4E00 + draw.randrange(500)) for _ in range(draw.randint(20, 80))))
        for _ in range(draw.randint(1, 5)):
            rows.append((f"{len(rows):03d}", ("" if family % 3 == 0 else " ").join(tokens), f"n{draw.randrange(2)}", "f", None))
            tokens[draw.randrange(len(tokens))] = draw.choice(["x", "y"])
    return rows


def expected_of(rows: list[Row]) -> dict[str, str | None]:
    """All pairs compared, groups joined, the earliest of each stays."""
    grams = {}
    for row_id, text, *_ in rows:
        assert text is not None
        tokens = text.split() if text[0] < "\u4e00" and text[0].isascii() else list(text)
        grams[row_id] = {tuple(tokens[first : first + 5]) for first in range(max(1, len(tokens) - 4))}
    order = [row[0] for row in sorted(rows, key=lambda row: (row[2], row[3], row[0]))]
    group = {row_id: row_id for row_id in order}
    for left in order:
        for right in order:
            if len(grams[left] & grams[right]) / len(grams[left] | grams[right]) >= 0.8:
                old, new = group[right], group[left]
                group = {row_id: new if name == old else name for row_id, name in group.items()}
    first: dict[str, str] = {}
    for row_id in order:
        first.setdefault(group[row_id], row_id)
    return {row_id: None if first[name] == row_id else first[name] for row_id, name in group.items()}


def test_the_earliest_of_a_group_stays_whatever_the_order(spark: SparkSession) -> None:
    rows = corpus(40, seed=3)
    expected = expected_of(rows)
    assert 20 < sum(kept is not None for kept in expected.values()) < len(rows) - 20
    frame = frame_of(spark, rows)
    tagged = tag_near_duplicates(frame, config=CONFIG)
    assert tagged.columns == frame.columns
    assert tags_of(tagged) == expected
    shuffled = frame_of(spark, random.Random(1).sample(rows, len(rows))).repartition(7)
    assert tags_of(tag_near_duplicates(shuffled, config=CONFIG, signed=signatures(shuffled, config=CONFIG))) == expected
    again = tag_near_duplicates(frame_of(spark, [row for row in rows if expected[row[0]] is None]), config=CONFIG)
    assert set(tags_of(again).values()) == {None}


def test_tagged_null_and_empty_rows_are_passed_over_and_chains_hold(spark: SparkSession) -> None:
    frame = frame_of(
        spark,
        [
            ("9", words(0, 100), "n1", "a", None),
            ("1", words(0, 100), "n1", "b", None),
            ("2", words(8, 108), "n2", "a", None),  # 88 of 104 shared with the first
            ("3", words(16, 116), "n2", "b", None),  # 80 of 112 with the first, 88 of 104 with the second
            ("4", words(0, 100), "n0", "a", "broken"),
            ("5", None, "n1", "a", None),
            ("6", None, "n1", "a", None),
            ("7", " ", "n1", "a", None),
            ("8", "\n", "n1", "a", None),
            ("a", "two words", "n1", "a", None),
            ("b", "two  words", "n1", "a", None),
            ("9", words(0, 100), "n1", "z", "duplicate_key"),
        ],
    )
    found = tag_near_duplicates(frame, config=CONFIG)
    tags = {key: value for key, value in tags_of(found.filter("_source_file != 'z'")).items() if value is not None}
    assert tags == {"1": "9", "2": "9", "3": "9", "4": "broken", "b": "a"}
    assert found.filter("_source_file = 'z'").first()["_rule"] == "duplicate_key"


def test_rows_that_stand_stay_and_take_new_ones(spark: SparkSession) -> None:
    old = frame_of(spark, [("s2", words(0, 100), "n1", "a", None), ("s1", words(8, 108), "n1", "b", None)])
    stored = signatures(old, config=CONFIG).drop("_night", "_source_file")
    new = frame_of(
        spark,
        [
            ("1", words(4, 104), "n0", "a", None),  # near both
            ("2", words(200, 300), "n0", "a", None),
            ("3", words(202, 302), "n0", "b", None),
            ("4", words(0, 100), "n0", "a", "broken"),
            ("5", words(8, 108), "n0", "a", None),
        ],
    )
    found = tag_near_duplicates(new, config=CONFIG, standing=stored)
    assert tags_of(found) == {"1": "s1", "2": None, "3": "2", "4": "broken", "5": "s1"}
    nothing = tag_near_duplicates(new, config=CONFIG, standing=stored.limit(0))
    assert tags_of(nothing) == {"1": None, "2": None, "3": "2", "4": "broken", "5": "1"}


def test_a_column_that_is_no_text_is_refused(spark: SparkSession) -> None:
    frame = spark.createDataFrame([], ROWS.replace("text string", "text int"))
    with pytest.raises(ContractError) as caught:
        signatures(frame, config=CONFIG)
    assert str(caught.value) == ("near-duplicates: expected text to be a text; found int. Name a column of type string.")
