"""Small tables (metrics, registry, predictions), written without Spark: a commit takes a tenth of a second.

They are written by this module alone: two kinds of writers on one table would not see each other's locks on an object store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake

from millrace.config.places import Places
from millrace.contracts.table import load_contract
from millrace.lake import locks
from millrace.lake.layout import CONTRACTS, Lake
from millrace.lake.log import exists, latest_version

_PROPERTIES = {"delta.enableDeletionVectors": "false", "delta.columnMapping.mode": "none", "delta.checkpointInterval": "20"}


def schema_of(table: str) -> pa.Schema:
    """The Arrow schema of a small table, from its contract."""
    contract = CONTRACTS[table] if table in CONTRACTS else table.partition("/")[0]
    return load_contract(contract, Places.standard()).arrow_schema


def append(lake: Lake, table: str, rows: Sequence[Mapping[str, Any]] | pa.Table, *, metadata: Mapping[str, str]) -> int:
    """Adds rows; the version that has them."""
    return _write(lake, table, rows, metadata, predicate=None)


def replace(
    lake: Lake, table: str, rows: Sequence[Mapping[str, Any]] | pa.Table, *, where: Mapping[str, str], metadata: Mapping[str, str]
) -> int:
    """Puts rows in the place of those that equal `where`; the version that has them. Doing it twice changes nothing."""
    quoted = {column: value.replace("'", "''") for column, value in where.items()}
    return _write(
        lake, table, rows, metadata, predicate=" AND ".join(f"{column} = '{value}'" for column, value in quoted.items())
    )


def _write(
    lake: Lake, table: str, rows: Sequence[Mapping[str, Any]] | pa.Table, metadata: Mapping[str, str], predicate: str | None
) -> int:
    schema = schema_of(table)
    data = (
        rows.select(schema.names).cast(schema) if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=schema)
    )
    uri = lake.path(table)
    commit = CommitProperties(custom_metadata={"userMetadata": json.dumps(dict(metadata), sort_keys=True)})
    with locks.short(lake, table):
        if predicate is None or not exists(uri):
            write_deltalake(uri, data, mode="append", configuration=_PROPERTIES, commit_properties=commit)
        else:
            write_deltalake(uri, data, mode="overwrite", predicate=predicate, commit_properties=commit)
        version = latest_version(uri)
    assert version is not None
    return version
