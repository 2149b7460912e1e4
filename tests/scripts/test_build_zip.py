"""scripts/build_zip.py and setup.py: the same content in the zip and in the wheel."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "build_zip.py"
BUILD_ZIP = runpy.run_path(str(SCRIPT))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project of the same form, outside of git."""
    files = {
        "lib/millrace/__init__.py": "NAME = 1\n",
        "lib/millrace/py.typed": "",
        "lib/millrace/lake/__init__.py": "",
        "lib/millrace/lake/__pycache__/x.cpython-311.pyc": "cache",
        "lib/millrace/_builtin/pipelines/stale.yaml": "left by an earlier build",
        "conf/pipelines/digits.yaml": "name: digits\n",
        "conf/spark/local.conf": "spark.master local[4]\n",
        "schemas/digits_raw.yaml": "name: digits_raw\n",
    }
    for name, text in files.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "project"


def build(project: Path) -> bool:
    return bool(BUILD_ZIP["build"](project, project / "build" / "millrace.zip"))


def contents(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def git(project: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *identity, *arguments], cwd=project, check=True, capture_output=True, text=True).stdout.strip()


def test_the_zip_holds_the_package_the_pipelines_and_the_contracts(project: Path) -> None:
    assert build(project)
    assert contents(project / "build" / "millrace.zip") == {
        "millrace/__init__.py": "NAME = 1\n",
        "millrace/_builtin/REVISION": "unknown\n",
        "millrace/_builtin/pipelines/digits.yaml": "name: digits\n",
        "millrace/_builtin/schemas/digits_raw.yaml": "name: digits_raw\n",
        "millrace/lake/__init__.py": "",
        "millrace/py.typed": "",
    }
    assert sorted(path.name for path in (project / "build").iterdir()) == [
        ".millrace.zip.lock",
        "millrace.zip",
        "millrace.zip.sha256",
    ]


def test_equal_content_gives_equal_bytes_whatever_the_file_times(project: Path, tmp_path: Path) -> None:
    build(project)
    other = tmp_path / "other" / "project"
    shutil.copytree(project, other, ignore=shutil.ignore_patterns("build"))
    for path in other.rglob("*.py"):
        os.utime(path, (1e9, 1e9))
    build(other)
    assert (project / "build" / "millrace.zip").read_bytes() == (other / "build" / "millrace.zip").read_bytes()


def test_only_changed_content_is_built_anew(project: Path) -> None:
    source = project / "lib" / "millrace" / "__init__.py"
    assert build(project)
    before = (project / "build" / "millrace.zip").stat().st_ino
    source.touch()
    assert not build(project)
    assert (project / "build" / "millrace.zip").stat().st_ino == before
    source.write_text("NAME = 2\n")
    assert build(project)
    assert contents(project / "build" / "millrace.zip")["millrace/__init__.py"] == "NAME = 2\n"


def test_a_build_that_was_cut_short_is_done_again(project: Path) -> None:
    build(project)
    (project / "build" / "millrace.zip.sha256").unlink()
    assert build(project)
    (project / "build" / "millrace.zip").unlink()
    assert build(project)
    assert not build(project)


def test_two_at_once_leave_one_whole_zip(project: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--root", str(project)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(each.communicate()[0], each.returncode) for each in running] == [(f"{project}/build/millrace.zip\n", 0)] * 4
    assert len(contents(project / "build" / "millrace.zip")) == 6


def test_the_revision_names_the_commit_and_whether_the_tree_differs(project: Path) -> None:
    revision = BUILD_ZIP["revision"]
    git(project.parent, "init", "-q")
    assert revision(project) == "unknown"  # another repository around it is not its own
    git(project, "init", "-q")
    assert revision(project) == "unknown"  # no commit yet
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    commit = git(project, "rev-parse", "HEAD")
    assert revision(project) == commit
    (project / "lib" / "millrace" / "new.py").touch()
    assert revision(project) == f"{commit}+changed"


def test_the_wheel_holds_the_same_files(tmp_path: Path) -> None:
    """Builds a real wheel, from a copy, so that no build directory is left in the checkout."""
    copy = tmp_path / "copy"
    for name in ("lib", "conf", "schemas", "requirements", "scripts"):
        ignored = shutil.ignore_patterns("*.egg-info", "__pycache__", "_builtin")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, copy / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(copy)], check=True, capture_output=True)
    in_wheel = {name: text for name, text in contents(next(tmp_path.glob("*.whl"))).items() if name.startswith("millrace/")}
    build(copy)
    assert in_wheel == contents(copy / "build" / "millrace.zip")
