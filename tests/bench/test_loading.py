"""The loaders' benchmark: its rows, its figures, and a real run at a small size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from bench import loading
from bench.loading_data import SHAPES, Shape, arrays_of, write_table
from bench.loading_memory import repeated
from bench.loading_peers import LOADERS, index_of
from millrace.loading.columns import ColumnSpec
from millrace.loading.reader import read_in_order

SMALL = Shape(
    name="small",
    columns=(ColumnSpec(name="ids", dtype="int32", shape=(3,)), ColumnSpec(name="flag", dtype="bool")),
    num_rows=1200,
    num_files=2,
)


@pytest.fixture(scope="module")
def small_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tables")
    write_table(SMALL, str(directory / "small"))
    return directory


def test_the_table_holds_what_the_arrays_hold(small_table: Path) -> None:
    def key(columns: Mapping[str, np.ndarray]) -> bytes:
        return columns["ids"][0].tobytes()

    # commits without a night come in the order of their files' names, which are random
    read = sorted((batch.columns for batch in read_in_order(index_of(SMALL, small_table), SMALL.columns, 600)), key=key)
    expected = sorted((arrays_of(SMALL, file) for file in range(2)), key=key)
    for columns, arrays in zip(read, expected, strict=True):
        for name, values in arrays.items():
            np.testing.assert_array_equal(columns[name], values)


@pytest.mark.filterwarnings("ignore")  # Petastorm calls what its dependencies have deprecated
@pytest.mark.parametrize(
    "loader", ["millrace", "millrace_dataset", "arrow", "arrays", "tfrecord", "tfrecord_batched", "petastorm"]
)
def test_every_loader_gives_every_row(small_table: Path, loader: str) -> None:
    read = LOADERS[loader](SMALL, small_table)
    num_rows = SMALL.num_rows if loader.startswith("millrace") or loader == "arrow" else SMALL.file_rows
    assert [read(1), read(2)] == [num_rows, num_rows]


def test_shapes_are_those_of_the_bounds() -> None:
    assert {name: shape.row_bytes for name, shape in SHAPES.items()} == {
        "images": 784,
        "floats": 512,
        "columns": 100,
        "tokens": 1024,
    }
    assert len(SHAPES["columns"].columns) == 20


def test_a_table_many_times_over(small_table: Path) -> None:
    once = index_of(SMALL, small_table)
    (small_table / "links").mkdir()
    twice = repeated(once, 2, small_table / "links")
    assert twice.num_rows == 2400
    assert len(set(twice.files)) == 4
    flags = [batch.columns["flag"] for batch in read_in_order(twice, [SMALL.columns[1]], 1200)]
    np.testing.assert_array_equal(flags[0], flags[1])


def test_ratios_are_medians_of_each_rounds_own() -> None:
    rounds = [
        {
            ("images", "millrace"): 90.0,
            ("images", "petastorm"): 10.0,
            ("images", "arrow"): 100.0,
            ("images", "millrace_v1"): 95.0,
        },
        {("images", "millrace"): 10.0, ("images", "petastorm"): 1.0, ("images", "arrow"): 20.0, ("images", "millrace_v1"): 5.0},
        {
            ("images", "millrace"): 70.0,
            ("images", "petastorm"): 10.0,
            ("images", "arrow"): 100.0,
            ("images", "millrace_v1"): 90.0,
        },
    ]
    memory = {
        1: {"peak_bytes": 2.0 * 2**20, "start_bytes": 2.0**20, "num_windows": 6},
        10: {"peak_bytes": 3.0 * 2**20, "start_bytes": 2.0**20, "num_windows": 61},
    }
    result = loading.summarise(rounds, memory)
    figures = {figure.name: figure.value for figure in result.figures}
    assert figures["images/millrace"] == 70.0
    assert figures["images_millrace_v1_vs_arrow_loop"] == 0.9
    assert (figures["memory_10x/peak"], figures["memory_10x_above_start"]) == (3.0, 2.0)
    assert [(bound.name, bound.value, bound.holds) for bound in result.bounds] == [
        ("images_vs_petastorm", 9.0, True),
        ("images_vs_arrow_loop", 0.7, True),
        ("memory_10x", 1.5, False),
    ]


def test_processes_measure_in_turn() -> None:
    """One real round of two loaders on the smallest of the shapes."""
    result = loading.measure(1, shapes=[SHAPES["floats"]], loaders=["millrace", "arrow"], seconds=0.01)
    rates = {figure.name: figure.value for figure in result.figures}
    assert rates["floats/millrace"] > 0
    assert rates["floats/arrow"] > 0
    assert rates["floats_vs_arrow_loop"] > 0
