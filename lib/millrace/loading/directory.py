"""The row groups of a directory of plain Parquet files, on any store that fsspec reaches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from millrace.errors import LakeError
from millrace.loading.address import LOG_DIRECTORY, store_of, table_above
from millrace.loading.files import file_in
from millrace.loading.index import STAGE, DatasetIndex, partition_texts, read_row_groups
from millrace.observe import mask

_SUFFIXES = (".parquet", ".parq", ".pq")
_TIMES = ("ETag", "etag", "mtime", "LastModified", "last_modified", "Last-Modified", "modified", "modify", "updated", "created")
"""What stores call it that changes with a file, best first."""


def build_directory_index(uri: str, *, partitions: Mapping[str, object]) -> DatasetIndex:
    """Lists the row groups of a Parquet file, or of all in a directory, in the order of their paths.

    Names that begin with "_" or "." are passed over, as Spark does. `partitions` chooses by directories like `split=train`. The
    directory must not change while it is read: a file that does is noticed by its rows only, where a Delta table has versions.
    Raises LakeError where nothing is there, a file is damaged, no directory is called after a partition column, or files belong
    to a Delta table, whose log alone knows which of them its versions have kept.
    """
    try:
        files, root = store_of(uri)
        is_file = files.isfile(root)
        found: dict[str, Any] = {root: files.info(root)} if is_file else files.find(root, detail=True)
    except (OSError, ValueError, ImportError) as error:
        raise _not_there(uri, str(error)) from error
    by_name = {path.removeprefix(root).lstrip("/"): info for path, info in found.items()}
    _refuse_delta(uri, by_name)
    names = sorted(name for name in by_name if is_file or _is_data(name))
    if not names:
        raise _not_there(uri, f"{len(by_name)} other files")
    values = {name: _partition_values(name) for name in names}
    known = sorted({column for each in values.values() for column in each})
    unknown = sorted(set(partitions) - set(known))
    if unknown:
        raise LakeError(
            STAGE,
            expected=f"directories of {mask(uri)} called after {', '.join(unknown)}",
            found=f"partition columns {known or 'none'}",
            remedy="Ask only for partition columns, or write the files partitioned by them.",
        )
    wanted = partition_texts(partitions)
    chosen = [name for name in names if all(values[name].get(column) == text for column, text in wanted.items())]
    addresses = tuple(uri if is_file else file_in(uri, name) for name in chosen)
    return DatasetIndex(
        uri=uri,
        version=None,
        partitions=tuple(sorted(wanted.items())),
        files=addresses,
        identities=tuple(_identity(by_name[name]) for name in chosen),
        row_groups=read_row_groups(addresses, expected="that was listed"),
    )


def _refuse_delta(uri: str, names: Iterable[str]) -> None:
    """Raises LakeError where a Delta table lies there, below it or above it."""
    parts = [name.split("/") for name in names]
    inside = sorted({"/".join([uri.rstrip("/"), *each[: each.index(LOG_DIRECTORY)]]) for each in parts if LOG_DIRECTORY in each})
    above = [] if inside else [table_above(uri)]
    tables = [table for table in [*inside, *above] if table is not None]
    if tables:
        first = mask(tables[0])
        more = f" and {len(tables) - 1} more" if len(tables) > 1 else ""
        raise LakeError(
            STAGE,
            expected=f"Parquet files at {mask(uri)} that belong to no Delta table, or a Delta table's own address",
            found=f"files of the Delta table {first}{more}, perhaps with rows that were removed from it",
            remedy=f'dataset("{first}") reads its rows; partitions={{"split": "train"}} chooses among them.',
        )


def _is_data(name: str) -> bool:
    # a partition column's name may begin with "_", as in _night=2026-11-22
    hidden = any(part.startswith(("_", ".")) and "=" not in part for part in name.split("/"))
    return name.endswith(_SUFFIXES) and not hidden


def _partition_values(name: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in name.split("/")[:-1] if "=" in part]
    return {column: unquote(value) for column, _, value in pairs}


def _identity(info: Mapping[str, Any]) -> str:
    return f"{info.get('size')}|{next((info[name] for name in _TIMES if info.get(name) is not None), '')}"


def _not_there(uri: str, found: str) -> LakeError:
    return LakeError(
        STAGE,
        expected=f"a Delta table, a Parquet file or a directory of Parquet files at {mask(uri)}",
        found=mask(found),
        remedy="Check the address; Parquet files end with .parquet, and those that begin with _ or . are passed over.",
    )
