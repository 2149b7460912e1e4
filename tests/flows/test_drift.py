"""Nights whose rows have drifted from those that the state was fitted on: what stands, what stops and what is made anew."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import pytest

from millrace.fit.state import FittedState
from millrace.lake.ledger import Entry, Ledger
from tests.flows.law import check_law, content, errors_of, files_of, rows_of, rows_written
from tests.flows.pipelines import FIRST, SECOND, Pipelines

THIRD, FOURTH = "2026-11-23", "2026-11-24"
NUM_ROWS = 40
TABLES = ("silver/digits", "gold/digits")


def define(pipelines: Pipelines, **sections: object) -> None:
    columns = {"id": {"type": "int", "nullable": False}, "size": {"type": "double"}, "kind": {"type": "string"}}
    pipelines.contract(columns=columns, key=["id"])
    usual = {
        "clean": [{"fillna": {"columns": ["size"], "statistic": "median"}}],
        "split": {"key": ["id"], "seed": 7, "fractions": {"train": 0.8, "validation": 0.2}},
        "features": [{"column": "size", "encode": "zscore"}],
        "quality": {"drift": {"min_rows": 20}},
    }
    pipelines.define("digits", {**usual, **sections})


def write(pipelines: Pipelines, name: str, first: int, *, shift: int = 0, kind: str = "a") -> None:
    """Rows whose sizes are 1 to 39, shifted; the first one has none."""
    rows = [f"{first + n},{'' if n == 0 else n + shift},{kind}" for n in range(NUM_ROWS)]
    (pipelines.raw / f"{name}.csv").write_text("\n".join(["id,size,kind", *rows]) + "\n")


def last(pipelines: Pipelines, status: str = "succeeded") -> Entry:
    entries = Ledger.read(pipelines.lake).entries
    return next(each for each in reversed(entries) if (each.step, each.status) == ("preprocess", status))


def state_of(pipelines: Pipelines) -> FittedState:
    entry = last(pipelines)
    return FittedState.load(pipelines.lake, "digits", entry.run.run_id, entry.step_key)


def files(pipelines: Pipelines, *nights: str) -> dict[tuple[str, str], set[str]]:
    return {(table, night): files_of(pipelines.lake, table, night) for table in TABLES for night in nights}


def filled(pipelines: Pipelines) -> set[float]:
    """What stands in silver for the sizes that are missing."""
    return {row["size"] for row in rows_of(pipelines.lake, "silver/digits") if row["id"] % 100 == 0}


def check_gold(pipelines: Pipelines, fitted_on: Collection[str]) -> None:
    """Gold is the z-score of silver's sizes, by mean and deviation of the train rows of these nights."""
    silver = {row["row_id"]: row for row in rows_of(pipelines.lake, "silver/digits")}
    gold = {row["row_id"]: np.frombuffer(row["features"], np.float32)[0] for row in rows_of(pipelines.lake, "gold/digits")}
    train = np.array([row["size"] for row in silver.values() if row["split"] == "train" and row["_night"] in fitted_on])
    assert gold.keys() == silver.keys()
    for row_id, row in silver.items():
        assert math.isclose(gold[row_id], (row["size"] - train.mean()) / train.std(), rel_tol=1e-5, abs_tol=1e-5)


def drift_of(pipelines: Pipelines, night: str) -> dict[str, tuple[float, str | None]]:
    rows = rows_of(pipelines.lake, "metrics/profiles")
    return {
        row["column"]: (row["value"], row["text"]) for row in rows if (row["_night"], row["statistic"]) == (night, "drift_psi")
    }


def test_nights_that_drift(pipelines: Pipelines, capsys: pytest.CaptureFixture[str]) -> None:
    """Four nights on one lake, since each needs what stood before it; 20 s is little for so many."""
    define(pipelines)
    write(pipelines, "a", 0)
    assert pipelines.call(FIRST) == [0, 0]
    fitted = state_of(pipelines)
    (median,) = filled(pipelines)

    # A night like the first: what was fitted stands, and its own rows alone are written.
    write(pipelines, "b", 100)
    before = files(pipelines, FIRST)
    assert pipelines.call(SECOND) == [0, 0]
    assert "drift" not in capsys.readouterr().err
    assert (state_of(pipelines).features, state_of(pipelines).reference) == (fitted.features, fitted.profile)
    assert [rows_written(pipelines.lake, table) for table in TABLES] == [NUM_ROWS, NUM_ROWS]
    assert files(pipelines, FIRST) == before
    check_gold(pipelines, {FIRST})
    assert {text for _, text in drift_of(pipelines, SECOND).values()} == {None}

    # One that stops: readers see what they saw, bronze has its rows, and it may be done again.
    write(pipelines, "c", 200, shift=1000)
    seen, before = {table: content(pipelines.lake, table) for table in TABLES}, files(pipelines, FIRST, SECOND)
    assert pipelines.call(THIRD, "--set", "quality.drift.on_drift=stop") == [0, 2]
    (error,) = errors_of(capsys.readouterr().err)
    assert error.startswith(
        "preprocess: expected columns like those of silver/digits when it was fitted on "
        "(psi at most 0.2, quality.drift); found size "
    )
    assert error.endswith(". Mend the source, fit anew (on_drift: refit), raise the limit, or exclude the column.")
    assert last(pipelines, "failed").error == error
    assert {table: content(pipelines.lake, table) for table in TABLES} == seen
    assert len(rows_of(pipelines.lake, "bronze/digits")) == 3 * NUM_ROWS

    # The same night with a warning: what was fitted, and what was made of older nights, stands.
    assert pipelines.call(THIRD) == [0, 0]
    assert "drift against silver/digits when it was fitted on: psi at most 0.2 expected, size " in capsys.readouterr().err
    assert (state_of(pipelines).features, state_of(pipelines).reference) == (fitted.features, fitted.profile)
    assert files(pipelines, FIRST, SECOND) == before
    assert filled(pipelines) == {median}
    check_gold(pipelines, {FIRST})
    assert {column: text for column, (_, text) in drift_of(pipelines, THIRD).items()} == {"size": "drifted", "kind": None}
    check_law(pipelines.lake, "digits", num_raw=3 * NUM_ROWS)

    # One that fits anew: what cleans the rows too, so that silver and gold are all made again.
    write(pipelines, "d", 300, shift=1000)
    assert pipelines.call(FOURTH, "--set", "quality.drift.on_drift=refit") == [0, 0]
    assert capsys.readouterr().err.count("drift against silver/digits") == 1
    assert [rows_written(pipelines.lake, table) for table in TABLES] == [4 * NUM_ROWS, 4 * NUM_ROWS]
    (new,) = filled(pipelines)
    assert new != median
    check_gold(pipelines, {FIRST, SECOND, THIRD, FOURTH})
    assert state_of(pipelines).reference == state_of(pipelines).profile != fitted.profile
    assert {column: text for column, (_, text) in drift_of(pipelines, FOURTH).items()} == {"size": "drifted", "kind": None}
    check_law(pipelines.lake, "digits", num_raw=4 * NUM_ROWS)


@pytest.mark.full
@pytest.mark.parametrize(
    ("options", "anew"),
    [
        (("quality.drift.on_drift=refit",), True),
        (("fit.refit=always", "quality.drift=null"), True),
        (("quality.drift.limit=1000",), False),
    ],
)
def test_what_fits_anew_without_fitted_cleaning(pipelines: Pipelines, options: tuple[str, ...], anew: bool) -> None:
    """Silver's older nights stay as they are; gold is written anew by what was fitted anew."""
    define(pipelines, clean=[{"dropna": ["size"]}])
    write(pipelines, "a", 0)
    assert pipelines.call(FIRST) == [0, 0]
    before = files(pipelines, FIRST)
    write(pipelines, "b", 100, shift=1000)
    assert pipelines.call(SECOND, *(word for option in options for word in ("--set", option))) == [0, 0]
    assert files(pipelines, FIRST)["silver/digits", FIRST] == before["silver/digits", FIRST]
    assert (files(pipelines, FIRST)["gold/digits", FIRST] == before["gold/digits", FIRST]) != anew
    check_gold(pipelines, {FIRST, SECOND} if anew else {FIRST})
    check_law(pipelines.lake, "digits", num_raw=2 * NUM_ROWS)


@pytest.mark.full
@pytest.mark.parametrize(("on_drift", "codes"), [("stop", [0, 2]), ("warn", [0, 0]), ("refit", [0, 0])])
def test_a_class_that_comes_does_not_hide_drift(pipelines: Pipelines, on_drift: str, codes: list[int]) -> None:
    """All nights are looked at again for the class; the night that brought it is still compared with what stood."""
    define(pipelines, label={"column": "kind", "kind": "class"}, clean=[{"dropna": ["size"]}])
    write(pipelines, "a", 0)
    assert pipelines.call(FIRST) == [0, 0]
    write(pipelines, "b", 100, shift=1000, kind="b")
    assert pipelines.call(SECOND, "--set", f"quality.drift.on_drift={on_drift}") == codes
    if codes == [0, 0]:
        assert drift_of(pipelines, SECOND)["size"][1] == "drifted"
        assert state_of(pipelines).classes == ("a", "b")
        check_gold(pipelines, {FIRST, SECOND})
        check_law(pipelines.lake, "digits", num_raw=2 * NUM_ROWS)
    assert len(rows_of(pipelines.lake, "gold/digits")) == (NUM_ROWS - 1) * (2 if codes == [0, 0] else 1)


@pytest.mark.full
@pytest.mark.parametrize("materialize", [["bronze", "silver", "gold"], ["gold"]], ids=["whole", "gold"])
def test_a_night_that_is_done_again_is_compared_with_what_stood(pipelines: Pipelines, materialize: list[str]) -> None:
    """All is made anew for it; the rows that have come to it stop it all the same. In gold alone, also where each night fits."""
    define(pipelines, clean=[{"dropna": ["size"]}], materialize=materialize)
    write(pipelines, "a", 0)
    assert pipelines.call(FIRST) == [0, 0]
    write(pipelines, "b", 100)
    assert pipelines.call(SECOND) == [0, 0]
    stop = ("--set", "quality.drift.on_drift=stop")
    assert pipelines.call(SECOND, "--force", *stop) == [0, 0]
    write(pipelines, "c", 200, shift=1000)
    assert pipelines.call(SECOND, "--force", *stop) == [0, 2]
    if materialize == ["gold"]:
        assert pipelines.call(SECOND, "--force", *stop, "--set", "fit.refit=always") == [0, 2]
    assert len(rows_of(pipelines.lake, "gold/digits")) == 2 * (NUM_ROWS - 1)


@pytest.mark.full
def test_a_profile_that_gold_alone_comes_to_want_is_of_all_its_rows(pipelines: Pipelines) -> None:
    define(pipelines, clean=[{"dropna": ["size"]}], materialize=["gold"], quality={"profile": False})
    for night, name, first in ((FIRST, "a", 0), (SECOND, "b", 100)):
        write(pipelines, name, first)
        options = () if night == FIRST else ("--set", "quality.profile=true")
        assert pipelines.call(night, *options) == [0, 0]
    rows = rows_of(pipelines.lake, "metrics/profiles")
    assert {row["value"] for row in rows if row["statistic"] == "num_rows"} == {2.0 * (NUM_ROWS - 1)}
    assert state_of(pipelines).reference == state_of(pipelines).profile
