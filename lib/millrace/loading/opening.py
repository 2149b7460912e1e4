"""The row groups at an address, whatever stands there."""

from __future__ import annotations

from collections.abc import Mapping

from millrace.errors import ConfigError, LakeError
from millrace.loading.address import is_delta, is_there
from millrace.loading.columns import STAGE
from millrace.loading.directory import build_directory_index
from millrace.loading.index import DatasetIndex, build_index
from millrace.observe import has_credentials, mask


def open_index(uri: str, *, version: int | None = None, partitions: Mapping[str, object], world_size: int = 1) -> DatasetIndex:
    """The row groups of a Delta table, pinned at `version` or at the newest, or of plain Parquet files.

    Raises ConfigError for an address with a password, and where ranks leave the version of a Delta table open; LakeError where
    there is neither table nor files, a version is asked of plain files, the files belong to a Delta table at another address, or
    the store does not answer.
    """
    if has_credentials(uri):
        raise ConfigError(
            STAGE,
            expected="an address without a password or token, because it would be kept in logs",
            found=mask(uri),
            remedy="Leave it to the store's own environment or files, such as ~/.aws/credentials, or to fsspec's configuration.",
        )
    if not is_delta(uri):
        if version is not None:
            raise LakeError(
                STAGE,
                expected=f"a Delta table at {mask(uri)}, which has versions",
                found="plain files" if is_there(uri) else "nothing there",
                remedy="Leave version out, or check the address.",
            )
        return build_directory_index(uri, partitions=partitions)
    if version is None and world_size > 1:
        raise ConfigError(
            STAGE,
            expected=f"a version of the Delta table {mask(uri)}, the same for each of {world_size} ranks",
            found="version=None, which is for each rank what is newest when it looks",
            remedy="Let one rank call dataset without rank and world_size, and give its `version` to all.",
        )
    return build_index(uri, version=version, partitions=partitions)
