"""How the driver knows what its workers do, and how workers know that the driver lives: one TCP connection for each rank.

Lines of JSON, from the worker to the driver: {rank, kind, ...}. The kinds are

    hello       first line, with pid, host and an HMAC of the server's nonce under the run's token
    ready       before it looks for the other ranks, and waits for the driver's word
    start       Horovod's processes have found one another
    load        a row group has arrived: epoch
    step        after each optimizer step: epoch, step, step_in_epoch, num_steps, loss (mean over the global batch), rows and
                seconds (both in this epoch), learning_rate
    validation  after each batch of validation: epoch, step
    checkpoint  as a checkpoint is written, or read at the start
    wait        before waiting for the other ranks: silence is now no fault of this rank
    epoch       an epoch is over: epoch, step, metrics (its rows of metrics/epochs)
    log         a remark: message, warns (whether something is wrong)
    error       the worker fails: error (a MillraceError on the wire, or a traceback), collective (another rank's failure is
                the cause)
    done        the worker's work is over
    busy        every 3 s in which the process has computed, whatever its training thread does (work_watch.py). It tells hard
                work from a hang, but is no sign that training goes on

After its nonce the driver sends one more line, `go`, when all ranks are ready: Horovod's processes have only seconds to find one
another. When the driver's side closes, the worker's process ends at once, so that none outlives it. Its last line is then

    parting     where the thread was that trains: stack, and waits (it was in a computation, which may wait for other ranks)
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import socket
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import Any

Event = Mapping[str, Any]

EXIT_DRIVER_LOST = 75  # a worker's exit code when the driver is gone
_STACK_FRAMES = 8
_LOCK_SECONDS = 1.0
_WHERE_RANKS_WAIT = (f"tensorflow{os.sep}", f"horovod{os.sep}", "host_sum.py")


class Heartbeat:
    """A worker's side. The process ends with EXIT_DRIVER_LOST when the driver closes the connection before `close`."""

    def __init__(self, address: tuple[str, int], token: str, rank: int, *, timeout_seconds: float = 30.0) -> None:
        """Raises OSError where the driver cannot be reached."""
        self._rank = rank
        self._closed = False
        self._go = threading.Event()
        self._lock = threading.Lock()
        self._connection = socket.create_connection(address, timeout=timeout_seconds)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        greeting = b""
        while not greeting.endswith(b"\n"):
            received = self._connection.recv(4096)
            if not received:
                raise ConnectionError("the driver closed the connection")
            greeting += received
        self._connection.settimeout(None)
        proof = proof_of(token, json.loads(greeting)["nonce"])
        self.send("hello", pid=os.getpid(), host=socket.gethostname(), proof=proof)
        threading.Thread(target=self._watch_driver, name="millrace-driver-watch", daemon=True).start()

    def send(self, kind: str, **fields: Any) -> None:
        """Tells the driver; where it is gone this process ends."""
        line = json.dumps({"rank": self._rank, "kind": kind, **fields}).encode() + b"\n"
        with self._lock:
            try:
                self._connection.sendall(line)
            except OSError:
                self._driver_lost()

    def wait_for_others(self) -> None:
        """Returns when all ranks have come to this call; how long that may take is for the driver to say."""
        self.send("ready")
        self._go.wait()

    def close(self) -> None:
        """Says `done`; from here on the process no longer depends on the driver."""
        self._closed = True
        self.send("done")
        self._connection.close()

    def _watch_driver(self) -> None:
        try:
            while self._connection.recv(4096):
                self._go.set()
        except OSError:
            pass
        self._say_where()
        self._driver_lost()

    def _say_where(self) -> None:
        """Tells a driver that has only hung up what this rank was doing: of ranks that were silent together one is to blame."""
        if self._closed or not self._lock.acquire(timeout=_LOCK_SECONDS):
            return
        stack, waits = where_is_main_thread()
        line = json.dumps({"rank": self._rank, "kind": "parting", "stack": stack, "waits": waits}).encode() + b"\n"
        with contextlib.suppress(OSError):
            self._connection.sendall(line)
        self._lock.release()

    def _driver_lost(self) -> None:
        if not self._closed:
            os._exit(EXIT_DRIVER_LOST)


def proof_of(token: str, nonce: str) -> str:
    """What shows that a worker has the run's token, without sending it."""
    return hmac.new(token.encode(), nonce.encode(), "sha256").hexdigest()


def where_is_main_thread() -> tuple[str, bool]:
    """Its innermost frames as text, and whether it is where it waits for other ranks."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    if frame is None:
        return "", False
    frames = traceback.extract_stack(frame)[-_STACK_FRAMES:]
    waits = any(f"{os.sep}{part}" in frames[-1].filename for part in _WHERE_RANKS_WAIT)
    return "".join(traceback.format_list(frames)).rstrip(), waits
