"""Memory for decoded row groups that is used again and again.

Fresh memory costs the system more time than copying into it, and a reader asks for as much as a row group every few milliseconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.loading.buffers import round_up
from millrace.loading.columns import Column, RowGroupColumns, Sequences


class OwnColumns(dict[str, Column]):
    """Columns by name whose arrays lie in one block, those of strings aside."""

    def __init__(self, block: npt.NDArray[np.uint8]) -> None:
        super().__init__()
        self.block = block


class Blocks:
    """Copies row groups into blocks, and takes the blocks back. Threads may share it."""

    def __init__(self, num_spare: int) -> None:
        """No more than `num_spare` blocks are kept unused."""
        self._num_spare = num_spare
        self._spare: list[npt.NDArray[np.uint8]] = []
        self._largest = 0

    def copy(self, columns: RowGroupColumns) -> OwnColumns:
        """The same columns, sharing nothing with what they were decoded from."""
        num_bytes = sum(round_up(array.nbytes) for column in columns.values() for array in _arrays(column))
        own = OwnColumns(self._take(num_bytes))
        begin = 0

        def place(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            nonlocal begin
            if array.dtype.hasobject:
                return array
            room: npt.NDArray[Any] = own.block[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
            room[...] = array
            begin += round_up(array.nbytes)
            return room

        for name, column in columns.items():
            if isinstance(column, Sequences):
                own[name] = Sequences(place(column.values), place(column.offsets))
            else:
                own[name] = place(column)
        return own

    def give_back(self, columns: RowGroupColumns) -> None:
        """Whoever has the columns does not look at them again. Columns that `copy` did not give are passed over."""
        if isinstance(columns, OwnColumns) and len(self._spare) < self._num_spare:
            self._spare.append(columns.block)

    def _take(self, num_bytes: int) -> npt.NDArray[np.uint8]:
        # as large as the largest so far, so that one fits for another; what is never written to takes no memory
        self._largest = max(self._largest, num_bytes)
        try:
            block = self._spare.pop()
        except IndexError:  # another thread may have been quicker
            block = np.empty(0, dtype=np.uint8)
        # both of them: another thread may have written a smaller one since
        return block if block.nbytes >= num_bytes else np.empty(max(self._largest, num_bytes), dtype=np.uint8)


def _arrays(column: Column) -> list[npt.NDArray[Any]]:
    """The arrays of a column that go into a block."""
    arrays = [column.values, column.offsets] if isinstance(column, Sequences) else [column]
    return [array for array in arrays if not array.dtype.hasobject]
