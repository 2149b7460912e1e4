"""Values carried forward: against a plain search, batch by batch, and from older nights."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from millrace.config.cleaning import CleanStep, fills_forward
from millrace.config.load import validate
from millrace.errors import ConfigError
from millrace.transforms.check_cleaning import check_steps
from millrace.transforms.forward import Filler, fill_forward
from tests.factories import make_contract

ROWS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from("123"), st.booleans(), st.none() | st.integers(0, 99)), max_size=30)
SCHEMA = "row_id string, g string, t int, x double, _night string, _source_file string, _rule string"


@given(rows=ROWS, cuts=st.lists(st.integers(1, 6), min_size=30, max_size=30))
@settings(deadline=None)
def test_against_a_plain_search(rows: list[tuple[int, str, bool, int | None]], cuts: list[int]) -> None:
    """Rows of (group, night, takes part, value) in the order of time; cut into batches anywhere."""
    rows = sorted(rows, key=lambda row: row[0])
    expected: list[int | None] = []
    for number, (group, night, takes, value) in enumerate(rows):
        if takes and value is None:
            known = zip(rows[:number], expected, strict=True)
            seen = [x for (g, n, t, _), x in known if (g, t) == (group, True) and n <= night and x is not None]
            expected.append(seen[-1] if seen else None)
            continue
        expected.append(value)
    filler, found, first = Filler(pa.int64()), [], 0
    for cut in cuts:
        part = rows[first : first + cut]
        starts = [number == 0 or rows[number][0] != rows[number - 1][0] for number in range(first, first + len(part))]
        column = pa.array([value for *_, value in part], pa.int64())
        found += filler.fill(column, starts, [row[1] for row in part], [row[2] for row in part]).to_pylist()
        first += cut
    assert found == expected


def test_values_of_older_nights(spark: SparkSession) -> None:
    """Those before it in time only, of the same group (NULL is one), never of a newer night, and a tagged row takes none."""
    older = spark.createDataFrame(
        [("o1", "a", 1, 1.0, "n1"), ("o2", "a", 5, 5.0, "n1"), ("o3", None, 1, 9.0, "n1"), ("o4", "b", None, 7.0, "n1")],
        "row_id string, g string, t int, x double, _night string",
    )
    rows = spark.createDataFrame(
        [
            ("r1", "a", 0, None, "n2", "f", None),
            ("r2", "a", 3, float("nan"), "n2", "f", None),
            ("r3", "a", 6, None, "n2", "f", None),
            ("r4", None, 2, None, "n2", "f", None),
            ("r5", "b", 2, None, "n2", "f", None),
            ("r6", "a", 4, 4.0, "n3", "f", None),
            ("r7", "a", 4, None, "n2", "g", None),
            ("r8", "a", 7, None, "n2", "f", "earlier"),
            ("r9", "a", 7, None, "n3", "f", None),
        ],
        SCHEMA,
    )
    for parts in (1, 5):
        done = fill_forward(rows.repartition(parts), columns=["x"], time="t", group=["g"], older=older)
        assert done.schema == rows.schema
        assert {row["row_id"]: row["x"] for row in done.collect()} == {
            **{"r1": None, "r2": 1.0, "r3": 5.0, "r4": 9.0, "r5": None},
            **{"r6": 4.0, "r7": 1.0, "r8": None, "r9": 5.0},
        }


def steps(*raw: dict[str, object]) -> list[CleanStep]:
    return [validate(CleanStep, each, origin="a test") for each in raw]


def test_what_must_stand_before_drop_duplicates() -> None:
    """Rows of older nights are compared as silver has them, after all steps."""
    contract = make_contract({"g": {"type": "string"}, "x": {"type": "int"}})
    dropped = {"drop_duplicates": ["g", "x"]}
    check_steps(steps({"trim": ["g"]}, dropped, {"dropna": ["x"]}), contract)
    for found, later in {"trim of g": {"trim": ["g"]}, "clip of x": {"clip": {"columns": ["x"], "low": 0}}}.items():
        with pytest.raises(ConfigError) as caught:
            check_steps(steps(dropped, later), contract)
        assert str(caught.value) == (
            "config: expected clean to change the columns of drop_duplicates before it, for it reads those of older nights in "
            f"silver; found {found} after it. Put that step first."
        )


def test_what_must_stand_before_it() -> None:
    columns = {"g": {"type": "string"}, "t": {"type": "int"}, "x": {"type": "double"}}
    forward = {"fillna": {"columns": ["x"], "forward": {"time": "t", "group": ["g"]}}}
    assert [fills_forward(step) for step in steps(forward, {"trim": ["g"]})] == [True, False]
    contract = make_contract(columns)
    check_steps(steps({"trim": ["g"]}, forward, {"clip": {"columns": ["x"], "low": 0}}, {"dropna": ["x"]}), contract)
    cases = {"trim of g": {"trim": ["g"]}, "map of x": {"map": {"column": "x", "values": {1.0: 2.0}}}}
    cases["cast of x"] = {"cast": {"column": "t", "type": "double", "into": "x"}}
    cases["fillna of x"] = {"fillna": {"columns": ["x"], "value": 0.0}}
    for found, later in cases.items():
        with pytest.raises(ConfigError) as caught:
            check_steps(steps(forward, later), contract)
        assert str(caught.value) == (
            "config: expected clean to change the columns of fillna.forward before it, for it reads them again in silver; "
            f"found {found} after it. Put that step first."
        )
    with pytest.raises(ConfigError) as caught:
        check_steps(steps(forward), make_contract(columns | {"k": {"type": "int"}}, key=["k"], upsert=True))
    assert str(caught.value) == (
        "config: expected clean.fillna.forward without upsert in tiny_raw: a row that gives way takes its values with it; "
        "found both. Leave one of them out."
    )
