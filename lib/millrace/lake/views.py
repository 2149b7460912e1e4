"""What readers may see: each table at its last succeeded version, of metrics the rows of runs that succeeded."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.dataset as ds

from millrace.lake import log
from millrace.lake.layout import CONFUSION, DATA_QUALITY, EPOCHS, EVALUATION, MODELS, RUNS, Lake
from millrace.lake.ledger import Ledger

_WRITTEN_BY = {EPOCHS: "train", EVALUATION: "publish", CONFUSION: "publish", MODELS: "publish"}


@dataclass(frozen=True)
class Visible:
    """A table as readers see it: `condition` is SQL, empty for all rows."""

    table: str
    version: int
    condition: str = ""

    @property
    def name(self) -> str:
        """Its name in SQL."""
        return self.table.replace("/", "_")


def visible_tables(lake: Lake) -> list[Visible]:
    """Every table that has a finished version, sorted by name."""
    ledger = Ledger.read(lake)
    succeeded = [entry for entry in ledger.entries if entry.status == "succeeded"]
    tables = {output.table for entry in succeeded for output in entry.outputs}
    found = []
    for table in tables - {RUNS, *_WRITTEN_BY, DATA_QUALITY}:
        version = ledger.version_of(table)
        assert version is not None
        found.append(Visible(table, version))
    for table in (RUNS, DATA_QUALITY, *_WRITTEN_BY):
        newest = log.latest_version(lake.path(table))
        if newest is not None:
            found.append(Visible(table, newest, _condition(table, ledger)))
    return sorted(found, key=lambda visible: visible.name)


def to_dataset(lake: Lake, visible: Visible) -> ds.Dataset:
    """A table for DuckDB."""
    return log.open_table(lake.path(visible.table), visible.version).to_pyarrow_dataset()


def _condition(table: str, ledger: Ledger) -> str:
    if table == RUNS:
        return ""
    pairs = {(entry.run.run_id, entry.step) for entry in ledger.entries if entry.status == "succeeded"}
    if table == DATA_QUALITY:
        wanted = sorted(f"{run_id}/{step}" for run_id, step in pairs)
        return f"concat(run_id, '/', stage) IN ({_quoted(wanted)})"
    wanted = sorted(run_id for run_id, step in pairs if step == _WRITTEN_BY[table])
    return f"run_id IN ({_quoted(wanted)})"


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "''"
