"""A Delta table of somebody else's as a source: all of its rows at one version, read by Spark.

Its log is read by deltalake, so that a table with reader features which that does not know (deletion vectors) is refused.

The address is PATH@vVERSION. A version is identified by the table's id and its number, so that a night takes a version that no
night has taken, whole; which of its rows bronze has already is for the contract's key to tell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import unquote

import fsspec
import pyarrow as pa
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from millrace.config.table_sources import DeltaSource
from millrace.contracts.evolution import RULES, reconcile_schema
from millrace.contracts.table import TableContract
from millrace.errors import LakeError, SourceError
from millrace.lake import log
from millrace.lake.ledger import RawFile
from millrace.sources.typed_spark import matched, renamed


@dataclass(frozen=True)
class DeltaTableSource:
    """A Delta table as a `RawSource`."""

    version: int | None = None
    rules: tuple[str, ...] = RULES

    @classmethod
    def of(cls, config: DeltaSource) -> DeltaTableSource:
        """By a pipeline's section."""
        return cls(config.version)

    def find(self, path: str) -> list[str]:
        """The table at its version; nothing where there is no table."""
        if not log.exists(path):
            return []
        return [f"{path}@v{_open(path, self.version).version()}"]

    def exists(self, address: str) -> bool:
        """Whether the version is still there."""
        path, version = _split(address)
        try:
            return log.exists(path) and _open(path, version).version() == version
        except SourceError:
            return False

    def identify(self, addresses: Sequence[str]) -> tuple[RawFile, ...]:
        """Bytes of the version's files, and the SHA-256 of the table's id and the version."""
        return tuple(_identify(address) for address in addresses)

    def stamps(self, addresses: Sequence[str]) -> dict[str, str]:  # noqa: ARG002
        """None: to identify a version is cheap."""
        return {}

    def check(self, addresses: Sequence[str], contract: TableContract) -> None:
        """Raises ContractError where the contract refuses the columns, SourceError where a file of the version is gone or cut."""
        for address in addresses:
            path, version = _split(address)
            table = _open(path, version)
            found = pa.schema(table.schema().to_arrow())
            named = zip(found, renamed(found.names, contract), strict=True)
            reconcile_schema(contract, pa.schema([field.with_name(name) for field, name in named]), where=address)
            _check_files(path, address, _files(table))

    def rows(self, spark: SparkSession, addresses: Sequence[str], contract: TableContract) -> DataFrame:
        """The rows of the version, matched to the contract."""
        (address,) = addresses
        path, version = _split(address)
        return matched(spark.read.format("delta").option("versionAsOf", version).load(path), contract, address, by_value=False)


def _split(address: str) -> tuple[str, int]:
    path, _, version = address.rpartition("@v")
    return path, int(version)


def _open(path: str, version: int | None) -> DeltaTable:
    try:
        return log.open_table(path, version)
    except LakeError as error:
        raise SourceError(
            "ingest",
            expected=error.expected,
            found=error.found,
            remedy="Name a version that the table still has, or none for its newest.",
        ) from None
    except Exception as error:
        if "reader features" in str(error):
            raise SourceError(
                "ingest",
                expected=f"a Delta table that deltalake can read at {path}",
                found=" ".join(str(error).split()),
                remedy="Let its owner drop the feature (ALTER TABLE … DROP FEATURE), or copy it to one without.",
            ) from None
        raise SourceError(
            "ingest", expected=f"a Delta table at {path}", found=f"a log that cannot be read ({error})", remedy="Mend the table."
        ) from None


def _files(table: DeltaTable) -> list[tuple[str, int]]:
    actions = pa.table(table.get_add_actions(flatten=True))
    return list(zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), strict=True))


def _identify(address: str) -> RawFile:
    path, version = _split(address)
    table = _open(path, version)
    digest = hashlib.sha256(f"{table.metadata().id}@v{version}".encode()).hexdigest()
    return RawFile(address, sum(num_bytes for _, num_bytes in _files(table)), digest)


def _check_files(root: str, address: str, files: list[tuple[str, int]]) -> None:
    with ThreadPoolExecutor(max_workers=8) as pool:
        errors = pool.map(lambda file: _damage(root, address, *file), files)
        error = next((error for error in errors if error is not None), None)
    if error is not None:
        raise error


def _damage(root: str, address: str, name: str, num_bytes: int) -> SourceError | None:
    files, path = fsspec.core.url_to_fs(name if "://" in name else f"{root}/{unquote(name)}")
    found = f"{files.info(path)['size']:,} bytes" if files.exists(path) else "that it is gone"
    if found == f"{num_bytes:,} bytes":
        return None
    return SourceError(
        "ingest",
        expected=f"{num_bytes:,} bytes in {name}, a file of {address}",
        found=found,
        remedy="Mend the table, or name another version.",
    )
