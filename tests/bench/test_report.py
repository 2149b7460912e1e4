"""Reports: what is written, and which bounds hold."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from bench.report import Bound, Figure, Result, print_table, write_json

RESULT = Result(
    figures=[Figure("night", 81.25, "s"), Figure("rows", 51234.0, "rows")],
    bounds=[Bound("night_vs_plain_script", 3.5, "<=", 4.0)],
    details=[Figure("round_1/night", 80.0, "s")],
)


@pytest.mark.parametrize(
    ("value", "op", "bound", "holds"),
    [
        (4.0, "<=", 4.0, True),
        (4.1, "<=", 4.0, False),
        (4.0, "<", 4.0, False),
        (0.98, ">=", 0.975, True),
        (0.97, ">=", 0.975, False),
        (1.0, ">", 1.0, False),
        (0.0, "==", 0.0, True),
        (math.nan, "<=", 4.0, False),
    ],
)
def test_a_bound_holds_or_not(value: float, op: str, bound: float, holds: bool) -> None:
    assert Bound("some", value, op, bound).holds is holds


def test_an_unknown_comparison_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^op must be one of <=, <, >=, >, ==, and is '=<'$"):
        Bound("some", 1.0, "=<", 2.0)


def test_the_file_has_figures_bounds_machine_and_versions(tmp_path: Path) -> None:
    path = write_json("night", RESULT, tmp_path / "build" / "bench")
    assert path == tmp_path / "build" / "bench" / "night.json"
    assert [found.name for found in path.parent.iterdir()] == ["night.json"]
    written = json.loads(path.read_text())
    assert written["figures"] == [
        {"name": "night", "value": 81.25, "unit": "s"},
        {"name": "rows", "value": 51234.0, "unit": "rows"},
        {"name": "round_1/night", "value": 80.0, "unit": "s"},
    ]
    assert written["bounds"] == [{"name": "night_vs_plain_script", "value": 3.5, "op": "<=", "bound": 4.0, "holds": True}]
    assert set(written["machine"]) == {"cpu_model", "num_cores", "memory_gib", "system"}
    assert written["machine"]["num_cores"] >= 1
    assert {"python", "pyspark", "keras", "numpy"} <= set(written["versions"])


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = write_json("night", RESULT, tmp_path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write_json("night", Result(figures=[Figure("night", math.nan, "s")]), tmp_path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["night.json"]


def test_the_table_shows_figures_and_verdicts() -> None:
    result = Result(figures=RESULT.figures, bounds=[*RESULT.bounds, Bound("accuracy", 0.9, ">=", 0.975)], details=RESULT.details)
    screen = io.StringIO()
    print_table("night", result, Console(file=screen, width=100))
    text = screen.getvalue()
    assert "81.25" in text
    assert "51,234" in text
    assert "round_1" not in text
    assert "night_vs_plain_script: 3.5 <= 4 holds\n" in text
    assert "accuracy: 0.9 >= 0.975 does not hold\n" in text
    assert not result.holds
