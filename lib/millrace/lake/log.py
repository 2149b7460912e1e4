"""The Delta log, read without Spark: versions, what a commit says of itself, and small tables whole."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

import fsspec
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from millrace.errors import LakeError

_COMMIT = re.compile(r"(\d{20})\.(json|checkpoint)")


def open_table(uri: str, version: int | None = None) -> DeltaTable:
    """The table, at `version` or the newest. Raises LakeError where there is none."""
    try:
        return DeltaTable(uri, version=version)
    except TableNotFoundError:
        raise LakeError("lake", expected=f"a Delta table at {uri}", found="none", remedy="Run the step that writes it.") from None
    except Exception as error:
        if version is None:
            raise
        raise LakeError(
            "lake",
            expected=f"version {version} of {uri}",
            found=f"that it is gone ({error})",
            remedy="It was vacuumed or replaced: run the step that writes it again, with --force.",
        ) from None


def exists(uri: str) -> bool:
    """Whether there is a Delta table. Looked up by hand: deltalake's own question makes the directory."""
    files, path = fsspec.core.url_to_fs(uri)
    return bool(files.isdir(f"{path}/_delta_log")) and bool(DeltaTable.is_deltatable(uri))


def is_for_spark_only(uri: str) -> bool:
    """Whether a table has features that deltalake does not read, as deletion vectors."""
    try:
        DeltaTable(uri)
    except Exception as error:
        return "reader features" in str(error)
    return False


def latest_version(uri: str) -> int | None:
    """The newest version, or None where there is no table. From the names in the log, so that any table has one."""
    files, path = fsspec.core.url_to_fs(uri)
    files.invalidate_cache()
    names = (str(name).rpartition("/")[2] for name in files.ls(f"{path}/_delta_log", detail=False)) if exists(uri) else ()
    return max((int(found.group(1)) for name in names if (found := _COMMIT.match(name))), default=None)


def user_metadata(uri: str, version: int) -> dict[str, Any]:
    """The metadata that we gave to the commit of `version`; empty where it has none, or the log no longer has the commit."""
    files, path = fsspec.core.url_to_fs(uri)
    try:
        text = files.cat_file(f"{path}/_delta_log/{version:020d}.json").decode()
    except FileNotFoundError:
        return {}
    actions = (json.loads(line) for line in text.splitlines())
    info: dict[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
    try:
        return dict(json.loads(info.get("userMetadata") or "{}"))
    except ValueError:
        return {}


def version_of(uri: str, metadata: Mapping[str, Any], *, newer_than: int) -> int:
    """The newest version above `newer_than` whose commit carries `metadata`; `newer_than` itself where there is none."""
    newest = latest_version(uri)
    for version in range(newest if newest is not None else -1, newer_than, -1):
        if user_metadata(uri, version) == dict(metadata):
            return version
    return newer_than


def num_rows(uri: str, version: int, nights: Collection[str] | None = None) -> int:
    """Rows of a version, from the log's statistics; with `nights`, of the files that may hold rows of these nights."""
    actions = pa.table(open_table(uri, version).get_add_actions(flatten=True)).to_pylist()
    return sum(
        action["num_records"]
        for action in actions
        if nights is None
        or action.get("min._night") is None
        or action["min._night"] != action["max._night"]
        or action["min._night"] in nights
    )


def read_rows(uri: str, *, version: int | None = None, columns: list[str] | None = None) -> pa.Table:
    """A small table whole, as Arrow. Raises LakeError where there is none."""
    return open_table(uri, version).to_pyarrow_table(columns=columns)


def nights_of(uri: str, version: int | None = None) -> frozenset[str]:
    """The nights that a table has rows of; none where there is no table. From the log's statistics where they suffice."""
    if not exists(uri):
        return frozenset()
    table = open_table(uri, version)
    actions = pa.table(table.get_add_actions(flatten=True))
    if {"min._night", "max._night"} <= set(actions.column_names):
        low, high = actions.column("min._night").to_pylist(), actions.column("max._night").to_pylist()
        if None not in low and low == high:
            return frozenset(low)
    if actions.num_rows == 0:
        return frozenset()
    return frozenset(table.to_pyarrow_dataset().to_table(columns=["_night"]).column("_night").unique().to_pylist())
