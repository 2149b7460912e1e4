"""The benchmark of shuffles: what its pictures add up to, and a real night at a small size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bench import preprocess_shuffle as benchmark
from bench.preprocess_shuffle import Sums
from millrace.errors import SourceError

IMAGES = np.random.default_rng(3).integers(0, 256, (1_000, 28, 28), np.uint8)
LABELS = (np.arange(1_000) % 10).astype(np.uint8)


def test_pictures_are_a_function_of_their_number() -> None:
    pictures, labels = benchmark.draw(IMAGES, LABELS, np.arange(300))
    again, _ = benchmark.draw(IMAGES, LABELS, np.array([200, 7]))
    np.testing.assert_array_equal(again, pictures[[200, 7]])
    assert len({picture.tobytes() for picture in pictures}) == 300
    assert set(labels.tolist()) == set(range(10))
    corners = {image.tobytes() for image in IMAGES}
    for rows in (slice(0, 28), slice(28, 56)):
        assert {picture[rows, 28:].tobytes() for picture in pictures} <= corners


def test_what_is_drawn_adds_up_to_what_is_written_without_copies(tmp_path: Path) -> None:
    drawn = benchmark.write_pictures(tmp_path / "raw", IMAGES, LABELS, 20_000)
    tables = [pq.read_table(path) for path in sorted((tmp_path / "raw").iterdir())]
    rows = {row["image"]: row["digit"] for table in tables for row in table.to_pylist()}
    assert sum(table.num_rows for table in tables) == 20_000
    assert drawn == Sums(len(rows), sum(map(sum, rows)), sum(rows.values()))
    assert drawn.num_rows == 19_800


def test_missing_data_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"bench: expected MNIST's idx files; found .* Set MILLRACE_DATA"):
        benchmark.digits(tmp_path)


@pytest.mark.full
def test_a_night_is_measured_and_adds_up() -> None:
    """Starts a Spark session of its own."""
    result = benchmark.measure(IMAGES, LABELS, heap_bytes=512 * 1024**2, times=1 / 300, cap_bytes=3 * 1024**3)
    figures = {figure.name: figure.value for figure in result.figures}
    assert figures["num_rows"] == 3_424
    assert result.holds
