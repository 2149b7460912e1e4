"""Near-duplicates on Spark: which row stays, against a plain comparison of all pairs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from millrace.config.near_duplicates import NearDuplicatesConfig
from millrace.errors import ContractError
from millrace.flows.near_duplicates import MAX_LISTED, Keep, drop_near_duplicates
from millrace.transforms.near_duplicates import signatures

ROWS = "row_id string, text string, _night string, _source_file string, _rule string, _reason string, _action string"
CONFIG = NearDuplicatesConfig(column="text")

Row = tuple[str, str | None, str, str, str | None]


@pytest.fixture
def keep(spark: SparkSession) -> Iterator[Keep]:
    """Keeps frames until the test is over."""
    kept: list[DataFrame] = []

    def keep(frame: DataFrame) -> DataFrame:
        kept.append(frame.persist())
        return kept[-1]

    yield keep
    for frame in kept:
        frame.unpersist()


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
            rows.append((f"{len(rows):03d}", ("" if family % 3 == 0 else " ").join(tokens), f"n{draw.randrange(3)}", "f", None))
            tokens[draw.randrange(len(tokens))] = draw.choice(["x", "y"])
    return rows


def expected_of(rows: list[Row], *, by_night: bool) -> dict[str, str | None]:
    """All pairs compared, groups joined, the earliest stays; of all rows, or of a night's with those that stay before it."""
    grams = {}
    for row_id, text, *_ in rows:
        assert text is not None
        tokens = text.split() if text[0] < "\u4e00" and text[0].isascii() else list(text)
        grams[row_id] = {tuple(tokens[first : first + 5]) for first in range(max(1, len(tokens) - 4))}
    found: dict[str, str | None] = {}
    for night in sorted({row[2] for row in rows}) if by_night else [None]:
        own = sorted((row for row in rows if night in (None, row[2])), key=lambda row: (row[2], row[3], row[0]))
        order = sorted(row_id for row_id, kept in found.items() if kept is None) + [row[0] for row in own]
        group = {row_id: row_id for row_id in order}
        for left in order:
            for right in order:
                if len(grams[left] & grams[right]) / len(grams[left] | grams[right]) >= 0.8:
                    old, new = group[right], group[left]
                    group = {row_id: new if name == old else name for row_id, name in group.items()}
        first: dict[str, str] = {}
        for row_id in order:
            first.setdefault(group[row_id], row_id)
        found |= {row[0]: None if first[group[row[0]]] == row[0] else first[group[row[0]]] for row in own}
    return found


def drop(frame: DataFrame, keep: Keep, **options: Any) -> DataFrame:
    """The frame after the step."""
    signed = keep(signatures(frame, config=CONFIG))
    return drop_near_duplicates(frame, config=CONFIG, signed=signed, keep=keep, **options)


def one_by_one(spark: SparkSession, keep: Keep, rows: list[Row]) -> dict[str, str | None]:
    """The same when each night is done by itself, after those before it."""
    found: dict[str, str | None] = {}
    for night in sorted({row[2] for row in rows}):
        stays = [row for row in rows if row[0] in found and found[row[0]] is None]
        own = frame_of(spark, [row for row in rows if row[2] == night])
        standing = keep(signatures(frame_of(spark, stays), config=CONFIG).drop("_night", "_source_file"))
        found |= tags_of(drop(own, keep, standing=standing))
    return found


@pytest.mark.parametrize("max_listed", [MAX_LISTED, 1000, 0])
def test_the_earliest_of_a_group_stays_whatever_the_order(spark: SparkSession, keep: Keep, max_listed: int) -> None:
    """The driver lists texts and their bands, of some 2,000 bands candidates alone, or nothing: Spark then joins."""
    rows = corpus(40, seed=4)
    expected = expected_of(rows, by_night=False)
    assert 20 < sum(kept is not None for kept in expected.values()) < len(rows) - 20
    frame = frame_of(spark, random.Random(max_listed).sample(rows, len(rows))).repartition(3)
    tagged = drop(frame, keep, max_listed=max_listed)
    assert tagged.columns == frame.columns
    assert tags_of(tagged) == expected


def test_rows_that_stay_are_near_to_no_other(spark: SparkSession, keep: Keep) -> None:
    rows = corpus(40, seed=4)
    expected = expected_of(rows, by_night=False)
    frame = frame_of(spark, [row for row in rows if expected[row[0]] is None])
    assert set(tags_of(drop(frame, keep)).values()) == {None}


def test_nights_that_are_done_together_leave_what_they_leave_one_by_one(spark: SparkSession, keep: Keep) -> None:
    rows = corpus(40, seed=4)
    expected = expected_of(rows, by_night=True)
    assert expected != expected_of(rows, by_night=False)
    assert one_by_one(spark, keep, rows) == expected
    shuffled = frame_of(spark, random.Random(1).sample(rows, len(rows))).repartition(7)
    assert tags_of(drop(shuffled, keep, by_night=True)) == expected


def test_tagged_null_and_empty_rows_are_passed_over_and_chains_hold(spark: SparkSession, keep: Keep) -> None:
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
    found = drop(frame, keep)
    tags = {key: value for key, value in tags_of(found.filter("_source_file != 'z'")).items() if value is not None}
    assert tags == {"1": "9", "2": "9", "3": "9", "4": "broken", "b": "a"}
    assert found.filter("_source_file = 'z'").first()["_rule"] == "duplicate_key"


@pytest.mark.parametrize(("few", "max_listed"), [(False, 0), (False, MAX_LISTED), (True, MAX_LISTED)])
def test_rows_that_stand_stay_and_take_new_ones(spark: SparkSession, keep: Keep, few: bool, max_listed: int) -> None:
    old = frame_of(
        spark,
        [
            ("s2", words(0, 100), "n1", "a", None),
            ("s1", words(8, 108), "n1", "b", None),
            ("s0", words(300, 400), "n0", "a", None),
        ],
    )
    stored = keep(signatures(old, config=CONFIG).drop("_night", "_source_file"))
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
    found = drop(new, keep, standing=stored, few=few, max_listed=max_listed)
    assert tags_of(found) == {"1": "s1", "2": None, "3": "2", "4": "broken", "5": "s1"}
    nothing = drop(new, keep, standing=stored.limit(0), few=few, max_listed=max_listed)
    assert tags_of(nothing) == {"1": None, "2": None, "3": "2", "4": "broken", "5": "1"}


def test_what_a_night_has_dropped_has_no_say_in_later_ones(spark: SparkSession, keep: Keep) -> None:
    rows: list[Row] = [
        ("a1", words(0, 100), "n1", "a", None),
        ("a2", words(16, 116), "n1", "a", None),  # 80 of 112 shared with the first: too few
        ("b", words(200, 300), "n1", "a", None),
        ("c", words(208, 308), "n1", "b", None),  # near b
        ("d", words(8, 108), "n2", "a", None),  # near a1 and a2, which both stay
        ("e", words(216, 316), "n2", "a", None),  # near c alone, which is gone
        ("f", words(224, 324), "n3", "a", None),  # near e
    ]
    expected = {"a1": None, "a2": None, "b": None, "c": "b", "d": "a1", "e": None, "f": "e"}
    frame = frame_of(spark, rows)
    assert tags_of(drop(frame, keep, by_night=True)) == expected
    assert one_by_one(spark, keep, rows) == expected


def test_a_column_that_is_no_text_is_refused(spark: SparkSession) -> None:
    frame = spark.createDataFrame([], ROWS.replace("text string", "text int"))
    with pytest.raises(ContractError) as caught:
        signatures(frame, config=CONFIG)
    assert str(caught.value) == ("near-duplicates: expected text to be a text; found int. Name a column of type string.")
