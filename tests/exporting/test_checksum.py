"""The checksum of files and directories."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from millrace.errors import ExportError
from millrace.exporting.checksum import sha256_of


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "saved_model"
    (made / "variables").mkdir(parents=True)
    (made / "saved_model.pb").write_bytes(b"graph")
    (made / "variables" / "variables.index").write_bytes(b"index")
    (made / "variables.txt").write_bytes(b"")
    return made


def test_a_file_is_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(b"x" * 3_000_000)
    assert sha256_of(path) == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_a_directory_can_be_checked_by_hand(directory: Path) -> None:
    command = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    by_hand = subprocess.run(["bash", "-c", command], cwd=directory, capture_output=True, text=True, check=True)
    assert sha256_of(directory) == by_hand.stdout.split()[0]


def test_a_copy_is_equal(directory: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(directory, tmp_path / "elsewhere")
    assert sha256_of(copy) == sha256_of(directory)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "saved_model.pb").write_bytes(b"Graph"),
        lambda root: (root / "saved_model.pb").rename(root / "renamed.pb"),
        lambda root: (root / "saved_model.pb").unlink(),
        lambda root: (root / "new").write_bytes(b""),
        lambda root: (root / "variables" / "variables.index").rename(root / "variables.index"),
    ],
)
def test_any_change_shows(change: object, directory: Path) -> None:
    before = sha256_of(directory)
    change(directory)
    assert sha256_of(directory) != before


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as error:
        sha256_of(tmp_path / "gone")
    assert str(error.value) == f"checksum: expected an export at {tmp_path}/gone; found nothing there. Publish the run again."
