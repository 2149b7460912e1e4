"""Near-duplicates over several nights: a night is compared with the signatures of what stands, and leaves its own."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession

from millrace.lake import log
from millrace.lake.ledger import Ledger
from millrace.lake.read import read_version
from tests.flows.pipelines import FIRST, SECOND, Pipelines

COLUMNS = {
    "index": {"type": "int", "nullable": False},
    "text": {"type": "string"},
    "title": {"type": "string"},
    "digit": {"type": "int", "nullable": False},
}
NEAR = {"near_duplicates": {"column": "text"}}
NEAR_TITLES = {"near_duplicates": {"column": "title", "unit": "characters", "threshold": 0.7}}
FORGET = {"map": {"column": "text", "values": {"-": "-"}, "others": "null"}}
"""Silver has no text, so that no later night can look at it."""


def text(first: int, *changed: int) -> str:
    """A hundred words from a number on; those at some places are others."""
    return " ".join("x" if place in changed else f"w{first + place}" for place in range(100))


OLD = {1: text(0), 2: text(0, 50), 3: text(1000), 4: text(2000), 5: "", 6: text(3000)}
NEW = {
    11: text(1000, 3),
    12: text(4000),
    13: text(4000, 97),
    14: text(0, 7),
    15: text(5000),
    16: "",
    17: text(2000),
    18: text(7000),
}
SAME_TITLE = {18: 6}
DROPPED = {2: 1, 11: 3, 13: 12, 14: 1, 17: 4}


def pipelines_in(directory: Path, spark: SparkSession, *, clean: list[object], **contract: object) -> Pipelines:
    """A lake of its own for rows of texts."""
    directory.mkdir()
    made = Pipelines(directory, spark)
    made.contract(columns=COLUMNS, **contract)
    define(made, clean)
    return made


def define(pipelines: Pipelines, clean: list[object]) -> None:
    pipelines.define("digits", {"clean": clean, "features": [{"columns": ["digit"], "encode": "number"}]})


def write(pipelines: Pipelines, name: str, texts: dict[int, str]) -> None:
    """Rows with titles of their own, but for one."""
    rows = [(index, each, chr(0x4E00 + SAME_TITLE.get(index, index)) * 9, index) for index, each in texts.items()]
    with (pipelines.raw / name).open("w", newline="") as stream:
        csv.writer(stream).writerows([("index", "text", "title", "digit"), *rows])


def silver(pipelines: Pipelines, spark: SparkSession) -> dict[int, tuple[str, str, str | None]]:
    """index -> (row_id, night, text)."""
    version = Ledger.read(pipelines.lake).version_of("silver/digits")
    rows = read_version(spark, pipelines.lake, "silver/digits", version).collect()
    found = {row["index"]: (row["row_id"], row["_night"], row["text"]) for row in rows}
    assert len(found) == len(rows)
    return found


def table(pipelines: Pipelines, name: str) -> pa.Table:
    return log.read_rows(pipelines.lake.path(name), version=Ledger.read(pipelines.lake).version_of(name))


def dropped(pipelines: Pipelines, spark: SparkSession) -> dict[str, str]:
    """row_id -> that of the row that it is nearly equal to."""
    rows = table(pipelines, "quarantine/pipelines/digits").to_pylist()
    near = [row for row in rows if row["rule"].startswith("near_duplicates(")]
    found = {row["row_id"]: row["reason"].rpartition(" is nearly equal to that of the row ")[2] for row in near}
    kept = {row_id for row_id, _, _ in silver(pipelines, spark).values()}
    assert not kept & set(found)
    assert kept >= set(found.values())
    return found


def signed(pipelines: Pipelines) -> Counter[tuple[int, str, str]]:
    """(step, row_id, night) of the stored signatures."""
    rows = table(pipelines, "signatures/digits").to_pylist()
    return Counter((row["step"], row["row_id"], row["_night"]) for row in rows)


def expected_signed(pipelines: Pipelines, spark: SparkSession, *, num_steps: int = 1) -> Counter[tuple[int, str, str]]:
    """One for each row of silver and step; none of the first for rows without a text."""
    rows = silver(pipelines, spark)
    without = {index for index, each in (OLD | NEW).items() if not each}
    pairs = [(step, index) for step in range(num_steps) for index in rows if step or index not in without]
    return Counter((step, *rows[index][:2]) for step, index in pairs)


def test_two_nights_give_what_one_gives_and_the_second_reads_no_old_text(tmp_path: Path, spark: SparkSession) -> None:
    clean = [NEAR, NEAR_TITLES, FORGET]
    two = pipelines_in(tmp_path / "two", spark, clean=clean)
    write(two, "a.csv", OLD)
    assert two.call(FIRST) == [0, 0]
    assert signed(two) == expected_signed(two, spark, num_steps=2)
    write(two, "b.csv", NEW)
    assert two.call(SECOND) == [0, 0]
    one = pipelines_in(tmp_path / "one", spark, clean=clean)
    write(one, "a.csv", OLD)
    write(one, "b.csv", NEW)
    assert one.call(FIRST) == [0, 0]
    rows = silver(two, spark)
    gone = DROPPED | SAME_TITLE
    assert set(rows) == set(OLD | NEW) - set(gone)
    assert {kept for _, _, kept in rows.values()} == {None}
    assert {index: row_id for index, (row_id, *_) in rows.items()} == {
        index: row_id for index, (row_id, *_) in silver(one, spark).items()
    }
    assert dropped(two, spark) == dropped(one, spark)
    assert Counter(dropped(two, spark).values()) == Counter(rows[index][0] for index in gone.values())
    assert signed(two) == expected_signed(two, spark, num_steps=2)
    assert signed(one) == expected_signed(one, spark, num_steps=2)


def test_signatures_follow_silver_when_a_night_is_done_again(tmp_path: Path, spark: SparkSession) -> None:
    pipelines = pipelines_in(tmp_path / "again", spark, clean=[NEAR])
    write(pipelines, "a.csv", OLD)
    assert pipelines.call(FIRST) == [0, 0]
    write(pipelines, "b.csv", NEW)
    assert pipelines.call(SECOND) == [0, 0]
    expected, tags = signed(pipelines), dropped(pipelines, spark)
    assert expected == expected_signed(pipelines, spark)
    pipelines.forget_success("preprocess")  # killed after its last commit
    assert pipelines.call(SECOND) == [0, 0]
    assert (signed(pipelines), dropped(pipelines, spark)) == (expected, tags)
    write(pipelines, "b.csv", {index: each for index, each in NEW.items() if index != 12})
    assert pipelines.call(SECOND, "--force") == [0, 0]
    assert set(silver(pipelines, spark)) == set(OLD | NEW) - set(DROPPED) - {12} | {13}
    assert signed(pipelines) != expected
    assert signed(pipelines) == expected_signed(pipelines, spark)
    define(pipelines, [{"near_duplicates": {"column": "text", "bands": 20, "rows_per_band": 4}}])
    assert pipelines.call(SECOND) == [0, 0]
    assert signed(pipelines) == expected_signed(pipelines, spark)
    assert {len(bands) for bands in table(pipelines, "signatures/digits").column("_bands").to_pylist()} == {20}


def test_a_newer_row_is_not_compared_with_the_one_whose_place_it_takes(tmp_path: Path, spark: SparkSession) -> None:
    pipelines = pipelines_in(tmp_path / "upsert", spark, clean=[NEAR], upsert=True)
    write(pipelines, "a.csv", OLD)
    assert pipelines.call(FIRST) == [0, 0]
    write(pipelines, "b.csv", {3: text(1000, 5), 21: text(2000, 9), 22: text(6000)})
    assert pipelines.call(SECOND) == [0, 0]
    rows = silver(pipelines, spark)
    assert {index: night for index, (_, night, _) in rows.items()} == {
        1: FIRST,
        3: SECOND,
        4: FIRST,
        5: FIRST,
        6: FIRST,
        22: SECOND,
    }
    assert rows[3][2] == text(1000, 5)
    assert signed(pipelines) == expected_signed(pipelines, spark)
