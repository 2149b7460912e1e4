"""Sources whose columns change from night to night: what comes, goes and waits in bronze for the contract to want it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.flows.law import check_law, content, errors_of, files_of, rows_of
from tests.flows.pipelines import FIRST, SECOND, Pipelines

THIRD = "2026-11-23"
COLUMNS = {"id": {"type": "int", "nullable": False}, "kind": {"type": "string"}, "size": {"type": "double"}}
SECTIONS: dict[str, object] = {
    "clean": [],
    "split": {"key": ["id"], "seed": 7, "fractions": {"train": 0.8, "validation": 0.2}},
    "features": [{"column": "size", "encode": "zscore"}],
    "quality": {"max_reject_ratio": 1.0},
}
NUM_ROWS = 12
FORMS = ["csv", *(pytest.param(form, marks=pytest.mark.full) for form in ("jsonl", "parquet"))]


def define(pipelines: Pipelines, form: str, columns: dict[str, Any], **evolution: str) -> None:
    pipelines.contract(columns=columns, key=["id"], evolution=evolution)
    pipelines.define("digits", SECTIONS, format=form)


def write(pipelines: Pipelines, form: str, name: str, first: int, *columns: str, scale: int = 1) -> Path:
    """Rows from `first` on, with these columns beside the id."""
    made = {
        "kind": lambda number: f"k{number % 3}",
        "size": lambda number: number * 0.5,
        "color": lambda number: number * 11 * scale,
    }
    rows = [{"id": number, **{name: made[name](number) for name in columns}} for number in range(first, first + NUM_ROWS)]
    path = pipelines.raw / f"{name}.{form}"
    if form == "parquet":
        kinds = {"id": pa.int32(), "kind": pa.string(), "size": pa.float64(), "color": pa.int32() if scale == 1 else pa.int64()}
        pq.write_table(pa.Table.from_pylist(rows, pa.schema([(name, kinds[name]) for name in ("id", *columns)])), path)
    elif form == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        path.write_text("\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]) + "\n")
    return path


@pytest.mark.parametrize("form", FORMS)
def test_columns_that_come_and_go(form: str, pipelines: Pipelines) -> None:
    """Four nights' work on one lake: night 2 has a column more and one less, night 1 is done again, and then the contract comes
    to have the column: silver has its values of all nights."""
    evolution = {"added": "evolve", "missing": "null"}
    define(pipelines, form, COLUMNS, **evolution)
    write(pipelines, form, "a", 0, "kind", "size")
    assert pipelines.call(FIRST) == [0, 0]
    tables = ("bronze/digits", "silver/digits", "gold/digits")
    before = {table: (content(pipelines.lake, table, FIRST), files_of(pipelines.lake, table, FIRST)) for table in tables}
    write(pipelines, form, "b", 100, "size", "color")
    assert pipelines.call(SECOND) == [0, 0]
    assert {t: (content(pipelines.lake, t, FIRST), files_of(pipelines.lake, t, FIRST)) for t in tables} == before
    bronze = {row["id"]: row for row in rows_of(pipelines.lake, "bronze/digits")}
    assert {
        number: row["_added"] and dict(row["_added"]) for number, row in sorted((int(i), row) for i, row in bronze.items())
    } == {
        **dict.fromkeys(range(NUM_ROWS)),
        **{number: {"color": str(number * 11)} for number in range(100, 100 + NUM_ROWS)},
    }
    kinds = {row["id"]: row["kind"] for row in rows_of(pipelines.lake, "silver/digits")}
    assert kinds == {**{n: f"k{n % 3}" for n in range(NUM_ROWS)}, **dict.fromkeys(range(100, 100 + NUM_ROWS))}
    check_law(pipelines.lake, "digits", num_raw=2 * NUM_ROWS)

    whole = {table: content(pipelines.lake, table) for table in tables}
    assert pipelines.call(FIRST, "--force", steps=("ingest",)) == [0]
    assert {table: content(pipelines.lake, table) for table in tables} == whole

    define(pipelines, form, {**COLUMNS, "color": {"type": "int"}}, **evolution)
    write(pipelines, form, "c", 200, "kind", "size", "color")
    assert pipelines.call(THIRD) == [0, 0]
    colors = {row["id"]: row["color"] for row in rows_of(pipelines.lake, "silver/digits")}
    come = (*range(100, 100 + NUM_ROWS), *range(200, 200 + NUM_ROWS))
    assert colors == {**dict.fromkeys(range(NUM_ROWS)), **{number: number * 11 for number in come}}
    check_law(pipelines.lake, "digits", num_raw=3 * NUM_ROWS)


@pytest.mark.parametrize("form", FORMS)
def test_a_missing_column_is_quarantined(form: str, pipelines: Pipelines) -> None:
    """The rows of one file, or objects, and no others."""
    define(pipelines, form, COLUMNS, missing="quarantine")
    write(pipelines, form, "a", 0, "kind", "size")
    write(pipelines, form, "b", 100, "size")
    assert pipelines.call(FIRST) == [0, 0]
    rejected = rows_of(pipelines.lake, "quarantine/sources/digits")
    who, what = ("it", "keys") if form == "jsonl" else ("the file", "columns")
    assert {(row["rule"], row["reason"], row["action"], row["_night"]) for row in rejected} == {
        ("column_missing", f"{who} does not have {what} that the contract has: kind", "quarantined", FIRST)
    }
    assert len({row["record"] for row in rejected}) == len(rejected) == NUM_ROWS
    assert sorted(row["id"] for row in rows_of(pipelines.lake, "silver/digits")) == list(range(NUM_ROWS))
    check_law(pipelines.lake, "digits", num_raw=2 * NUM_ROWS)


@pytest.mark.full
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_kept_text_that_is_no_value_of_the_contracts_type(form: str, pipelines: Pipelines) -> None:
    """What the contract comes to want is judged like any other value, also where bronze has the column of newer nights."""
    define(pipelines, form, COLUMNS, added="evolve")
    write(pipelines, form, "a", 0, "kind", "size", "color", scale=10**9)
    assert pipelines.call(FIRST) == [0, 0]
    define(pipelines, form, {**COLUMNS, "color": {"type": "int"}}, added="evolve")
    write(pipelines, form, "b", 100, "kind", "size", "color")
    assert pipelines.call(SECOND) == [0, 0]
    colors = {row["id"]: row["color"] for row in rows_of(pipelines.lake, "silver/digits")}
    assert colors == {0: 0, **{number: number * 11 for number in range(100, 100 + NUM_ROWS)}}
    rejected = rows_of(pipelines.lake, "quarantine/pipelines/digits")
    assert {(row["rule"], row["_night"]) for row in rejected} == {("color_is_no_int", FIRST)}
    check_law(pipelines.lake, "digits", num_raw=2 * NUM_ROWS)


@pytest.mark.full
@pytest.mark.parametrize(("form", "step"), [("csv", 1), ("jsonl", 1), ("parquet", 0)])
def test_retyped_values_end_the_step_where_they_are_refused(
    form: str, step: int, pipelines: Pipelines, capsys: pytest.CaptureFixture[str]
) -> None:
    """Texts when they are cast, columns with a type before anything is read."""
    define(pipelines, form, {**COLUMNS, "kind": {"type": "int"}}, retyped="refuse")
    write(pipelines, form, "a", 0, "kind", "size")
    assert pipelines.call(FIRST, steps=("ingest", "preprocess")[: step + 1]) == [*[0] * step, 2]
    said = capsys.readouterr().err
    assert ("expected values of type int in kind (evolution.retyped is refuse); found 12 that are none" in said) == bool(step)
    assert ("expected kind as int in " in said) != bool(step)


def test_policies_that_nothing_would_read(pipelines: Pipelines, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of text name no columns, so that none is ever too many or too few."""
    for name, policy, expected in (("added", "evolve", "refuse or quarantine"), ("missing", "null", "refuse")):
        pipelines.contract(columns={"text": {"type": "string"}}, key=["text"], evolution={name: policy})
        features, split = [{"column": "text", "encode": "characters"}], {"key": ["text"], "fractions": {"train": 1.0}}
        pipelines.define("digits", {**SECTIONS, "split": split, "features": features}, format="text")
        assert pipelines.call(FIRST, steps=("ingest",)) == [2]
        assert errors_of(capsys.readouterr().err) == [
            f"contract: expected evolution.{name} of digits_raw to be {expected}, since text files name no columns; "
            f"found {policy}. Leave it out."
        ]
    pipelines.contract(columns={"id": {"type": "int", "nullable": False}}, key=["id"], evolution={"missing": "null"})
    assert pipelines.call(FIRST, steps=("ingest",)) == [2]
    assert "evolution.missing is null, but no column is nullable; make some so, or let it be refuse or quarantine" in (
        capsys.readouterr().err
    )


def test_a_typed_column_that_becomes_another_type(pipelines: Pipelines, capsys: pytest.CaptureFixture[str]) -> None:
    """Bronze keeps types, and Delta merges no int with a bigint: one clear error, and another source begins anew."""
    define(pipelines, "parquet", {**COLUMNS, "color": {"type": "int"}})
    write(pipelines, "parquet", "a", 0, "kind", "size", "color")
    assert pipelines.call(FIRST) == [0, 0]
    define(pipelines, "parquet", {**COLUMNS, "color": {"type": "bigint"}})
    write(pipelines, "parquet", "b", 100, "kind", "size", "color", scale=2)
    capsys.readouterr()
    assert pipelines.call(SECOND, steps=("ingest",)) == [2]
    printed = capsys.readouterr().err
    assert (
        "bronze: expected columns of the types that bronze/digits has; found Failed to merge fields 'color' and 'color'"
        in printed
    )
    assert "Keep the type, or give the source another name: then all begins anew." in printed
    assert "Traceback" not in printed
    pipelines.define("digits", SECTIONS, format="parquet", name="anew")
    assert pipelines.call(SECOND) == [0, 0]
    assert {row["id"] for row in rows_of(pipelines.lake, "silver/digits")} == {*range(100, 100 + NUM_ROWS)}
