"""Real texts for tests, from the folder that $MILLRACE_DATA names."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def data_folder(name: str) -> Path:
    """The folder of a data set; the test is skipped where it is absent."""
    folder = Path(os.environ.get("MILLRACE_DATA", ROOT.parent / "shared" / "data"), name)
    if not folder.is_dir():
        pytest.skip(f"the data set {name} is not in $MILLRACE_DATA")
    return folder


def reviews(limit: int) -> list[str]:
    """The first film reviews of imdb's test archive, in its order."""
    found: list[str] = []
    with tarfile.open(data_folder("imdb") / "aclImdb_test.tar.gz") as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(".txt") and (stream := archive.extractfile(member)):
                found.append(stream.read().decode("utf-8", "replace"))
                if len(found) == limit:
                    break
    return found
