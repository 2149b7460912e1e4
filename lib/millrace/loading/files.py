"""Opening files by address: plain paths and `file:` from the disk, everything else through fsspec."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote, unquote, urlparse

import pyarrow as pa
import pyarrow.parquet as pq

_FOR_GOOD = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


def local_path(uri: str) -> str | None:
    """The path that `uri` stands for, or None where it is not on this machine's file system."""
    parts = urlparse(uri)
    if parts.scheme == "file":
        return unquote(parts.path)
    return None if "://" in uri else uri


def file_in(directory: str, name: str) -> str:
    """The address of what is called `name`, a path with "/", in a directory. `file:` addresses are escaped, others are not."""
    return f"{directory.rstrip('/')}/{quote(name) if urlparse(directory).scheme == 'file' else name}"


def may_pass(error: BaseException) -> bool:
    """Whether what a store or a disk has refused now it may give later: it has not answered, or not well, and the file is there.

    An error of Parquet's own, for a file that is damaged, has no number of the system's.
    """
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    return isinstance(error, OSError) and error.errno is not None and not isinstance(error, _FOR_GOOD)


def open_parquet(uri: str) -> pq.ParquetFile:
    """Opens a Parquet file and reads its footer; end it with `close(force=True)`. Raises OSError or pyarrow.ArrowInvalid."""
    return pq.ParquetFile(_open(uri))


class RowGroupFile:
    """A Parquet file that stays open, so that what is put in its place meanwhile is never read; its footer is read once."""

    def __init__(self, uri: str) -> None:
        """Raises OSError or pyarrow.ArrowInvalid."""
        self._stream = _open(uri)
        self.num_bytes: int = self._stream.size()
        file = pq.ParquetFile(self._stream)
        self.metadata: pq.FileMetaData = file.metadata
        self.names: list[str] = file.schema_arrow.names

    def read(self, row_group: int, columns: list[str]) -> pa.Table:
        """The columns of a row group. Raises OSError or pyarrow.ArrowException."""
        # pre_buffer fetches the column chunks in few large reads. An object that stays would keep them until its next read.
        file = pq.ParquetFile(self._stream, metadata=self.metadata, pre_buffer=True)
        return file.read_row_group(row_group, columns=columns, use_threads=False)

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()


def reuse_memory() -> None:
    """Lets Arrow keep the memory of one row group for the next, unless ARROW_DEFAULT_MEMORY_POOL says what to use.

    It holds for the whole process, so only those call it that do nothing else: training's workers and reader processes. Arrow's
    usual allocator gives what is as large as a row group back to the system at once, and the next one pays for its pages anew.
    """
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ and "mimalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.mimalloc_memory_pool())


def _open(uri: str) -> pa.NativeFile:
    """Not mapped into memory: a file that is cut short under a run is an error then, not the end of the process."""
    path = local_path(uri)
    if path is not None:
        return pa.OSFile(path)
    import fsspec

    return pa.PythonFile(fsspec.open(uri, "rb").open(), mode="r")


def read_bytes(uri: str) -> bytes:
    """The whole content of a file. Raises OSError."""
    import fsspec

    with fsspec.open(local_path(uri) or uri, "rb") as stream:
        content: Any = stream.read()
    return bytes(content)
