"""The joint benchmark: all parts' figures and bounds, and a report of each part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import preprocess
from bench.report import Bound, Figure, Result
from millrace.errors import MillraceError


def part(*bounds: str, value: float = 1.0) -> Callable[[int], Result]:
    """A part that states these bounds; each holds up to 2."""
    stated = [Bound(name, value, "<=", 2.0) for name in bounds]
    return lambda num_rounds: Result([Figure("wall", value, "s"), Figure("shuffle/rounds", num_rounds, "")], stated)


def test_all_parts_are_joined(tmp_path: Path) -> None:
    parts = {"preprocess_night": part(*preprocess.WANTED[1:]), "preprocess_shuffle": part(preprocess.WANTED[0], value=3.0)}
    result = preprocess.measure(4, parts, tmp_path)
    assert {figure.name: figure.value for figure in result.figures} == {
        "night/wall": 1.0,
        "night/shuffle/rounds": 4.0,
        "shuffle/wall": 3.0,
        "shuffle/rounds": 4.0,
    }
    assert {bound.name: bound.holds for bound in result.bounds} == {
        name: name != preprocess.WANTED[0] for name in preprocess.WANTED
    }
    assert not result.holds
    assert sorted(path.name for path in tmp_path.iterdir()) == ["preprocess_night.json", "preprocess_shuffle.json"]


def test_a_bound_that_no_part_states_and_one_that_two_do(tmp_path: Path) -> None:
    missing, *others = preprocess.WANTED
    with pytest.raises(MillraceError) as caught:
        preprocess.measure(1, {"one": part(*others), "two": part(others[0])}, tmp_path)
    assert str(caught.value) == (
        f"bench preprocess: expected each of the bounds {', '.join(preprocess.WANTED)} once; "
        f"found otherwise of {missing}, {others[0]}. Look at the parts' summaries and at WANTED."
    )
    assert json.loads((tmp_path / "one.json").read_text())["bounds"]
