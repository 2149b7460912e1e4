"""Opening files by address: plain paths and `file:` from the disk, everything else through fsspec."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlparse

import pyarrow.parquet as pq


def local_path(uri: str) -> str | None:
    """The path that `uri` stands for, or None where it is not on this machine's file system."""
    parts = urlparse(uri)
    if parts.scheme == "file":
        return unquote(parts.path)
    return None if "://" in uri else uri


def open_parquet(uri: str) -> pq.ParquetFile:
    """Opens a Parquet file and reads its footer; end it with `close(force=True)`. Raises OSError or pyarrow.ArrowInvalid."""
    path = local_path(uri)
    if path is not None:
        return pq.ParquetFile(path, memory_map=True)
    import fsspec

    # pre_buffer fetches the column chunks of a row group in few large reads
    return pq.ParquetFile(fsspec.open(uri, "rb").open(), pre_buffer=True)


def read_bytes(uri: str) -> bytes:
    """The whole content of a file. Raises OSError."""
    import fsspec

    with fsspec.open(local_path(uri) or uri, "rb") as stream:
        content: Any = stream.read()
    return bytes(content)
