"""Near-duplicates from night to night: what came first stays, what comes later is dropped by rule, and all is accounted for."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from millrace.lake import log
from millrace.lake.ledger import Ledger
from tests.flows.pipelines import FIRST, SECOND, Pipelines

RULE = "near_duplicates(text)"
Row = dict[str, object]


def words(first: int, last: int) -> str:
    """The words from one number to another. A hundred of them are near a hundred that begin 8 later, and not 16 later."""
    return " ".join(f"w{number}" for number in range(first, last))


NIGHT_1 = {
    "a.jsonl": {"a1": words(0, 100), "a2": words(16, 116), "b1": words(200, 300), "c1": words(400, 500)},
    "b.jsonl": {"b2": words(208, 308)},  # near b1
}
NIGHT_2 = {
    "c.jsonl": {
        "a3": words(8, 108),  # near a1 and a2, which both stay
        "b3": words(216, 316),  # near b2 alone, which is gone
        "c2": words(402, 502),  # near c1
        "c3": words(404, 504),  # near c1 and c2
        "d1": words(600, 700),
    },
    "d.jsonl": {"d2": words(602, 702)},  # near d1
}
STAYS = {FIRST: {"a1", "a2", "b1", "c1"}, SECOND: {"b3", "d1"}}


@pytest.fixture
def pages(pipelines: Pipelines) -> Pipelines:
    """A pipeline of texts that drops near-duplicates."""
    pipelines.contract(
        grain="one row per page",
        key=["name"],
        columns={"name": {"type": "string", "nullable": False}, "text": {"type": "string", "nullable": False}},
    )
    sections = {
        "clean": [{"near_duplicates": {"column": "text"}}],
        "split": {"method": "hash", "key": ["name"], "seed": 7, "fractions": {"train": 0.5, "validation": 0.5}},
        "features": [{"column": "text", "encode": "words"}],
    }
    pipelines.define("digits", sections, format="jsonl")
    write(pipelines, NIGHT_1)
    assert pipelines.call(FIRST) == [0, 0]
    return pipelines


def write(pipelines: Pipelines, files: dict[str, dict[str, str]]) -> None:
    for name, texts in files.items():
        lines = [json.dumps({"name": key, "text": text}) for key, text in texts.items()]
        (pipelines.raw / name).write_text("\n".join(lines) + "\n")


def rows_of(pipelines: Pipelines, table: str) -> list[Row]:
    version = Ledger.read(pipelines.lake).version_of(table)
    rows: list[Row] = log.read_rows(pipelines.lake.path(table), version=version).to_pylist()
    return rows


def silver(pipelines: Pipelines) -> dict[str, Row]:
    return {str(row["name"]): row for row in rows_of(pipelines, "silver/digits")}


def dropped(pipelines: Pipelines) -> set[tuple[object, ...]]:
    """(night, row_id, reason) of what the rule took."""
    rows = rows_of(pipelines, "quarantine/pipelines/digits")
    assert {(row["rule"], row["action"], row["record"]) for row in rows} == {(RULE, "dropped", None)}
    found = {(row["_night"], row["row_id"], row["reason"]) for row in rows}
    assert len(found) == len(rows)
    return found


def check_counts(pipelines: Pipelines) -> None:
    """Each row of bronze is in silver or in quarantine, night by night; ledger and metrics/data_quality say the same."""
    per_night = [
        Counter(row["_night"] for row in rows_of(pipelines, table))
        for table in ("bronze/digits", "silver/digits", "quarantine/pipelines/digits")
    ]
    assert per_night[0] == per_night[1] + per_night[2] == Counter({FIRST: 5, SECOND: 6})
    last = [entry for entry in Ledger.read(pipelines.lake).entries if entry.step == "preprocess"][-1]
    assert last.status == "succeeded" and last.counts is not None
    assert last.counts.num_rows_in == last.counts.num_rows_kept + last.counts.num_rows_dropped
    quality = [row for row in rows_of(pipelines, "metrics/data_quality") if row["rule"] == RULE and row["_night"] == SECOND]
    assert [(row["num_checked"], row["num_failed"]) for row in quality] == [
        (last.counts.num_rows_in, last.counts.num_rows_dropped)
    ]


def test_a_second_night(pages: Pipelines) -> None:
    """Three preprocesses, of which the last makes all of it anew."""
    first = silver(pages)
    assert set(first) == STAYS[FIRST]
    write(pages, NIGHT_2)
    assert pages.call(SECOND) == [0, 0]
    second = silver(pages)
    assert {name: second[name] for name in first} == first  # what stood stands, to its last column
    assert {night: {name for name, row in second.items() if row["_night"] == night} for night in STAYS} == STAYS
    check_counts(pages)
    ids = {name: row["row_id"] for name, row in second.items()}
    reasons = {reason for night, _, reason in dropped(pages) if night == SECOND}
    near = f"its text is nearly equal to that of the row {min(str(ids['a1']), str(ids['a2']))}"
    assert reasons == {near, *(f"its text is nearly equal to that of the row {ids[name]}" for name in ("c1", "d1"))}
    gold = Counter(row["row_id"] for row in rows_of(pages, "gold/digits"))
    assert gold == Counter(ids.values())

    before = {table: Ledger.read(pages.lake).version_of(f"{table}/digits") for table in ("bronze", "silver", "gold")}
    rejected = dropped(pages)
    assert pages.call(SECOND) == [0, 0]
    assert {table: Ledger.read(pages.lake).version_of(f"{table}/digits") for table in before} == before
    assert pages.call(SECOND, "--force", steps=("preprocess",)) == [0]
    assert silver(pages) == second
    assert dropped(pages) == rejected
    check_counts(pages)
