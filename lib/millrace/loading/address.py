"""What can be seen at an address before anything is read: whether something is there, and whether it belongs to a Delta table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec

from millrace import observe
from millrace.errors import LakeError
from millrace.loading.files import local_path, may_pass
from millrace.loading.index import STAGE
from millrace.observe import mask

LOG_DIRECTORY = "_delta_log"


def is_delta(uri: str) -> bool:
    """Whether a Delta table's log lies there. Raises LakeError where that cannot be seen."""
    return is_there(f"{uri.rstrip('/')}/{LOG_DIRECTORY}")


def is_there(uri: str) -> bool:
    """Whether a file or directory is there. Raises LakeError where the store does not say: that is not the same as no."""
    try:
        files, path = store_of(uri)
        files.info(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except Exception as error:  # stores' clients have errors of their own
        raise LakeError(
            STAGE,
            expected=f"to see whether {mask(uri)} is there",
            found=mask(f"{type(error).__name__}: {error}"),
            remedy="Check the address, the permission to list it, and that the store answers.",
            retry=may_pass(error),
        ) from error
    return True


def table_above(uri: str) -> str | None:
    """The Delta table that an address lies in, the nearest of them. Raises LakeError as `is_there` does."""
    for parent in _parents(uri):
        try:
            if is_delta(parent):
                return parent
        except LakeError as error:
            # who may read one directory of a store need not be allowed to look above it
            if not isinstance(error.__cause__, PermissionError):
                raise
            observe.warn(mask(f"{uri} is read as plain files: whether {parent} is a Delta table may not be looked at"))
    return None


def store_of(uri: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path there. Raises ValueError and ImportError."""
    files, path = fsspec.url_to_fs(local_path(uri) or uri)
    return files, str(path)


def _parents(uri: str) -> Iterator[str]:
    """The directories above an address, the nearest first; of a store its root is left out."""
    local = local_path(uri)
    if local is not None:
        yield from map(str, Path(local).resolve().parents)  # resolved: a link may lead into a table
        return
    files, path = store_of(uri)
    above = files._parent(path)
    while above not in {path, "", files.root_marker}:
        yield files.unstrip_protocol(above)
        path, above = above, files._parent(above)
