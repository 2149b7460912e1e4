"""Silver and gold of a shipped pipeline after a night, row by row, and what gold was encoded with."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.config.load import load_pipeline
from millrace.config.places import Places
from millrace.contracts.cutting import texts_of
from millrace.contracts.table import load_contract
from millrace.fit.state import FittedState
from millrace.flows.context import Context, make_run
from millrace.flows.scope import state_of
from millrace.lake import log
from millrace.lake.layout import Lake
from millrace.lake.ledger import Ledger


class Encoded:
    """A shipped pipeline's silver and gold after a night, and what it was encoded with."""

    def __init__(self, lake: Lake, name: str, spark: Any, night: str) -> None:
        self.config = load_pipeline(name, Places.standard())
        contract = load_contract(self.config.source.contract, Places.standard())
        self.context = Context(lambda: spark, lake, self.config, contract, make_run(self.config, contract, night))
        self.ledger, self.lake, self.name = Ledger.read(lake), lake, name
        version = self.ledger.version_of(f"gold/{name}")
        assert version is not None
        self.gold_version = version
        self.state: FittedState = state_of(self.context, self.ledger, version)

    @cached_property
    def gold(self) -> pa.Table:
        return self._table("gold").combine_chunks()

    @cached_property
    def silver(self) -> pa.Table:
        """All rows; where gold has them too, in gold's order."""
        rows = self._table("silver").combine_chunks()
        if self.config.changes_grain:
            return rows
        places = pc.index_in(self.gold.column("row_id"), value_set=rows.column("row_id").combine_chunks())
        assert places.null_count == 0 and rows.num_rows == self.gold.num_rows
        return rows.take(places)

    @property
    def is_train(self) -> np.ndarray:
        """(rows,) of silver."""
        return pc.equal(self.silver.column("split"), "train").to_numpy()

    def texts(self, column: str) -> list[str]:
        return [text for chunk in self.silver.column(column).chunks for text in texts_of(chunk)]

    def packed(self, column: str, dtype: str) -> np.ndarray:
        """(rows, width) of a column of gold that is bytes."""
        return np.stack([np.frombuffer(data, dtype) for data in self.gold.column(column).to_pylist()])

    def _table(self, kind: str) -> pa.Table:
        table = f"{kind}/{self.name}"
        return log.read_rows(self.lake.path(table), version=self.ledger.version_of(table))
