"""Processes that are started once, warm up, and then measure when they are asked to.

Starting TensorFlow takes longer than a measurement, and a process that waits for its next question takes no time from the others.
Questions and answers are one line of JSON each.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from millrace.errors import MillraceError

ROOT = Path(__file__).resolve().parent.parent
_LAST_LINES = 12


class Worker:
    """A process `python -m MODULE ARGUMENT...` that answers questions. Ended on leaving the context, whatever it does."""

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str], timeout_seconds: float = 300.0) -> None:
        """`environment` is added to this process's own. `timeout_seconds` is the longest that an answer may take."""
        self._command = [sys.executable, "-m", module, *arguments]
        self._timeout_seconds = timeout_seconds
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed on leaving
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._errors.close()

    def ask(self, **question: Any) -> dict[str, Any]:
        """Asks and waits for the answer. Raises MillraceError (exit code 1) where the process ends or says nothing."""
        self.tell(**question)
        return self.answer()

    def tell(self, **question: Any) -> None:
        """Asks without waiting, so that several can work at the same time; `answer` gives what it says."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failed("it has ended") from None

    def answer(self) -> dict[str, Any]:
        """The answer to what was asked last. Raises MillraceError (exit code 1) where the process ends or says nothing."""
        stream = self._process.stdout
        assert stream is not None
        if not select.select([stream], [], [], self._timeout_seconds)[0]:
            raise self._failed(f"no answer within {self._timeout_seconds:g} s")
        line = stream.readline()
        if not line:
            self._process.wait()
            raise self._failed(f"it has ended with code {self._process.returncode}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _failed(self, found: str) -> MillraceError:
        self._errors.seek(0)
        said = " | ".join(line.strip() for line in self._errors.read().splitlines()[-_LAST_LINES:] if line.strip())
        return MillraceError(
            "bench",
            expected=f"an answer of `{' '.join(self._command)}`",
            found=f"{found}: {said or 'nothing on standard error'}",
            remedy="Run it by hand to see all that it says.",
            retry=True,
        )


class Questions:
    """What a worker is asked, on its stdin. What libraries print goes to stderr from now on."""

    def __init__(self) -> None:
        self._replies = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def next(self) -> dict[str, Any] | None:
        """Waits for the next question; None where none comes any more."""
        line = sys.stdin.readline()
        question: dict[str, Any] | None = json.loads(line) if line else None
        return question

    def reply(self, answer: Mapping[str, Any]) -> None:
        """Answers the last one."""
        self._replies.write(json.dumps(answer) + "\n")


def serve(answer: Callable[..., Mapping[str, Any]]) -> None:
    """Answers each question until none comes any more."""
    questions = Questions()
    while (question := questions.next()) is not None:
        questions.reply(answer(**question))
