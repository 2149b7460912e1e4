"""Every path and table name of a lake, and the mark that says which layout it has."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import fsspec

from millrace.errors import LakeError
from millrace.lake import artifacts
from millrace.observe import has_credentials, mask

LAYOUT_VERSION = 1
_MARK = "_millrace.json"

RUNS = "metrics/runs"
EPOCHS = "metrics/epochs"
EVALUATION = "metrics/evaluation"
CONFUSION = "metrics/confusion"
DATA_QUALITY = "metrics/data_quality"
PROFILES = "metrics/profiles"
MODELS = "registry/models"
CONTRACTS = {
    RUNS: "metrics_runs",
    EPOCHS: "metrics_epochs",
    EVALUATION: "metrics_evaluation",
    CONFUSION: "metrics_confusion",
    DATA_QUALITY: "metrics_data_quality",
    PROFILES: "metrics_profiles",
    MODELS: "registry_models",
}
"""The tables that all pipelines share, and the contract of each."""


def bronze(source: str) -> str:
    """Raw rows as ingested."""
    return f"bronze/{source}"


def silver(pipeline: str) -> str:
    """Typed, cleaned, deduplicated rows."""
    return f"silver/{pipeline}"


def signatures(pipeline: str) -> str:
    """What tells near-duplicates of silver's rows, so that no night has to look at their texts again."""
    return f"signatures/{pipeline}"


def gold(pipeline: str) -> str:
    """Encoded rows, ready for the loader."""
    return f"gold/{pipeline}"


def predictions(pipeline: str) -> str:
    """What a published model said of the test rows."""
    return f"predictions/{pipeline}"


def rejects_of_source(source: str) -> str:
    """Raw rows that ingest did not take."""
    return f"quarantine/sources/{source}"


def rejects_of_pipeline(pipeline: str) -> str:
    """Rows that preprocessing quarantined or dropped."""
    return f"quarantine/pipelines/{pipeline}"


def rejects_of_gold(pipeline: str) -> str:
    """Blocks and windows that are not in gold: rows of another grain than silver's."""
    return f"quarantine/gold/{pipeline}"


@dataclass(frozen=True)
class Lake:
    """A lake at `uri`: `file:` URIs as plain absolute paths, others as they are."""

    uri: str

    @classmethod
    def at(cls, address: str) -> Lake:
        """The lake at a path or a URI. Raises LakeError for an address that says neither."""
        if not address.strip():
            raise LakeError("lake", expected="--lake PATH or URI", found="nothing", remedy="For example --lake ./lake.")
        if has_credentials(address):
            raise LakeError(
                "lake",
                expected="an address without a password or token, because it is kept in tables and logs",
                found=mask(address),
                remedy="Leave it to the store's own environment or files, such as ~/.aws/credentials, or to Spark's settings.",
            )
        parts = urlsplit(address)
        if parts.scheme != "file" and "://" in address:
            return cls(address.rstrip("/"))
        path = str(Path(unquote(parts.path) if parts.scheme == "file" else address).expanduser().absolute())
        if "#" in path or "?" in path:
            raise LakeError(
                "lake", expected="a path without # and ?", found=path, remedy="The Delta readers take them for a URI's."
            )
        return cls(path)

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine's file system, where locks and marks are files."""
        return "://" not in self.uri

    def path(self, *parts: str) -> str:
        """The address of something in the lake."""
        return "/".join((self.uri, *parts))

    def spark_path(self, *parts: str) -> str:
        """The same for Spark, which would take a bare path for its default file system's. Hadoop reads %20 as it stands."""
        return f"file://{self.path(*parts)}" if self.is_local else self.path(*parts)

    def artifacts(self, pipeline: str, run_id: str, *parts: str) -> str:
        """The address of a run's files."""
        return self.path("artifacts", pipeline, run_id, *parts)

    def storage(self) -> fsspec.AbstractFileSystem:
        """The file system that the lake lies on."""
        return fsspec.core.url_to_fs(self.uri)[0]

    def check(self) -> None:
        """Raises LakeError for a lake that a newer Millrace has made. A lake that is not there yet is fine."""
        files = self.storage()
        try:
            mark = json.loads(files.cat_file(self.path(_MARK)))
            found = int(mark["layout_version"])
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._refused("read", error) from None
        except (ValueError, KeyError, TypeError):
            raise LakeError(
                "lake", expected=f"a readable {_MARK}", found="something else", remedy="Restore it from a backup."
            ) from None
        if found > LAYOUT_VERSION:
            raise LakeError(
                "lake",
                expected=f"a lake of layout version {LAYOUT_VERSION} or older at {self.uri}",
                found=f"version {found}",
                remedy="A newer Millrace has made it: use that one, or another --lake.",
            )

    def open_for_writing(self) -> None:
        """Makes the lake where it is not there. Raises LakeError where it cannot be written or is too new."""
        self.check()
        files = self.storage()
        try:
            if not files.exists(self.path(_MARK)):
                artifacts.write_json(self.path(_MARK), {"layout_version": LAYOUT_VERSION})
        except OSError as error:
            raise self._refused("write", error) from None
        if self.is_local and not os.access(self.uri, os.W_OK | os.X_OK):
            raise self._refused("write")

    def _refused(self, what: str, error: OSError | None = None) -> LakeError:
        why = f" ({error.strerror.lower()})" if error is not None and error.strerror else ""
        remedy = "Check the path and its permissions."
        return LakeError("lake", expected=f"to {what} {self.uri}", found=f"that the system refuses it{why}", remedy=remedy)
