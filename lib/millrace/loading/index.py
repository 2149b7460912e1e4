"""The row groups of one pinned version of a Delta table: what a plan counts and a reader opens (directory.py: of plain files).

The list of files comes from the Delta log, never from the directory. Row groups and their rows come from the Parquet footers and
are read once; ranks get the finished index.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from millrace.errors import LakeError
from millrace.loading.files import file_in, local_path, may_pass, open_parquet
from millrace.observe import mask

STAGE = "index"
_FORMAT = 1
_FOOTER_THREADS = 8
_READABLE = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"}  # reader features that leave the data files plain Parquet
_PART = re.compile(r"part-(\d+)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:[-.]c(\d+))?\.")
_UNSUPPORTED = re.compile(r"Unsupported reader features required: \[(.*?)\]")  # what deltalake says of a table it cannot open


class RowGroup(NamedTuple):
    """One row group: `file` counts from 0 in DatasetIndex.files, `row_group` from 0 within the file."""

    file: int
    row_group: int
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class DatasetIndex:
    """The rows of a dataset in a fixed order: files in order, row groups in order, rows in order."""

    uri: str
    """The table's address."""
    version: int | None
    """The Delta version that is pinned; None for a directory of plain Parquet files."""
    partitions: tuple[tuple[str, str], ...]
    """The partition values that were asked for."""
    files: tuple[str, ...]
    """Full addresses."""
    identities: tuple[str, ...] = ()
    """What tells each file from another one at the same address: its size and time as the Delta log or the store have them.
    Empty for indexes of old, whose files' names are their identity."""
    row_groups: tuple[RowGroup, ...] = ()

    def identity_of(self, file: int) -> str:
        """The identity of a file, by its number."""
        return self.identities[file] if self.identities else ""

    @property
    def num_rows(self) -> int:
        """Rows of all row groups."""
        return sum(group.num_rows for group in self.row_groups)

    def row_group_rows(self) -> npt.NDArray[np.int64]:
        """Rows of each row group. (row groups,) int64"""
        return np.array([group.num_rows for group in self.row_groups], dtype=np.int64)

    def fingerprint(self) -> str:
        """SHA-256 in hex of the version (where there is none, of the files' identities), the file names and the row groups.

        The table's address is left out: a lake may move.
        """
        names = [uri.rsplit("/", 1)[-1] for uri in self.files]
        groups = [(group.file, group.row_group, group.num_rows) for group in self.row_groups]
        version = self.identities if self.version is None else self.version
        return hashlib.sha256(json.dumps([version, self.partitions, names, groups]).encode()).hexdigest()

    def to_json(self) -> str:
        """A text that `from_json` reads."""
        groups = [[group.file, group.row_group, group.num_rows] for group in self.row_groups]
        content = {
            "format": _FORMAT,
            "uri": self.uri,
            "version": self.version,
            "partitions": [list(pair) for pair in self.partitions],
            "files": list(self.files),
            "identities": list(self.identities),
            "row_groups": groups,
        }
        return json.dumps(content)

    @staticmethod
    def from_json(text: str) -> DatasetIndex:
        """The index that `to_json` wrote. Raises LakeError where the text is something else."""
        try:
            content = json.loads(text)
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']}")
            return DatasetIndex(
                uri=content["uri"],
                version=content["version"],
                partitions=tuple((name, value) for name, value in content["partitions"]),
                files=tuple(content["files"]),
                identities=tuple(content.get("identities", ())),
                row_groups=tuple(map(RowGroup._make, content["row_groups"])),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise LakeError(
                STAGE,
                expected=f"a dataset index of format {_FORMAT}",
                found=f"{type(error).__name__}: {error}",
                remedy="Build the index again with this version of Millrace.",
            ) from error


def build_index(uri: str, *, version: int | None, partitions: Mapping[str, object]) -> DatasetIndex:
    """Lists the row groups of a Delta table at `version` whose partition columns have the given values; None pins the newest.

    Raises LakeError where the table or version is not there, a file is missing or damaged, a partition column is unknown, or the
    table uses a feature that plain Parquet readers do not understand.
    """
    try:
        # Delta's own reader takes addresses with a scheme, or plain paths
        table = DeltaTable(local_path(uri) or uri, version=version)
    except TableNotFoundError as error:
        remedy = "Check the address, and run the step that writes it."
        raise _unreadable(uri, version, f"no Delta table ({error})", remedy) from error
    except (DeltaError, OSError) as error:
        unsupported = _UNSUPPORTED.search(str(error))
        if unsupported:
            names = {name.strip() for name in unsupported.group(1).split(",")}
            raise _hidden_rows(uri, version, {name[:1].lower() + name[1:] for name in names}) from error
        remedy = "The version may have been vacuumed: take one that DESCRIBE HISTORY lists."
        raise _unreadable(uri, version, str(error), remedy) from error
    version = int(table.version())
    _check_features(table, uri, version)
    adds = pa.record_batch(table.get_add_actions(flatten=True)).to_pylist()
    _check_partitions(table, uri, version, partitions)
    wanted = partition_texts(partitions)
    chosen = [add for add in adds if all(partition_text(add.get(f"partition.{name}")) == text for name, text in wanted.items())]
    chosen.sort(key=_file_order)
    files = tuple(_file_uri(uri, add["path"]) for add in chosen)
    return DatasetIndex(
        uri=uri,
        version=version,
        partitions=tuple(sorted(wanted.items())),
        files=files,
        identities=tuple(f"{add['size_bytes']}|{add['modification_time']}" for add in chosen),
        row_groups=read_row_groups(files, expected="that the Delta log names"),
    )


def read_row_groups(files: Sequence[str], *, expected: str) -> tuple[RowGroup, ...]:
    """The row groups of Parquet files, from their footers. Raises LakeError, which says what was `expected`."""
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        footers = list(pool.map(lambda uri: _row_groups_of(uri, expected), files))
    return tuple(RowGroup(file, group, rows) for file, sizes in enumerate(footers) for group, rows in enumerate(sizes))


def partition_texts(partitions: Mapping[str, object]) -> dict[str, str]:
    """The partition values that are asked for, as directories spell them."""
    return {name: partition_text(value) for name, value in partitions.items()}


def partition_text(value: object) -> str:
    """A partition value as the directory of its files is called, whatever its type: numbers are asked for as texts, too."""
    if value is None:
        return "__HIVE_DEFAULT_PARTITION__"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value.replace(tzinfo=None) if isinstance(value, datetime) else value)


def _file_order(add: Mapping[str, Any]) -> tuple[Any, ...]:
    """Nights in order, then the writer's part numbers: writing a night again gives new paths in the same order.

    Then partition values, and the file's time as the log has it, which checkpoints of the log keep: a table without `_night` that
    grew by a file with each commit is read as it grew. The path, which is random, decides only between files of one millisecond.
    """
    night = add.get("min._night")
    if night is None:
        night = add.get("partition._night")
    match = _PART.search(add["path"].rsplit("/", 1)[-1])
    part, counter = (int(match.group(1)), int(match.group(2) or 0)) if match else (0, 0)
    partitions = [partition_text(value) for name, value in sorted(add.items()) if name.startswith("partition.")]
    return ("" if night is None else str(night), part, counter, partitions, add["modification_time"], add["path"])


def _file_uri(table_uri: str, path: str) -> str:
    return path if "://" in path or path.startswith("/") else file_in(table_uri, path)


def _row_groups_of(uri: str, expected: str) -> list[int]:
    try:
        file = open_parquet(uri)
        rows = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        file.close(force=True)
    except (OSError, pa.ArrowException) as error:
        raise LakeError(
            STAGE,
            expected=f"the Parquet file {mask(uri)} {expected}",
            found=mask(str(error)),
            remedy="The version may have been vacuumed or the file damaged: write the table again.",
            retry=may_pass(error),
        ) from error
    return rows


def _check_features(table: DeltaTable, uri: str, version: int) -> None:
    features = set(table.protocol().reader_features or ()) - _READABLE - {"columnMapping"}
    if table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        features.add("columnMapping")
    if features:
        raise _hidden_rows(uri, version, features)


def _hidden_rows(uri: str, version: int | None, features: set[str]) -> LakeError:
    if "deletionVectors" in features:
        remedy = (
            "Set delta.enableDeletionVectors to false, run REORG TABLE ... APPLY (PURGE), then ALTER TABLE ... DROP FEATURE "
            "deletionVectors; or write the rows to a new table."
        )
    else:
        remedy = "Drop the feature with ALTER TABLE ... DROP FEATURE, or write the rows to a table without it."
    return _unreadable(uri, version, f"reader features {', '.join(sorted(features))}", remedy)


def _check_partitions(table: DeltaTable, uri: str, version: int, partitions: Mapping[str, object]) -> None:
    known = table.metadata().partition_columns
    unknown = sorted(set(partitions) - set(known))
    if unknown:
        raise _unreadable(
            uri,
            version,
            f"partition columns {known or 'none'}, not {', '.join(unknown)}",
            "Ask only for partition columns, or write the table partitioned by them.",
        )


def _unreadable(uri: str, version: int | None, found: str, remedy: str) -> LakeError:
    pinned = "newest version" if version is None else f"version {version}"
    expected = f"a Delta table at {mask(uri)}, {pinned}, of plain Parquet files"
    return LakeError(STAGE, expected=expected, found=mask(found), remedy=remedy)
