"""What a run says: one log, for people on a terminal, by lines elsewhere, as JSON in the run's artifacts. Secrets are masked."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.status import Status

LOG = logging.getLogger("millrace")
_MASK = "***"
_SECRET_NAME = re.compile(r"(?i)(secret|password|passwd|token|credential|private_?key|access_?key|api_?key|account_?key|sas)")
_SECRET_QUERY = re.compile(
    r"(?i)://[^?]*\?(?:.*&)?[\w.-]*(?:secret|password|passwd|token|signature|sig|credential|access_?key|api_?key|account_?key)[\w.-]*="
)
_SECRET_TEXTS = (
    # a password may hold a slash, what looks like a port and a path is none
    re.compile(r"(?P<keep>[a-z][a-z0-9+.-]*://[^/\s:@\[]*:)(?!\d+/)[^@\s\"']+(?=@)"),
    re.compile(
        r"(?i)(?P<keep>(?:secret|password|passwd|token|signature|sig|access_?key|api_?key|account_?key)[\w.-]*[\"']?\s*[=:]\s*[\"']?)"
        r"[^\s\"'&,;)]+"
    ),
)


def is_secret_name(name: str) -> bool:
    """Whether a variable or key of this name is taken to hold a secret."""
    return _SECRET_NAME.search(name) is not None


def has_credentials(address: str) -> bool:
    """Whether a store's address holds a password before its host, or a query key that is called like a secret or a signature."""
    return _SECRET_TEXTS[0].search(address) is not None or _SECRET_QUERY.search(address) is not None


def mask(text: str) -> str:
    """`text` without passwords in URLs, values after secret-looking names, and values of secret-looking environment variables."""
    for name, value in os.environ.items():
        if len(value) >= 6 and is_secret_name(name):
            text = text.replace(value, _MASK)
    for pattern in _SECRET_TEXTS:
        text = pattern.sub(lambda match: match.group("keep") + _MASK, text)
    return text


def _masked(value: Any) -> Any:
    """`value` for JSON, each text masked before it is escaped: afterwards a secret with a quote or umlaut would not be found."""
    if isinstance(value, dict):
        return {
            str(name): _MASK if isinstance(item, str) and is_secret_name(str(name)) else _masked(item)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_masked(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else mask(str(value))


class JsonLines(logging.Handler):
    """Appends a JSON object a record: time, level, event, message and the fields that were given."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line at once, so that a killed run has its log."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "message"),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        self._file.write(json.dumps(_masked(fields)) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()


class Screen(logging.Handler):
    """Lines for people. On a terminal with a status line under them; elsewhere plain, with the time."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._said_at = 0.0
        self.subject = ""
        self._lock_status = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one line; records that are only for the file are passed over."""
        if getattr(record, "only_file", False):
            return
        text = mask(record.getMessage())
        if self.console.is_terminal:
            style = {"WARNING": "yellow", "ERROR": "red"}.get(record.levelname, "")
            self.console.print(text, style=style, markup=False)
        else:
            stamp = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
            print(f"{stamp} {record.levelname.lower():7} {text}", file=sys.stderr, flush=True)  # noqa: T201

    def progress(self, text: str, *, every_seconds: float = 10.0) -> None:
        """Shows where the work is: in place on a terminal, a line every few seconds elsewhere."""
        text = f"{self.subject}: {text}" if self.subject else text
        with self._lock_status:
            if self.console.is_terminal:
                if self._status is None:
                    self._status = self.console.status("", spinner="dots")
                    self._status.start()
                self._status.update(mask(text))
            elif time.monotonic() - self._said_at >= every_seconds:
                self._said_at = time.monotonic()
                LOG.info("%s", text)

    def clear(self) -> None:
        """Takes the status line away."""
        with self._lock_status:
            if self._status is not None:
                self._status.stop()
                self._status = None


_SCREEN = Screen()
_QUIET = threading.Event()


def configure() -> None:
    """Sends the log to the screen. May be called again."""
    LOG.setLevel(logging.DEBUG)
    LOG.propagate = False
    if _SCREEN not in LOG.handlers:
        LOG.addHandler(_SCREEN)
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    root = logging.getLogger()
    if not root.handlers:
        others = logging.StreamHandler()
        others.setLevel(logging.WARNING)
        # Py4J tells the root logger, with a traceback, of each call that Ctrl-C has cut short.
        others.addFilter(lambda record: record.module != "java_gateway")
        root.addHandler(others)


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """While it lasts, the log also goes to `path` as JSON lines."""
    handler = JsonLines(path)
    LOG.addHandler(handler)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        handler.close()


def say(message: str, **fields: Any) -> None:
    """A line for people, with fields for the file."""
    LOG.info(message, extra={"fields": fields})


def warn(message: str, **fields: Any) -> None:
    """A line that somebody should look at."""
    LOG.warning(message, extra={"fields": fields})


def note(event: str, message: str = "", **fields: Any) -> None:
    """A record for the file only."""
    LOG.info(message, extra={"event": event, "fields": fields, "only_file": True})


def progress(text: str) -> None:
    """Shows where the work is; replaced by the next call."""
    _SCREEN.progress(text)


def clear_progress() -> None:
    """Takes the progress line away."""
    _SCREEN.clear()


def console() -> Console:
    """Where summaries are printed: standard output, wide where it is no terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 180)


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Notes the seconds that the block took, as the event `timing`."""
    started = time.perf_counter()
    try:
        yield
    finally:
        note("timing", name=name, seconds=round(time.perf_counter() - started, 4))


@contextmanager
def working_on(name: str) -> Iterator[None]:
    """While it lasts, progress is said to be of `name`."""
    _SCREEN.subject = name
    try:
        yield
    finally:
        _SCREEN.subject = ""
        clear_progress()


@contextmanager
def quiet_progress() -> Iterator[None]:
    """While it lasts, only who entered shows progress: a step with progress of its own is not talked over by Spark's stages."""
    _QUIET.set()
    try:
        yield
    finally:
        _QUIET.clear()
        clear_progress()


def is_quiet() -> bool:
    """Whether somebody has the progress line for himself."""
    return _QUIET.is_set()


def end_process(code: int) -> NoReturn:
    """Ends this process at once, with all that it has said written.

    Threads of libraries (gRPC, TensorFlow, Horovod) may still wait for something, and Arrow's abort a process now and then whose
    interpreter ends while they stop (apache/arrow#34314); nothing of ours is left to do.
    """
    with contextlib.suppress(BrokenPipeError):  # of a reader that has seen enough
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
