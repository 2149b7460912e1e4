"""The errors that a user meets.

    MillraceError
    ├── ConfigError     a pipeline file, an override or a command line is wrong
    ├── ContractError   data or a table does not have the columns and types that its contract states
    ├── SourceError     raw data is missing, damaged or unreadable
    ├── QualityError    too many rows were rejected
    ├── LakeError       the lake cannot be read, written or locked
    ├── PlanError       rows, batches, shards and workers do not fit together
    ├── TrainingError   training stopped
    ├── ExportError     a model cannot be exported or reloaded
    ├── GateError       a model is worse than the gate allows
    └── SecurityError   something untrusted was about to be loaded

Each says at which stage it happened, what was expected, what was found and what to do about it.
"""

from __future__ import annotations

import json
import re
from typing import ClassVar

_WIRE = re.compile(r"<<millrace-error:(.*?):millrace-error>>", re.DOTALL)


class MillraceError(Exception):
    """Stage, expectation, finding and remedy in one line.

    `retry` says that the same call may succeed later (exit code 1); otherwise it cannot (the class's exit code).
    """

    exit_code_final: ClassVar[int] = 2

    def __init__(self, stage: str, *, expected: str, found: str, remedy: str, retry: bool = False) -> None:
        super().__init__(stage, expected, found, remedy)
        self.stage = stage
        self.expected = expected
        self.found = found
        self.remedy = remedy
        self.retry = retry

    @property
    def exit_code(self) -> int:
        """1 where a retry may help, else what the class says (2, or 3 for the gate)."""
        return 1 if self.retry else self.exit_code_final

    def __str__(self) -> str:
        return f"{self.stage}: expected {self.expected}; found {self.found}. {self.remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self).__name__, self.stage, self.expected, self.found, self.remedy, self.retry)

    def to_wire(self) -> str:
        """A text that survives the way from a Spark executor to the driver inside somebody else's traceback."""
        fields = [type(self).__name__, self.stage, self.expected, self.found, self.remedy, self.retry]
        return f"<<millrace-error:{json.dumps(fields)}:millrace-error>>"


class ConfigError(MillraceError):
    """A pipeline file, an override or a command line is wrong."""


class ContractError(MillraceError):
    """Data or a table does not have the columns and types that its contract states."""


class SourceError(MillraceError):
    """Raw data is missing, damaged or unreadable."""


class QualityError(MillraceError):
    """Too many rows were rejected."""


class LakeError(MillraceError):
    """The lake cannot be read, written or locked."""


class PlanError(MillraceError):
    """Rows, batches, shards and workers do not fit together."""


class TrainingError(MillraceError):
    """Training stopped."""


class ExportError(MillraceError):
    """A model cannot be exported or reloaded."""


class GateError(MillraceError):
    """A model is worse than the gate allows."""

    exit_code_final = 3


class SecurityError(MillraceError):
    """Something untrusted was about to be loaded."""


class WireError(Exception):
    """Carries a MillraceError out of an executor: its text is all that Spark passes on."""

    def __init__(self, error: MillraceError) -> None:
        super().__init__(error.to_wire())


def in_short(text: str) -> str:
    """The first line of what Spark says of an error, without the error's name and SQLSTATE and without the plan that follows."""
    first = re.sub(r"\s*SQLSTATE: \w+.*$", "", text.strip().splitlines()[0])
    return re.sub(r"^\[[A-Z_.]+\]\s*", "", first).rstrip(".")


def find_in(text: str) -> MillraceError | None:
    """The first MillraceError that an executor put into `text` with `to_wire`, or None."""
    match = _WIRE.search(text)
    if match is None:
        return None
    try:
        name, stage, expected, found, remedy, retry = json.loads(match.group(1))
    except ValueError:
        return None
    return _rebuild(name, stage, expected, found, remedy, retry)


def _rebuild(name: str, stage: str, expected: str, found: str, remedy: str, retry: bool) -> MillraceError:
    kinds = {kind.__name__: kind for kind in MillraceError.__subclasses__()}
    return kinds.get(name, MillraceError)(stage, expected=expected, found=found, remedy=remedy, retry=retry)
