"""What keeps a Horovod run from reaching into the driver: its output, its threads' tracebacks and its signal handlers."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_KEPT_PIECES = 200


class WorkerOutput:
    """The end of what workers print, kept away from the user's terminal."""

    def __init__(self) -> None:
        self._pieces: deque[str] = deque(maxlen=_KEPT_PIECES)

    def write(self, text: str) -> int:
        self._pieces.append(text)
        return len(text)

    def flush(self) -> None:
        """Nothing is buffered."""

    def text(self) -> str:
        """The last lines."""
        return "\n".join("".join(self._pieces).splitlines()[-20:]).strip()


@contextlib.contextmanager
def quiet_threads() -> Iterator[None]:
    """Keeps tracebacks of Horovod's threads off the terminal: they say that a job was cancelled, which is known."""
    usual = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        frames = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(args.exc_traceback))
        if not any(name.startswith("horovod.") for name in frames):
            usual(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = usual


@contextlib.contextmanager
def quick_quiet_tasks() -> Iterator[None]:
    """While it lasts, the Spark tasks of `horovod.spark.run` end at once and print no tracebacks of their threads.

    Horovod lets a task wait three seconds after its command has ended, so that the driver can ask for the exit code of a very
    short one; half a second is enough. Its threads complain on the executor's stderr when a run is aborted.
    """
    from horovod.spark import runner

    usual = runner._make_mapper

    def make_mapper(*arguments: Any) -> Callable[[int, Any], Iterator[Any]]:
        mapper = usual(*arguments)

        def run_task(index: int, rows: Any) -> Iterator[Any]:  # travels by value: on an executor this package may not be there
            import os
            import threading

            from horovod.spark import runner as on_executor

            on_executor.MINIMUM_COMMAND_LIFETIME_S = 0.5
            # for the process that counts semaphores: of an aborted run it would say that some were left
            warnings = os.environ.get("PYTHONWARNINGS")
            os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker:UserWarning"
            usual_hook, threading.excepthook = threading.excepthook, lambda _: None
            try:
                yield from mapper(index, rows)
            finally:
                threading.excepthook = usual_hook
                del os.environ["PYTHONWARNINGS"]
                if warnings is not None:
                    os.environ["PYTHONWARNINGS"] = warnings

        return run_task

    runner._make_mapper = make_mapper
    try:
        yield
    finally:
        runner._make_mapper = usual


@contextlib.contextmanager
def gloo_is_there() -> Iterator[None]:
    """While it lasts, Horovod believes that it was built with Gloo.

    It would fork this process to import TensorFlow and ask it: seconds, noise on the terminal, and a fork beside threads.
    A worker without Gloo says so itself.
    """
    import horovod.runner.launch

    usual = horovod.runner.launch.gloo_built
    horovod.runner.launch.gloo_built = lambda **_: True
    try:
        yield
    finally:
        horovod.runner.launch.gloo_built = usual


class _StopRun(BaseException):
    """A signal came before Horovod had set its own handlers."""


class HeldSignals:
    """Notes SIGINT, SIGTERM and SIGHUP while a run lasts; then puts the old handlers back.

    Horovod has handlers of its own for the first two, which swallow them and end the run. It knows nothing of SIGHUP, which is
    turned into a SIGTERM for it; where SIGHUP is ignored, as under nohup, it stays so.
    """

    _WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __enter__(self) -> HeldSignals:
        self._came: Counter[int] = Counter()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._old = {number: signal.getsignal(number) for number in self._WATCHED}
        self._raised = False
        signal.signal(signal.SIGINT, self._stop_start)
        signal.signal(signal.SIGTERM, self._stop_start)
        if self._old[signal.SIGHUP] is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
        # every signal's number is written here by the interpreter, whoever handles it
        self._old_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._old_fd)
        for number, handler in self._old.items():
            signal.signal(number, handler)
        with contextlib.suppress(BlockingIOError):
            while numbers := self._reader.recv(4096):
                self._came.update(numbers)
        self._reader.close()
        self._writer.close()

    def raise_what_came(self, *, own_terminations: int) -> None:
        """KeyboardInterrupt for a SIGINT; SIGHUP, and SIGTERM from outside, is sent again, to the handler it was meant for."""
        if self._came[signal.SIGINT]:
            raise KeyboardInterrupt
        if self._came[signal.SIGHUP]:
            signal.raise_signal(signal.SIGHUP)
        elif self._came[signal.SIGTERM] > own_terminations:
            signal.raise_signal(signal.SIGTERM)

    def _stop_start(self, number: int, _frame: FrameType | None) -> Any:
        if not self._raised:  # a second one must not disturb the cleaning up
            self._raised = True
            raise _StopRun(signal.Signals(number).name)
