"""Run benchmarks: `python -m bench [NAME...]`, all of them where none is named.

Exit code: 0, 1 where a bound does not hold or a benchmark fails, 2 where it cannot run at all (unknown name, no data).
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from bench import loading, night, plan, preprocess_tabular, preprocess_tokens, training
from bench.report import Result, print_table, write_json
from millrace.errors import ConfigError, MillraceError

BENCHMARKS: dict[str, Callable[[int], Result]] = {
    "loading": loading.run,
    "night": night.run,
    "plan": plan.run,
    "preprocess_tabular": preprocess_tabular.run,
    "preprocess_tokens": preprocess_tokens.run,
    "training": training.run,
}
"""By name: what runs it, given the number of rounds."""

OUTPUT = Path("build") / "bench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named benchmarks, print a table and write a JSON file for each; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Run benchmarks, each against a peer in the same run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--rounds", type=_positive, default=3, help="how often each side runs, in turn (default: 3)")
    chosen = parser.parse_args(arguments)
    screen, errors = Console(), Console(stderr=True)
    try:
        names = [known(name) for name in chosen.names] or list(BENCHMARKS)
        all_hold = True
        for name in names:
            result = BENCHMARKS[name](chosen.rounds)
            path = write_json(name, result, OUTPUT)
            print_table(name, result, screen)
            screen.print(f"written to {path}", highlight=False)
            all_hold = all_hold and result.holds
    except MillraceError as error:
        errors.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0 if all_hold else 1


def known(name: str) -> str:
    """The name itself. Raises ConfigError with the nearest one where there is no such benchmark."""
    if name in BENCHMARKS:
        return name
    nearest = difflib.get_close_matches(name, BENCHMARKS, n=1, cutoff=0.0)
    raise ConfigError(
        "bench",
        expected=f"a benchmark ({', '.join(BENCHMARKS)})",
        found=repr(name),
        remedy=f"Did you mean {nearest[0]}?",
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


if __name__ == "__main__":
    sys.exit(main())
