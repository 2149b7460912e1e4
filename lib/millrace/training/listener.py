"""The driver's side of the heartbeats: what it last heard of each rank, and the server that listens."""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import selectors
import socket
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any

from millrace.training.heartbeat import Event, proof_of

_MAX_LINE_BYTES = 16 * 1024**2
_MAX_PENDING_STEPS = 1000  # progress may lose steps where the callback is slow; nothing else is ever dropped
_HANDSHAKE_SECONDS = 10.0
_POLL_SECONDS = 0.2
_PARTING_SECONDS = 2.0
_STEPS_KEPT = 101
_OFTEN = {"step", "load", "validation"}  # passed on for rank 0 only


@dataclass
class RankState:
    """What the driver last heard of a rank. Times are of time.monotonic()."""

    rank: int
    pid: int
    host: str
    last_heard: float
    kind: str = "hello"
    epoch: int = 0
    step: int = 0
    connected: bool = True
    """False where the worker's side ended the connection."""
    reacted: bool = False
    """Whether its process ended when the driver hung up."""
    last_busy: float = 0.0
    """When its process last said that it computes, whatever it trains or not."""
    last_step: float | None = None
    """When the last step was heard of; None where something else has happened since."""
    step_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_STEPS_KEPT))
    since: float | None = None
    """When its hello came; None after its first step."""
    start_seconds: float = 0.0
    """From its hello to its first step: imports, tracing, planning and the first reads. 0 before there was a step."""
    stack: str = ""
    """Where its training thread was when the driver hung up."""
    waits: bool = False
    """Whether it was in a computation then, which an all-reduce with the other ranks is a part of."""

    @property
    def median_step_seconds(self) -> float:
        """Of the last hundred steps; 0 before there were two."""
        return statistics.median(self.step_seconds) if self.step_seconds else 0.0

    def take(self, event: Event, now: float) -> None:
        """Takes in what is said by another thread than the one that trains."""
        if event["kind"] == "busy":
            self.last_busy = now
        else:
            self.stack, self.waits = str(event["stack"]), bool(event["waits"])

    def hear(self, event: Event, now: float) -> None:
        """Takes in an event."""
        self.last_heard, self.kind = now, event["kind"]
        self.epoch, self.step = event.get("epoch", self.epoch), event.get("step", self.step)
        if self.kind == "hello":
            self.since = now
        if self.kind == "step":
            if self.since is not None:
                self.start_seconds, self.since = now - self.since, None
            if self.last_step is not None:
                self.step_seconds.append(now - self.last_step)
            self.last_step = now
        elif self.kind != "load":
            self.last_step = None  # what lies between two steps now is not a step's time


class HeartbeatServer:
    """The driver's side. Use as a context manager; closing it ends all workers that have not said `done`."""

    def __init__(self, host: str, on_event: Callable[[Event], None] | None = None, *, num_ranks: int = 1, port: int = 0) -> None:
        """Listens on `host` for `num_ranks` workers. `on_event` is called from a thread of its own, in order; of what happens
        often (load, step, validation) it gets rank 0's only."""
        self.token = secrets.token_hex(32)
        self._on_event, self._num_ranks = on_event, num_ranks
        self._listener = socket.create_server((host, port), backlog=128)
        self._listener.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._lock = threading.Lock()
        self._states: dict[int, RankState] = {}
        self._errors: list[Event] = []
        self._ready: dict[int, _Peer] = {}
        self._callback_error: Exception | None = None
        self._closing = threading.Event()
        self._queue: SimpleQueue[Event | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._listen, name="millrace-heartbeat", daemon=True),
            threading.Thread(target=self._dispatch, name="millrace-events", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> HeartbeatServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hang_up(self) -> None:
        """Closes all connections, which ends the workers; events that have arrived are still passed on."""
        self._closing.set()
        self._threads[0].join()

    def close(self) -> None:
        """Hangs up and waits until all events have been passed on."""
        self.hang_up()
        self._queue.put(None)
        self._threads[1].join()

    def states(self) -> dict[int, RankState]:
        """By rank, of all ranks that have said hello."""
        with self._lock:
            return {rank: replace(state, step_seconds=state.step_seconds.copy()) for rank, state in self._states.items()}

    def errors(self) -> list[Event]:
        """The `error` events so far, in the order in which they arrived."""
        with self._lock:
            return list(self._errors)

    @property
    def callback_error(self) -> Exception | None:
        """The first exception that `on_event` raised; it is not called again after one."""
        return self._callback_error

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._closing.is_set():
                for key, _ in selector.select(_POLL_SECONDS):
                    if key.data is None:
                        self._accept(selector)
                    elif not self._receive(key.data):
                        self._drop(selector, key.data)
                late = [key.data for key in selector.get_map().values() if key.data is not None and key.data.is_late()]
                for peer in late:
                    self._drop(selector, peer)
            selector.unregister(self._listener)
            self._listener.close()
            self._part(selector)

    def _part(self, selector: selectors.BaseSelector) -> None:
        """Tells every peer that this is the end and notes who reacts: a process that stands still does not."""
        for key in list(selector.get_map().values()):
            with contextlib.suppress(OSError):
                key.data.connection.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + _PARTING_SECONDS
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(_POLL_SECONDS):
                if not self._receive(key.data):
                    selector.unregister(key.fileobj)
                    key.data.connection.close()
                    with self._lock:
                        if key.data.rank in self._states:
                            self._states[key.data.rank].reacted = True
        for key in list(selector.get_map().values()):
            key.data.connection.close()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            connection, _ = self._listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = _Peer(connection, nonce=secrets.token_hex(16))
            connection.sendall(json.dumps({"nonce": peer.nonce}).encode() + b"\n")
            connection.setblocking(False)
        except OSError:
            return  # it went away before it was let in
        selector.register(connection, selectors.EVENT_READ, peer)

    def _drop(self, selector: selectors.BaseSelector, peer: _Peer) -> None:
        selector.unregister(peer.connection)
        peer.connection.close()
        with self._lock:
            if peer.rank in self._states:
                self._states[peer.rank].connected = False

    def _receive(self, peer: _Peer) -> bool:
        """Takes in what has arrived; False where the connection is over."""
        try:
            received = peer.connection.recv(1 << 16)
        except BlockingIOError:
            return True
        except OSError:
            return False
        peer.pending += received
        *lines, peer.pending = peer.pending.split(b"\n")
        try:
            for line in lines:
                self._take(peer, json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            return False  # not one of ours
        return bool(received) and len(peer.pending) < _MAX_LINE_BYTES

    def _take(self, peer: _Peer, event: dict[str, Any]) -> None:
        now = time.monotonic()
        if peer.rank is None:
            proof = proof_of(self.token, peer.nonce)
            if event["kind"] != "hello" or not hmac.compare_digest(event["proof"], proof):
                raise ValueError("no proof of the token")
            peer.rank = int(event["rank"])
            del event["proof"]
            with self._lock:
                self._states[peer.rank] = RankState(peer.rank, int(event["pid"]), str(event["host"]), now)
        if event["kind"] in ("busy", "parting"):
            with self._lock:
                self._states[peer.rank].take(event, now)
            return
        with self._lock:
            self._states[peer.rank].hear(event, now)
            if event["kind"] == "error":
                self._errors.append(event)
        if event["kind"] == "ready":
            self._ready[peer.rank] = peer
            if len(self._ready) == self._num_ranks:
                for ready in self._ready.values():
                    with contextlib.suppress(OSError):
                        ready.connection.sendall(b"go\n")
        if event["kind"] not in _OFTEN or (peer.rank == 0 and self._queue.qsize() < _MAX_PENDING_STEPS):
            self._queue.put(event)

    def _dispatch(self) -> None:
        while (event := self._queue.get()) is not None:
            if self._on_event is None or self._callback_error is not None:
                continue
            try:
                self._on_event(event)
            except Exception as error:  # raised again by whoever runs the training
                self._callback_error = error


@dataclass(eq=False)
class _Peer:
    connection: socket.socket
    nonce: str
    rank: int | None = None
    pending: bytes = b""
    since: float = field(default_factory=time.monotonic)

    def is_late(self) -> bool:
        return self.rank is None and time.monotonic() - self.since > _HANDSHAKE_SECONDS
