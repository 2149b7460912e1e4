"""Commands run as a user runs them, timed from outside, and ended with all that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from millrace.errors import MillraceError

GRACE_SECONDS = 30.0
"""How long an interrupted command may take to end by itself."""


@dataclass(frozen=True)
class Done:
    """A command that succeeded."""

    wall_seconds: float
    stdout: str


def run(command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], timeout_seconds: float) -> Done:
    """Run a command to its end. Raises MillraceError (exit code 1) where it fails, cannot be started or takes too long.

    It gets a process group of its own, which is ended as a whole where the benchmark is interrupted.
    """
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        started = time.perf_counter()
        try:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=dict(environment),
                stdout=stdout,
                stderr=stderr,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise _failed(command, str(error)) from error
        try:
            code = process.wait(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            _end(process)
            raise _failed(command, f"no end after {timeout_seconds:g} s") from None
        except BaseException:
            _end(process)
            raise
        wall_seconds = time.perf_counter() - started
        stdout.seek(0)
        stderr.seek(0)
        if code != 0:
            last_lines = " | ".join(line.strip() for line in stderr.read().splitlines()[-5:] if line.strip())
            raise _failed(command, f"exit code {code}: {last_lines or 'nothing on standard error'}")
        return Done(wall_seconds=wall_seconds, stdout=stdout.read())


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt the command's process group, and kill what does not heed it."""
    for number, grace_seconds in ((signal.SIGINT, GRACE_SECONDS), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=grace_seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _failed(command: Sequence[str], found: str) -> MillraceError:
    return MillraceError(
        "bench",
        expected=f"`{' '.join(command)}` to succeed",
        found=found,
        remedy="Run it by hand to see all that it says.",
        retry=True,
    )
