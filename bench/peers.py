"""An environment of their own for the libraries that Millrace is measured against: requirements/peers.lock in .venv-peers."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from millrace.errors import MillraceError

ROOT = Path(__file__).resolve().parent.parent
_LOCK = ROOT / "requirements" / "peers.lock"
_PLACE = ROOT / ".venv-peers"


def python() -> Path:
    """The environment's Python. Makes it where it is not there or the lock has changed. Raises MillraceError where that fails."""
    wanted = hashlib.sha256(_LOCK.read_bytes()).hexdigest()
    stamp, found = _PLACE / ".stamp", _PLACE / "bin" / "python"
    if found.exists() and stamp.exists() and stamp.read_text() == wanted:
        return found
    print("bench: making the peers' environment (.venv-peers), once", file=sys.stderr, flush=True)
    _run(sys.executable, "-m", "venv", "--clear", str(_PLACE))
    _run(str(found), "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", str(_LOCK))
    stamp.write_text(wanted)
    return found


def environment() -> dict[str, str]:
    """What a peer's process sees: not Millrace's packages, and no network for those that would look there for models."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in hidden} | {"HF_HUB_OFFLINE": "1"}


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment())
    if done.returncode:
        raise MillraceError(
            "bench",
            expected=f"`{' '.join(command)}` to succeed",
            found=f"exit code {done.returncode}: {' | '.join(done.stderr.strip().splitlines()[-3:])}",
            remedy="Peers come from the package index that pip is configured with; see whether it answers.",
            retry=True,
        )
