"""Keeping tables small and quick: compaction, and removal of files that no version needs any more.

Delta's own VACUUM keeps the files of the newest version alone (and what is younger than the retention), whoever still reads an
older one. Here the files of every version that somebody may come back to are counted first, and what is left over goes.

Only data files (`*.parquet` outside directories that begin with `_`) are ever removed. The log, change data and deletion vectors
are left to Delta. Tables with features that deltalake does not know are looked at and compacted by Spark.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from urllib.parse import unquote

import fsspec

from millrace import observe
from millrace.errors import LakeError
from millrace.lake import artifacts, log
from millrace.lake.layout import MODELS, Lake
from millrace.lake.ledger import Entry, Ledger, TableVersion
from millrace.lake.versions import TARGET_BYTES, Sessions, Versions, no_session, versions_of

STEP = "maintain"


@dataclass(frozen=True)
class Unneeded:
    """Files of one table, or of the artifacts, that nobody needs."""

    table: str
    paths: tuple[str, ...] = ()
    """Full addresses."""
    num_bytes: int = 0


def compact(
    lake: Lake, table: str, *, zorder: Sequence[str] = (), metadata: Mapping[str, str], sessions: Sessions = no_session
) -> int | None:
    """Puts small files together, or with `zorder` writes all rows anew, sorted so that rows alike in these columns lie together
    (Morton, 1966). Returns the newest version; nobody reads it before the ledger names it. The old files stay.

    The caller holds the lock that the table's writers take.
    """
    uri = lake.path(table)
    if not log.exists(uri):
        return None
    versions_of(lake, table, sessions).compact(zorder, metadata)
    return log.latest_version(uri)


def num_small_files(lake: Lake, table: str, *, sessions: Sessions = no_session) -> int:
    """Files of the newest version that are smaller than half of what compaction makes."""
    sizes = versions_of(lake, table, sessions).files().values() if log.exists(lake.path(table)) else ()
    return sum(size < TARGET_BYTES // 2 for size in sizes)


def tables_of(lake: Lake) -> list[str]:
    """Every Delta table that lies in the lake, sorted."""
    parents = ["bronze", "silver", "signatures", "gold", "predictions", "metrics", "registry"]
    parents += ["quarantine/sources", "quarantine/pipelines", "quarantine/gold"]
    found = [f"{parent}/{name}" for parent in parents for name in artifacts.names(lake.path(parent))]
    return sorted(table for table in found if log.exists(lake.path(table)))


def pinned_versions(lake: Lake, ledger: Ledger) -> set[TableVersion]:
    """The versions that somebody reads or may come back to.

    - of each table the one that the newest succeeded entry names;
    - what the newest succeeded entry of each pipeline's step, maintenance aside, has read: a training's gold is what its
      publishing reads;
    - what tries that were started and never ended have read, and the versions that stood before them (metrics of a run that is
      being done again are shown as they were);
    - what the models of registry/models were trained on;
    - the silver that gold among these was made of: publishing reads its test rows.
    """
    succeeded = [entry for entry in ledger.entries if entry.status == "succeeded"]
    tables = {output.table for entry in succeeded for output in entry.outputs}
    standing = {(table, ledger.version_of(table)) for table in tables}
    pinned = {TableVersion(table, version) for table, version in standing if version is not None}
    newest = {(entry.run.pipeline, entry.step): entry for entry in succeeded if entry.step != STEP}
    pinned |= {used for entry in newest.values() for used in entry.inputs.tables}
    pinned |= {used for entry in _unfinished(ledger) for used in entry.inputs.tables}
    pinned |= {output for entry in _shadowed(ledger) for output in entry.outputs}
    if log.exists(lake.path(MODELS)):
        for row in log.read_rows(lake.path(MODELS), columns=["lineage"]).to_pylist():
            lineage = dict(row["lineage"] or ())
            if lineage.get("dataset_version", "").isdigit():
                pinned.add(TableVersion(lineage["dataset"], int(lineage["dataset_version"])))
    return pinned | _beside_gold(succeeded, pinned)


def _beside_gold(succeeded: Sequence[Entry], pinned: Collection[TableVersion]) -> set[TableVersion]:
    """The versions of silver that the newest entry which names a pinned version of gold names too."""
    newest: dict[TableVersion, Entry] = {}
    for entry in succeeded:
        newest |= {output: entry for output in entry.outputs if output in pinned and output.table.startswith("gold/")}
    beside = ((entry.outputs, f"silver/{gold.table.partition('/')[2]}") for gold, entry in newest.items())
    return {output for outputs, table in beside for output in outputs if output.table == table}


def _unfinished(ledger: Ledger) -> list[Entry]:
    """Tries that were started, have not ended, and have not been begun again; not maintenance, which nobody resumes."""
    last = {(entry.run.run_id, entry.step): entry for entry in ledger.entries}
    return [entry for entry in last.values() if entry.status == "started" and entry.step != STEP]


def _shadowed(ledger: Ledger) -> list[Entry]:
    """The newest succeeded entry of each run's step that was begun again since and has not succeeded yet."""
    last = {(entry.run.run_id, entry.step): entry for entry in ledger.entries}
    done = {(entry.run.run_id, entry.step): entry for entry in ledger.entries if entry.status == "succeeded"}
    return [entry for key, entry in done.items() if last[key] is not entry]


def kept_versions(table: Versions, pinned: Collection[int], *, since: datetime) -> set[int]:
    """The pinned versions, the newest, and every one that was the newest at some time after `since`.

    Without what nobody can read: versions that Delta has cleaned out of the log, and those of a table that was there before.
    """
    history = table.history()
    first = since.timestamp() * 1000.0
    recent = {version for (version, _), (_, replaced) in pairwise(history) if replaced > first}
    oldest, newest = history[0][0], history[-1][0]
    readable = {version for version in pinned if version <= newest and (version >= oldest or _can_open(table, version))}
    return {*readable, *recent, newest}


def _can_open(table: Versions, version: int) -> bool:
    """Whether a version older than the log's first commit can be had from a checkpoint."""
    why_not = table.can_open(version)
    if why_not:
        observe.warn(f"version {version} is still named, but gone from the log: {why_not}")
    return not why_not


def unneeded_files(
    lake: Lake, table: str, pinned: Collection[int], *, since: datetime, sessions: Sessions = no_session
) -> Unneeded:
    """The data files that no version to be kept has, and that are older than `since`. The caller holds the lock of the table's
    writers: a file of theirs that is not committed yet would look the same.

    Raises LakeError where a kept version cannot be read from the log: then nothing is known to be of no use.
    """
    uri = lake.path(table)
    needed: set[str] = set()
    try:
        known = versions_of(lake, table, sessions)
        for version in kept_versions(known, pinned, since=since):
            needed |= {name for path in known.files(version) for name in (path, unquote(path))}
    except Exception as error:
        raise LakeError(
            "maintain",
            expected=f"a log that tells the files of every version of {table} that is still needed",
            found=str(error).splitlines()[0],
            remedy="Nothing was removed from the table. Do the step that writes it again, with --force.",
        ) from None
    found, num_bytes = [], 0
    files, root = fsspec.core.url_to_fs(uri)
    files.invalidate_cache()
    for path, info in sorted(files.find(root, detail=True).items()):
        assert path.startswith(f"{root}/"), f"{path} is not in {root}"
        relative = path.removeprefix(f"{root}/")
        hidden = any(part.startswith(("_", ".")) for part in relative.split("/"))
        if relative.endswith(".parquet") and not hidden and relative not in needed and _is_before(info, since):
            found.append(f"{uri}/{relative}")
            num_bytes += int(info["size"])
    return Unneeded(table, tuple(found), num_bytes)


def unneeded_artifacts(lake: Lake, pipeline: str, gold_versions: Collection[tuple[str, int]], *, since: datetime) -> Unneeded:
    """What writers of a pipeline's artifacts have left unfinished, and indexes of versions of gold, (table's id, version), that
    are not kept. The caller holds the pipeline's lock."""
    files, root = fsspec.core.url_to_fs(lake.path("artifacts", pipeline))
    files.invalidate_cache()
    keep = {f"gold-{table}-{version}-" for table, version in gold_versions}
    found, num_bytes = [], 0
    for path, info in sorted(files.find(root, detail=True).items()):
        directory, _, name = path.rpartition("/")
        superseded = directory == f"{root}/indexes" and not any(name.startswith(start) for start in keep)
        if (name.endswith(artifacts.UNFINISHED) or superseded) and _is_before(info, since):
            found.append(lake.path("artifacts", pipeline, path.removeprefix(f"{root}/")))
            num_bytes += int(info["size"])
    return Unneeded(f"artifacts/{pipeline}", tuple(found), num_bytes)


def remove(unneeded: Unneeded) -> None:
    """Removes the files; that one is gone already is fine. Raises OSError."""
    for path in unneeded.paths:
        artifacts.remove(path)


def _is_before(info: Mapping[str, object], since: datetime) -> bool:
    """Whether a file was last written before `since`; one whose time the store does not say counts as new."""
    for key in ("mtime", "LastModified", "last_modified", "updated", "modificationTime"):
        value = info.get(key)
        if isinstance(value, int | float):
            return float(value) <= since.timestamp()
        if isinstance(value, datetime):
            return value <= since if value.tzinfo else value.replace(tzinfo=UTC) <= since
    return False
