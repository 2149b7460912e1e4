"""Commands: timed, ended with their children, failures told."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench import commands
from millrace.errors import MillraceError


def _run(program: str, tmp_path: Path, *, timeout_seconds: float = 30.0) -> commands.Done:
    command = [sys.executable, "-c", program]
    return commands.run(command, cwd=tmp_path, environment={**os.environ, "WORD": "sluice"}, timeout_seconds=timeout_seconds)


def test_output_and_time(tmp_path: Path) -> None:
    done = _run("import os, time; time.sleep(0.2); print(os.environ['WORD'], os.getcwd())", tmp_path)
    assert done.stdout == f"sluice {tmp_path}\n"
    assert done.wall_seconds >= 0.2


def test_a_failure_shows_the_last_words(tmp_path: Path) -> None:
    program = "import sys; print('one', file=sys.stderr); print('two', file=sys.stderr); sys.exit(3)"
    with pytest.raises(MillraceError) as error:
        _run(program, tmp_path)
    assert str(error.value) == (
        f"bench: expected `{sys.executable} -c {program}` to succeed; found exit code 3: one | two. "
        "Run it by hand to see all that it says."
    )
    assert error.value.exit_code == 1


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MillraceError) as error:
        commands.run(["./nowhere.sh"], cwd=tmp_path, environment={}, timeout_seconds=1.0)
    assert str(error.value) == (
        "bench: expected `./nowhere.sh` to succeed; found [Errno 2] No such file or directory: './nowhere.sh'. "
        "Run it by hand to see all that it says."
    )


@pytest.mark.parametrize("heeds_interrupts", [True, False])
def test_what_takes_too_long_is_ended_with_its_children(
    heeds_interrupts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "GRACE_SECONDS", 0.5)
    program = f"""
import signal, subprocess, sys, time
from pathlib import Path
if not {heeds_interrupts}:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # children inherit it
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
Path("child").write_text(str(child.pid))
time.sleep(60)
"""
    with pytest.raises(MillraceError, match=r"found no end after 2 s\. Run it by hand") as error:
        _run(program, tmp_path, timeout_seconds=2.0)
    assert error.value.exit_code == 1
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
