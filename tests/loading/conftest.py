"""Small Delta tables with known rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import WriterProperties, write_deltalake


def _rows(first: int, count: int, *, split: str, night: str) -> pa.Table:
    numbers = range(first, first + count)
    return pa.table(
        {
            "row_id": pa.array([f"row-{number}" for number in numbers], pa.string()),
            "image": pa.array([bytes([number // 256, number % 256, 7, 9]) for number in numbers], pa.binary()),
            "digit": pa.array([number % 10 for number in numbers], pa.int32()),
            "split": [split] * count,
            "_night": [night] * count,
        }
    )


@pytest.fixture
def make_rows() -> Callable[..., pa.Table]:
    """Rows numbered from `first`: the image holds the number in its first two bytes, and the row_id spells it out."""

    def make(first: int, count: int, *, split: str = "train", night: str = "2026-11-22") -> pa.Table:
        return _rows(first, count, split=split, night=night)

    return make


@pytest.fixture
def numbers_of() -> Callable[[np.ndarray], list[int]]:
    """The row numbers that `make_rows` put into images. images: (rows, 2, 2, 1) uint8"""

    def numbers(images: np.ndarray) -> list[int]:
        flat = images.reshape(len(images), 4).astype(np.int64)
        return (flat[:, 0] * 256 + flat[:, 1]).tolist()

    return numbers


@pytest.fixture
def digits_table(tmp_path: Path) -> Callable[..., str]:
    """Writes a table with one file and one commit for each number of rows, in row groups of at most `max_rows`."""

    def write(*file_rows: int, max_rows: int = 64) -> str:
        uri = str(tmp_path / "gold")
        properties = WriterProperties(max_row_group_size=max_rows, write_batch_size=max_rows)
        first = 0
        for number, count in enumerate(file_rows):
            rows = _rows(first, count, split="train", night=f"2026-11-{number + 1:02d}")
            write_deltalake(uri, rows, mode="append", partition_by=["split"], writer_properties=properties)
            first += count
        return uri

    return write


@pytest.fixture
def numbered_files(tmp_path: Path) -> Callable[..., str]:
    """Writes plain Parquet files: for each its row groups' sizes. row_id spells out `number`; `tokens` has number % 7 of them."""

    def write(*files: Sequence[int], name: str = "files") -> str:
        return write_numbered(tmp_path / name, files)

    return write


def write_numbered(directory: Path, files: Sequence[Sequence[int]]) -> str:
    """See `numbered_files`."""
    directory.mkdir()
    first = 0
    for file, groups in enumerate(files):
        writer = None
        for rows in groups:
            numbers = np.arange(first, first + rows, dtype=np.int64)
            table = pa.table(
                {
                    "number": numbers,
                    "half": numbers / 2,
                    "row_id": pa.array([f"row-{number}" for number in numbers], pa.string()),
                    "tokens": pa.array([np.full(number % 7, number, "<i4").tobytes() for number in numbers], pa.binary()),
                    "list": pa.array([[int(number)] * (number % 7) for number in numbers], pa.list_(pa.int64())),
                }
            )
            writer = writer or pq.ParquetWriter(directory / f"part-{file:03d}.parquet", table.schema)
            writer.write_table(table)
            first += rows
        if writer:
            writer.close()
    return str(directory)
