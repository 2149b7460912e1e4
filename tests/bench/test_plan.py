"""The planning benchmark, with few row groups."""

from __future__ import annotations

import pytest

from bench import plan


def test_figures_and_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NUM_ROW_GROUPS": 2_000, "NUM_FILES": 20, "NUM_RANKS": 16, "GLOBAL_BATCH": 1_024}.items():
        monkeypatch.setattr(plan, name, value)
    figures = plan.measure()
    assert figures["num_pieces"] > figures["num_row_groups"] == 2_000
    assert 0 < figures["plan_seconds"] < plan.MAX_SECONDS
    result = plan.summarise([figures, figures])
    assert [(bound.name, bound.op, bound.bound) for bound in result.bounds] == [
        ("plan_seconds", "<=", 10.0),
        ("plan_memory_gib", "<=", 1.0),
    ]
    assert [figure.unit for figure in result.figures if figure.name in ("plan_memory_gib", "num_ranks", "index_from_text")] == [
        "GiB",
        "s",
        "ranks",
    ]
