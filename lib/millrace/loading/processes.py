"""Petastorm's process pool, made fit to be trusted with a training run.

What is changed: sockets lie in a directory that only this user can open, not on TCP ports; results are not pickled; a reader that
dies is noticed instead of waited for; the end does not wait for one that hangs; and readers end by themselves when their parent
is gone, however it went.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import zmq
from petastorm.workers_pool.process_pool import ProcessPool

from millrace.errors import LakeError

STAGE = "load"
_POLL_MILLISECONDS = 100
_PARENT_SECONDS = 0.5  # how often a reader looks whether its parent is still there
_START_SECONDS = 60.0
_END_SECONDS = 3.0  # how long a reader may take to end when told to
_SOCKET_PATH_LIMIT = 90  # a Unix socket's address holds 107 letters
_environment_lock = threading.Lock()


class Serializer(Protocol):
    """Results as bytes and back."""

    def serialize(self, data: Any) -> memoryview: ...

    def deserialize(self, data: memoryview) -> Any: ...


class ReaderProcesses(ProcessPool):  # type: ignore[misc]  # Petastorm has no type hints
    """Readers as processes of their own, started without a fork."""

    def __init__(self, num_processes: int, serializer: Serializer) -> None:
        super().__init__(num_processes, serializer=serializer, zmq_copy_buffers=False)
        directory = tempfile.mkdtemp(prefix="millrace-")
        if len(directory) > _SOCKET_PATH_LIMIT:
            shutil.rmtree(directory)
            directory = tempfile.mkdtemp(prefix="millrace-", dir="/tmp")  # private, as mkdtemp's are
        self.directory = directory
        self._num_sockets = 0

    def start(self, worker_class: type, worker_setup_args: Any = None, ventilator: Any = None) -> None:
        """Starts the readers and waits for them. Raises LakeError where one dies or does not start in time."""
        try:
            with _importable():
                super().start(worker_class, worker_setup_args, ventilator)
        except BaseException:
            self._kill()
            self.join()
            raise

    def _wait_for_workers_to_start(self) -> None:
        """Petastorm's name; each reader sends one message when it can work."""
        deadline = time.monotonic() + _START_SECONDS
        for _ in range(self.workers_count):
            while not self._results_receiver_poller.poll(_POLL_MILLISECONDS):
                self._check_alive()
                if time.monotonic() > deadline:
                    raise LakeError(
                        STAGE,
                        expected=f"{self.workers_count} reader processes to start within {_START_SECONDS:g} s",
                        found="fewer",
                        remedy="Start the run again, with fewer num_readers or with pool: threads.",
                        retry=True,
                    )
            self._results_receiver.recv()

    def is_alive(self) -> bool:
        """Whether no reader has ended."""
        return all(process.poll() is None for process in self._workers)

    def get_results(self) -> Any:
        """The next result. Call it only while one is missing. Raises LakeError where a reader has died."""
        while True:
            if not self._results_receiver_poller.poll(_POLL_MILLISECONDS):
                self._check_alive()
                continue
            payload, _ = self._results_receiver.recv_multipart(copy=False)
            if len(payload.buffer):  # an empty one only says that an item was finished
                return self._serializer.deserialize(payload.buffer)

    def stop(self) -> None:
        """Tells the readers to end."""
        if self._ventilator:
            self._ventilator.stop()
        if self._control_sender is not None:
            self._control_sender.send_string("FINISHED")

    def join(self) -> None:
        """Waits for the readers to end, kills those that do not, and closes what belongs to the pool."""
        deadline = time.monotonic() + _END_SECONDS
        while any(process.poll() is None for process in self._workers) and time.monotonic() < deadline:
            self.stop()  # again, because one that has just connected may have missed it
            time.sleep(0.02)
        self._kill()
        for socket in (self._ventilator_send, self._control_sender, self._results_receiver):
            if socket is not None:
                socket.close(linger=0)
        context: zmq.Context[Any] | None = getattr(self, "_context", None)
        if context is not None:
            context.term()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _kill(self) -> None:
        for process in self._workers:
            if process.poll() is None:
                process.kill()
            process.wait()

    def _check_alive(self) -> None:
        for process in self._workers:
            if process.poll() is not None:
                raise LakeError(
                    STAGE,
                    expected="every reader process to live as long as the epoch",
                    found=f"reader {process.pid} ended with {_how_it_ended(process.returncode)}",
                    remedy="Look for a lack of memory on its machine, and start the run again.",
                    retry=True,
                )

    def _create_local_socket_on_random_port(self, context: zmq.Context[Any], socket_type: int) -> tuple[zmq.Socket[Any], str]:
        """Petastorm's name; gives a socket in the pool's own directory."""
        self._num_sockets += 1
        address = f"ipc://{self.directory}/{self._num_sockets}"
        socket = context.socket(socket_type)
        socket.linger = 0
        socket.bind(address)
        return socket, address


def outlive_no_parent(parent: int, directory: str) -> None:
    """In a reader: ends this process soon after `parent` is gone, by whatever means, and leaves Ctrl-C to the parent.

    The kernel's own signal for a parent's death is not used: it comes when the starting thread ends, too.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_SECONDS)
        shutil.rmtree(directory, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


@contextmanager
def _importable() -> Iterator[None]:
    """Children find the same modules, also where this process got its path from a zip, and keep their imports' warnings."""
    settings = {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path and Path(path).exists()),
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": "1",
    }
    with _environment_lock:
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _how_it_ended(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
