"""Fitted state: saved, found again, and classes in one order whatever order they came in."""

from __future__ import annotations

from itertools import permutations

import pytest

from millrace.errors import LakeError
from millrace.fit.state import FittedState, merge_classes
from millrace.lake.layout import Lake


def test_state_comes_back_as_it_was(lake: Lake) -> None:
    state = FittedState("hash", {"2026-11-22": "files"}, ("0", "1"), {"train": 2, "test": 1})
    state.save(lake, "tiny", "run", "0123456789abcdef0")
    assert FittedState.load(lake, "tiny", "run", "0123456789abcdef0") == state
    with pytest.raises(LakeError, match=r"expected the file .*fitted-feedc0de.json; found none"):
        FittedState.load(lake, "tiny", "run", "feedc0de")


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["1", "01", "001"], ("001", "01", "1")),
        (["b", "a", "10"], ("10", "a", "b")),
        ([], ()),
    ],
)
def test_classes_have_one_order(values: list[str], classes: tuple[str, ...]) -> None:
    for order in permutations(values):
        assert merge_classes([], order) == classes
        assert merge_classes(order[:1], order) == classes


def test_classes_that_stand_stay() -> None:
    assert merge_classes(("0", "2"), [1, 2]) == ("0", "1", "2")
