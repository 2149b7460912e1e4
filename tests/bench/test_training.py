"""The training benchmark: its figures, and a real run at a small size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import training
from bench.training_peers import request_for, rows, write_table
from millrace.loading.reader import read_in_order
from millrace.training.request import resolve_index

CNN_ROUNDS = [
    {("cnn", side): rate for side, rate in zip(("loop_1", "fit_1", "workers_2", "loops_2", "fits_2"), rates, strict=True)}
    for rates in [(30.0, 20.0, 20.0, 25.0, 16.0), (40.0, 20.0, 18.0, 20.0, 24.0), (20.0, 20.0, 8.0, 10.0, 4.0)]
]


def test_ratios_are_medians_of_each_rounds_own() -> None:
    result = training.summarise(CNN_ROUNDS, {"session": 4.5})
    figures = {figure.name: figure.value for figure in result.figures}
    assert figures["cnn/loop_1"] == 30.0
    assert figures["start/session"] == 4.5
    assert 0 < figures["cnn/efficiency_on_1024_ranks_on_paper"] < figures["cnn/efficiency_on_2_ranks_on_paper"] < 1
    assert [(bound.name, bound.value, bound.holds) for bound in result.bounds] == [
        ("step_vs_keras_cnn", 1.5, True),
        ("two_workers_vs_two_fit", 1.25, True),
        ("two_workers_vs_two_loops", 0.8, True),
    ]


def test_the_table_holds_what_fit_gets(tmp_path: Path) -> None:
    write_table(str(tmp_path / "digits"), 300)
    request = request_for("mlp", threads=1, batch=128, table=str(tmp_path / "digits"), checkpoints=str(tmp_path / "checkpoints"))
    [batch] = list(read_in_order(resolve_index(request.train), request.columns, 300))
    images, digits = rows(300)
    np.testing.assert_array_equal(batch.columns["image"], images)
    np.testing.assert_array_equal(batch.columns["label"], digits)


@pytest.mark.full
def test_all_sides_take_steps() -> None:
    """One real round of the MLP: eight processes, of which two are ranks of one run."""
    result = training.measure(1, steps={"mlp": 3}, starts=False)
    rates = {figure.name: figure.value for figure in result.figures}
    assert all(rates[f"mlp/{side}"] > 0 for side in ("loop_1", "fit_1", "workers_2", "loops_2", "fits_2"))
