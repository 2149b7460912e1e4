"""scripts/bootstrap.sh, as far as it shows without making an environment: what it says is missing, and its quick second call."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ["awk", "bash", "cat", "cut", "dirname", "df", "make", "sha256sum", "tr", "uname", "flock", "setsid", "setpriv"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What bootstrap.sh reads, without an environment."""
    for name in ("scripts", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def bootstrap(checkout: Path, **environment: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [shutil.which("bash") or "bash", checkout / "scripts" / "bootstrap.sh"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def path_with(folder: Path, tools: list[str]) -> str:
    folder.mkdir()
    for tool in tools:
        (folder / tool).symlink_to(shutil.which(tool) or tool)
    return str(folder)


def test_what_the_machine_lacks_is_named_with_what_to_install(checkout: Path, tmp_path: Path) -> None:
    # A real Python, told to look for its headers elsewhere.
    python = tmp_path / "python"
    python.write_text(f'#!/bin/bash\nexport PYTHONPATH="{tmp_path}/site"\nexec "{Path(sys.executable).resolve()}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import sysconfig\nsysconfig.get_path = lambda name: '/nowhere'\n")
    path = path_with(tmp_path / "tools", [tool for tool in TOOLS if tool not in {"make", "setpriv"}])
    assert bootstrap(checkout, PATH=path, MILLRACE_PYTHON=str(python)) == (
        1,
        [
            "bootstrap: this machine lacks what Millrace is built with. Install this, then run the same command again:",
            "  - Python.h (Debian: apt-get install python3.11-dev)",
            "  - g++ (Debian: apt-get install g++)",
            "  - make (Debian: apt-get install make)",
            "  - flock, setsid and setpriv (Debian: apt-get install util-linux)",
        ],
    )
    assert not (checkout / ".venv").exists()


def test_a_made_environment_is_left_alone() -> None:
    assert bootstrap(ROOT) == (0, [])
