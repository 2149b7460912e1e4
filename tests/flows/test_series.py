"""Series and documents that go on from night to night: gold's windows and blocks and values carried forward, by plain Python."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any

import numpy as np
import pytest

from tests.flows.law import Row, check_law, content, rows_of, rows_written
from tests.flows.pipelines import FIRST, SECOND, Pipelines

THIRD = "2026-11-23"
Reading = tuple[str, int, float | None, float | None]
"""Station, hour, air, dust."""
INPUTS, HORIZON, SPAN = 3, 2, 5
READINGS: dict[str, list[Reading]] = {
    # b is too short to have a window in the first night; a has a gap in the second, and c comes late: before what stands
    FIRST: [("a", hour, 10.0 + hour, hour * 0.5 if hour != 3 else None) for hour in range(8)]
    + [("b", hour, None if hour in (0, 3) else 20.0 - hour, hour * 2.0) for hour in range(4)]
    + [("c", hour, None if hour == 6 else 1.0 * hour, hour * 3.0) for hour in range(6, 9)],
    SECOND: [("a", hour, None if hour in (8, 9) else 50.0 + hour, hour * 0.5) for hour in (*range(8, 16), *range(17, 22))]
    + [("b", hour, None if hour == 4 else 7.0 * hour, hour * 2.0) for hour in range(4, 11)]
    + [("c", hour, None if hour in (2, 9) else 2.0 * hour, hour * 3.0) for hour in (1, 2, 9, 10)],
}
CUTS = {"validation": 10, "test": 18}


def define_series(pipelines: Pipelines) -> None:
    number = {"type": "double"}
    columns = {"station": {"type": "string", "nullable": False}, "hour": {"type": "int", "nullable": False}}
    pipelines.contract(columns={**columns, "air": number, "dust": number}, key=["station", "hour"])
    windows = {"by": ["station"], "time": "hour", "inputs": ["air", "dust"], "target": "dust"}
    sections = {
        "clean": [{"fillna": {"columns": ["air"], "forward": {"time": "hour", "group": ["station"]}}}],
        "split": {"method": "time", "column": "hour", "cuts": CUTS},
        "features": [],
        "windows": {**windows, "input_length": INPUTS, "horizon": HORIZON, "every_seconds": 1.0},
    }
    pipelines.define("digits", sections)


def write_series(pipelines: Pipelines, night: str) -> None:
    lines = [",".join("" if value is None else str(value) for value in reading) for reading in READINGS[night]]
    (pipelines.raw / f"{night}.csv").write_text("\n".join(["station,hour,air,dust", *lines]) + "\n")


def filled(*nights: str) -> dict[tuple[str, int], Row]:
    """Silver as it must be: a gap takes the last air before it in time, of its own night or an older one."""
    rows: dict[tuple[str, int], Row] = {}
    for night in nights:
        for station, hour, air, dust in sorted(READINGS[night]):
            if air is None:
                before = [at for at in rows if at[0] == station and at[1] < hour and rows[at]["air"] is not None]
                air = rows[max(before)]["air"] if before else None  # noqa: PLW2901
            split = "test" if hour >= CUTS["test"] else "validation" if hour >= CUTS["validation"] else "train"
            rows[station, hour] = {"air": air, "dust": dust, "split": split, "_night": night}
    return rows


def windows(rows: dict[tuple[str, int], Row]) -> tuple[dict[tuple[str, int], tuple[Any, ...]], Counter[tuple[str, str]]]:
    """Of what stands: (inputs, target, split, night) by station and first hour to predict; (rule, night) of what is dropped."""
    kept, dropped = {}, Counter()
    for station in sorted({at[0] for at in rows}):
        hours = sorted(hour for name, hour in rows if name == station)
        starts = range(len(hours) - SPAN + 1) if len(hours) >= SPAN else [0]
        for start in starts:
            chosen = hours[start : start + SPAN]
            found = [rows[station, hour] for hour in chosen]
            night = max(row["_night"] for row in found)
            inputs, targets = found[:INPUTS], [row["dust"] for row in found[INPUTS:]]
            if len(hours) < SPAN:
                dropped["series_is_too_short", night] += 1
            elif len({row["split"] for row in found}) > 1:
                dropped["window_straddles_splits", night] += 1
            elif chosen[-1] - chosen[0] != SPAN - 1:
                dropped["window_has_a_gap", night] += 1
            elif None in targets or any(None in (row["air"], row["dust"]) for row in inputs):
                dropped["window_has_a_missing_value", night] += 1
            else:
                values = np.array([(row["air"], row["dust"]) for row in inputs], np.float32)
                target = np.array(targets, np.float32).tobytes()
                kept[station, chosen[INPUTS]] = (values.tobytes(), target, found[-1]["split"], night)
    return kept, dropped


def check_series(pipelines: Pipelines, *nights: str) -> None:
    expected = filled(*nights)
    silver = {(row["station"], row["hour"]): row for row in rows_of(pipelines.lake, "silver/digits")}
    assert {at: {name: row[name] for name in expected[at]} for at, row in silver.items()} == expected
    kept, dropped = windows(expected)
    gold = rows_of(pipelines.lake, "gold/digits")
    assert {(r["station"], r["hour"]): (r["inputs"], r["target"], r["split"], r["_night"]) for r in gold} == kept
    assert len(gold) == len(kept)
    check_gold_law(pipelines, len(kept), dropped)
    check_law(pipelines.lake, "digits", num_raw=sum(len(READINGS[night]) for night in nights))


def check_gold_law(pipelines: Pipelines, num_kept: int, dropped: Counter[tuple[str, str]]) -> None:
    """What is not in gold is in its quarantine, by rule and night; metrics/data_quality says the same of the newest run."""
    rejected = rows_of(pipelines.lake, "quarantine/gold/digits")
    assert Counter((row["rule"], row["_night"]) for row in rejected) == dropped
    assert {(row["action"], row["stage"], row["record"]) for row in rejected} <= {("dropped", "encode", None)}
    newest = max(row["version"] for row in rows_of(pipelines.lake, "metrics/data_quality") if row["table"] == "gold/digits")
    quality = [
        row
        for row in rows_of(pipelines.lake, "metrics/data_quality")
        if (row["table"], row["version"]) == ("gold/digits", newest)
    ]
    own = Counter({row["rule"]: row["num_failed"] for row in quality})
    assert +own == Counter(row["rule"] for row in rejected if row["run_id"] == quality[0]["run_id"])
    (num_checked,) = {row["num_checked"] for row in quality}
    assert num_checked - own.total() == rows_written(pipelines.lake, "gold/digits") <= num_kept


def test_windows_and_gaps_over_two_nights(pipelines: Pipelines) -> None:
    """Windows reach over nights, values are carried over them; the older night done again gives the same tables."""
    define_series(pipelines)
    write_series(pipelines, FIRST)
    assert pipelines.call(FIRST) == [0, 0]
    check_series(pipelines, FIRST)
    write_series(pipelines, SECOND)
    assert pipelines.call(SECOND) == [0, 0]
    check_series(pipelines, FIRST, SECOND)
    whole = {table: content(pipelines.lake, table) for table in ("silver/digits", "gold/digits")}
    assert pipelines.call(FIRST, "--force") == [0, 0]
    assert {table: content(pipelines.lake, table) for table in whole} == whole


@pytest.mark.full
def test_a_night_that_comes_late_has_newer_nights_done_again(pipelines: Pipelines) -> None:
    """What it knows was not known when they took their values."""
    define_series(pipelines)
    write_series(pipelines, SECOND)
    assert pipelines.call(SECOND) == [0, 0]
    check_series(pipelines, SECOND)
    write_series(pipelines, FIRST)
    assert pipelines.call(FIRST) == [0, 0]
    check_series(pipelines, FIRST, SECOND)


TEXTS = {
    FIRST: ["the mill", "a race", "to the sea", "", "all day", "long the wheel turns", "mill"],
    SECOND: ["the wheel", "zzz the sea", "a day", "turns to the mill race", "one"],
}
LENGTH = 8


def define_blocks(pipelines: Pipelines) -> None:
    pipelines.contract(columns={"id": {"type": "int", "nullable": False}, "text": {"type": "string"}}, key=["id"])
    sections = {
        "clean": [],
        "split": {
            "method": "given",
            "column": "id",
            "names": {"train": [str(n) for n in range(100) if n % 3], "test": list(range(0, 100, 3))},
        },
        "features": [{"column": "text", "encode": "characters", "lower": False}],
        "blocks": {"length": LENGTH, "boundary_token": "<end>", "order": "given", "order_by": ["id"]},
    }
    pipelines.define("digits", sections)


def documents(*nights: str) -> list[tuple[int, str, str]]:
    """(id, night, text)"""
    numbered = [(night, text) for night in (FIRST, SECOND) for text in TEXTS[night]]
    return [(number, night, text) for number, (night, text) in enumerate(numbered) if night in nights]


def write_texts(pipelines: Pipelines, night: str) -> None:
    lines = [f"{number},{text}" for number, _, text in documents(night)]
    (pipelines.raw / f"{night}.csv").write_text("\n".join(["id,text", *lines]) + "\n")


def split_of(number: int) -> str:
    return "train" if number % 3 else "test"


def check_blocks(pipelines: Pipelines, *nights: str, fitted_on: tuple[str, ...]) -> None:
    """Each split of each night is one line of documents, cut into blocks; what does not fill one is dropped."""
    counts = Counter(char for number, _, text in documents(*fitted_on) if split_of(number) == "train" for char in text)
    ids = {char: place for place, (char, _) in enumerate(sorted(counts.items(), key=lambda item: (-item[1], item[0])), start=2)}
    kept: Counter[tuple[str, str, tuple[int, ...]]] = Counter()
    dropped: Counter[tuple[str, str]] = Counter()
    num_tokens = 0
    for night in nights:
        for split in ("train", "test"):
            line: list[int] = []
            for number, _, text in documents(night):
                if split_of(number) == split:
                    line += [*(ids[char] for char in text if char in ids), 1]
            num_tokens += len(line)
            blocks = [tuple(line[begin : begin + LENGTH]) for begin in range(0, len(line), LENGTH)]
            kept.update((split, night, block) for block in blocks if len(block) == LENGTH)
            dropped["block_is_not_full", night] += sum(len(block) < LENGTH for block in blocks)
    gold = rows_of(pipelines.lake, "gold/digits")
    assert Counter((row["split"], row["_night"], tuple(array("i", row["text"]))) for row in gold) == kept
    check_gold_law(pipelines, kept.total(), +dropped)
    reasons = [row["reason"] for row in rows_of(pipelines.lake, "quarantine/gold/digits")]
    assert sum(row["num_tokens"] for row in gold) + sum(int(reason.split()[0]) for reason in reasons) == num_tokens
    check_law(pipelines.lake, "digits", num_raw=len(documents(*nights)))


def test_blocks_over_two_nights(pipelines: Pipelines) -> None:
    """A night adds its own blocks by the vocabulary that stands, in which it may have characters that are not known."""
    define_blocks(pipelines)
    write_texts(pipelines, FIRST)
    assert pipelines.call(FIRST) == [0, 0]
    check_blocks(pipelines, FIRST, fitted_on=(FIRST,))
    first = content(pipelines.lake, "gold/digits")
    write_texts(pipelines, SECOND)
    assert pipelines.call(SECOND) == [0, 0]
    check_blocks(pipelines, FIRST, SECOND, fitted_on=(FIRST,))
    assert content(pipelines.lake, "gold/digits", FIRST) == first


@pytest.mark.full
def test_blocks_that_are_fitted_anew(pipelines: Pipelines) -> None:
    define_blocks(pipelines)
    for night in (FIRST, SECOND):
        write_texts(pipelines, night)
        assert pipelines.call(night, "--set", "fit.refit=always") == [0, 0]
    check_blocks(pipelines, FIRST, SECOND, fitted_on=(FIRST, SECOND))
