"""Whether two sides of the tabular benchmark have made the same table: rows, sums of each encoded column, and some rows whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds

from bench.tabular_data import KEY, LABEL, NAME, TEXTS, numbers
from millrace.errors import MillraceError
from millrace.lake import log
from millrace.lake.layout import Lake, gold
from millrace.lake.ledger import Ledger
from millrace.transforms.identity import python_row_id

_SAMPLED = 99_991
"""Of the rows with a number that this divides all columns are compared."""
_TOLERANCE = 1e-5
"""Of a float32, for a number around 1; and of a sum, for each of its rows."""

Values = npt.NDArray[np.float64]


@dataclass
class Contents:
    """What a table has, by split: rows, sums and sums of sizes of its columns (numbers, ids, label), and some rows."""

    num_rows: dict[str, int] = field(default_factory=dict)
    sums: dict[str, Values] = field(default_factory=dict)
    sizes: dict[str, Values] = field(default_factory=dict)
    rows: dict[str, Values] = field(default_factory=dict)
    """By row_id."""

    def add(self, split: str, values: Values, sampled: Mapping[str, Values]) -> None:
        """values: (rows, columns)."""
        self.num_rows[split] = self.num_rows.get(split, 0) + len(values)
        self.sums[split] = self.sums.get(split, 0.0) + values.sum(axis=0)
        self.sizes[split] = self.sizes.get(split, 0.0) + np.abs(values).sum(axis=0)
        self.rows |= sampled


def contents_of_gold(lake: Path) -> Contents:
    """Of Millrace's gold."""
    found, at = Contents(), Lake.at(str(lake))
    table = log.open_table(at.path(gold(NAME)), Ledger.read(at).version_of(gold(NAME))).to_pyarrow_dataset()
    total = table.count_rows()
    wanted = {python_row_id([number]) for number in range(0, 2 * total, _SAMPLED)}
    for batch in table.to_batches(columns=["row_id", "features", "ids", "label", "split"]):
        values = np.hstack(
            [
                _packed(batch.column("features"), np.float32),
                _packed(batch.column("ids"), np.int32),
                batch.column("label").to_numpy().reshape(-1, 1),
            ]
        ).astype(np.float64)
        _add(found, batch.column("split"), values, batch.column("row_id").to_pylist(), wanted.__contains__)
    return found


def contents_of_peer(directory: Path) -> Contents:
    """Of a table with a column for each number, id and the label."""
    return _of_parquet(directory, [*numbers(), *TEXTS, LABEL], lambda batch, name: batch.column(name).to_numpy().reshape(-1, 1))


def contents_of_udf(directory: Path) -> Contents:
    """Of a table with two columns of arrays."""

    def values(batch: pa.RecordBatch, name: str) -> npt.NDArray[Any]:
        column = batch.column(name)
        if not pa.types.is_list(column.type):
            return np.asarray(column.to_numpy()).reshape(-1, 1)
        return np.asarray(column.flatten().to_numpy()).reshape(batch.num_rows, -1)

    return _of_parquet(directory, ["features", "ids", "label"], values)


def check_same(one: Contents, other: Contents, *, side: str) -> None:
    """Raises MillraceError where they differ."""
    different = []
    if one.num_rows != other.num_rows:
        different.append(f"rows {one.num_rows} and {other.num_rows}")
    for split in set(one.num_rows) & set(other.num_rows):
        gap = np.abs(one.sums[split] - other.sums[split]) / np.maximum(one.sizes[split], 1.0)
        if (gap > _TOLERANCE).any():
            different.append(f"sums of the columns {np.flatnonzero(gap > _TOLERANCE).tolist()} of {split}")
    if set(one.rows) != set(other.rows) or not one.rows:
        different.append("sampled rows")
    elif any(
        (np.abs(one.rows[key] - other.rows[key]) > _TOLERANCE * np.maximum(1.0, np.abs(one.rows[key]))).any() for key in one.rows
    ):
        different.append("values of sampled rows")
    if different:
        raise MillraceError(
            "bench",
            expected=f"{side} to make the same table",
            found=f"other {'; other '.join(different)}",
            remedy="Compare them by hand.",
        )


def _of_parquet(directory: Path, names: list[str], values: Callable[[pa.RecordBatch, str], npt.NDArray[Any]]) -> Contents:
    found = Contents()
    table = ds.dataset(
        str(directory), format="parquet", partitioning=ds.partitioning(pa.schema([("split", pa.string())]), flavor="hive")
    )
    for batch in table.to_batches(columns=[KEY, *names, "split"]):
        every = np.hstack([values(batch, name) for name in names]).astype(np.float64)
        keys = batch.column(KEY).to_numpy()
        sampled = set(keys[keys % _SAMPLED == 0].tolist())
        ids = [python_row_id([key]) if key in sampled else None for key in keys.tolist()]
        _add(found, batch.column("split"), every, ids, lambda row_id: row_id is not None)
    return found


def _add(found: Contents, split: pa.Array, values: Values, ids: list[Any], wanted: Callable[[Any], bool]) -> None:
    names = np.asarray(split.to_pylist())
    for name in dict.fromkeys(names.tolist()):
        rows = np.flatnonzero(names == name)
        found.add(name, values[rows], {ids[row]: values[row] for row in rows if wanted(ids[row])})


def _packed(column: pa.Array, kind: type[np.generic]) -> npt.NDArray[Any]:
    """Bytes of one length -> (rows, width)."""
    width = len(column[0].as_py())
    offset = np.frombuffer(column.buffers()[1], np.int32)[column.offset]
    data = np.frombuffer(column.buffers()[2], np.uint8)[offset : offset + width * len(column)]
    return data.view(kind).reshape(len(column), -1)
