"""What readers may see: each table at its last succeeded version, of metrics the rows of runs that succeeded."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.dataset as ds

from millrace.lake import log
from millrace.lake.layout import CONFUSION, DATA_QUALITY, EPOCHS, EVALUATION, MODELS, PROFILES, RUNS, Lake
from millrace.lake.ledger import Entry, Ledger

_WRITTEN_BY = {
    EPOCHS: ("train",),
    EVALUATION: ("publish",),
    CONFUSION: ("publish",),
    MODELS: ("publish",),
    DATA_QUALITY: ("ingest", "preprocess"),
    PROFILES: ("preprocess",),
}
"""The tables that pipelines share, and the steps that write them."""


@dataclass(frozen=True)
class Part:
    """Rows of a table at one version; `condition` is SQL, empty for all of them."""

    version: int
    condition: str = ""


@dataclass(frozen=True)
class Visible:
    """A table as readers see it: the rows of its parts."""

    table: str
    parts: tuple[Part, ...]

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
    for table in tables - {RUNS, *_WRITTEN_BY}:
        version = ledger.version_of(table)
        assert version is not None
        found.append(Visible(table, (Part(version),)))
    for table in (RUNS, *_WRITTEN_BY):
        newest = log.latest_version(lake.path(table))
        if newest is not None:
            found.append(Visible(table, (Part(newest),) if table == RUNS else _parts(table, newest, ledger)))
    return sorted(found, key=lambda visible: visible.name)


def to_dataset(lake: Lake, table: str, version: int | None) -> ds.Dataset:
    """A version of a table for DuckDB, all of its rows."""
    return log.open_table(lake.path(table), version).to_pyarrow_dataset()


def _parts(table: str, newest: int, ledger: Ledger) -> tuple[Part, ...]:
    """The rows of runs that succeeded; of one that is being done again, or failed to be, those of the time when it succeeded."""
    steps = _WRITTEN_BY[table]
    done: dict[tuple[str, str], Entry] = {}
    last: dict[tuple[str, str], Entry] = {}
    for entry in ledger.entries:
        key = (entry.run.run_id, entry.step)
        last[key] = entry
        if entry.status == "succeeded":
            done[key] = entry
    settled, parts = [], []
    for (run_id, step), entry in sorted(done.items()):
        if step not in steps:
            continue
        name = f"{run_id}/{step}" if len(steps) > 1 else run_id
        version = entry.output(table)
        if version is None or last[run_id, step] is entry:
            settled.append(name)
        else:
            parts.append(Part(version, _among([name], steps)))
    return (Part(newest, _among(settled, steps)), *parts)


def _among(names: list[str], steps: tuple[str, ...]) -> str:
    column = "concat(run_id, '/', stage)" if len(steps) > 1 else "run_id"
    quoted = ", ".join(f"'{name}'" for name in names) or "''"
    return f"{column} IN ({quoted})"
