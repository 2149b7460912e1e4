"""Why an attempt has failed, in one error for the user, and whether another attempt may go better."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from millrace.errors import MillraceError, TrainingError, find_in
from millrace.observe import mask
from millrace.training.listener import HeartbeatServer, RankState
from millrace.training.watchdog import Watchdog, describe

STAGE = "training"


@dataclass(frozen=True)
class Failure:
    """An attempt that did not reach its end."""

    error: MillraceError
    """What the user gets where it was the last attempt."""
    reason: str
    """What has happened, in a few words."""

    @property
    def may_pass(self) -> bool:
        """Whether a restart may help: a worker died, fell silent or did not start, or its own error says so. Anything else that a
        worker raises, a mistake in the code as well as a loss that is no number, would only come again."""
        return self.error.retry


class AttemptFailedError(Exception):
    """Carries the Failure from an attempt to whoever decides about the next one."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


def explain(raised: BaseException, server: HeartbeatServer, watchdog: Watchdog, output: str) -> Failure:
    """A worker's own error where one was raised, else who fell silent or died. `output` is what the workers printed last, and all
    that there is of one that could not reach the driver."""
    errors = sorted(server.errors(), key=lambda event: bool(event["collective"]))
    if errors and not errors[0]["collective"]:
        return _own_error(int(errors[0]["rank"]), str(errors[0]["error"]))
    unheard = find_in(output)
    if unheard is not None and not errors:
        return _ours(unheard, "a worker")
    blamed = _blame(server.states(), watchdog.silent)
    if blamed:
        reason = describe(blamed, watchdog.aborted_at or time.monotonic())
    elif errors:
        reason = f"rank {errors[0]['rank']} lost the others ({mask(str(errors[0]['error'])).splitlines()[-1]})"
    else:
        reason = watchdog.reason or mask(f"{type(raised).__name__}: {raised}")
    stacks = [f"; rank {state.rank} was in:\n{state.stack}\n" for state in blamed if state.stack]
    tail = f"; the workers' last output was:\n{mask(output)}\n" if output else ""
    error = TrainingError(
        STAGE,
        expected="every rank to take part in every step",
        found=reason + "".join(stacks) + tail,
        remedy="Run again; training goes on from its last checkpoint.",
        retry=True,
    )
    return Failure(error, reason)


def no_result(address: str, num_heard: int, num_workers: int) -> Failure:
    """Every worker has ended as if all were well, and rank 0 has given nothing."""
    error = TrainingError(
        STAGE,
        expected="a result from rank 0",
        found=f"none; {num_heard} of {num_workers} workers had reached the driver at {address}",
        remedy="See that executors can connect to the driver there, and run again; training goes on from its last checkpoint.",
        retry=True,
    )
    return Failure(error, f"rank 0 gave no result: {error.found}")


def _own_error(rank: int, text: str) -> Failure:
    """What a rank has raised: one of ours as itself, anything else with its whole traceback."""
    ours = find_in(text)
    if ours is None:
        found = f"this in rank {rank}:\n{mask(text)}\n"
        remedy = "If it is not a mistake in the code, run again; training goes on from its last checkpoint."
        return Failure(TrainingError(STAGE, expected="every rank to finish", found=found, remedy=remedy), f"rank {rank} failed")
    return _ours(ours, f"rank {rank}")


def _ours(error: MillraceError, who: str) -> Failure:
    found = mask(error.found)
    masked = type(error)(error.stage, expected=mask(error.expected), found=found, remedy=mask(error.remedy), retry=error.retry)
    return Failure(masked, f"{who} failed: expected {masked.expected}; found {found}")


def _blame(states: Mapping[int, RankState], silent: Sequence[int]) -> list[RankState]:
    """The ranks that the others have suffered from, as well as it can be told; empty where nothing is known.

    Of ranks that were silent together, those to blame are not the ones that were in a computation, which waits for all ranks.
    """
    open_states = [state for state in states.values() if state.kind not in ("error", "done")]
    gone = [state for state in open_states if not state.connected]
    frozen = [state for state in open_states if state.connected and not state.reacted]
    hung = [states[rank] for rank in silent]
    return gone or frozen or [state for state in hung if not state.waits] or hung
