"""The command line of jobs/maintain.py. It needs no pipeline, and Spark only where a contract has `upsert`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from rich.table import Table

from millrace import observe
from millrace.flows.context import check_night
from millrace.flows.job import INTERRUPTED, report, take_signals
from millrace.flows.lazy_spark import lazy_spark
from millrace.flows.maintain import STEP, Options, Report, maintain
from millrace.lake.layout import Lake


def main(description: str) -> NoReturn:
    """Runs as this process."""
    take_signals()
    observe.end_process(run(description, sys.argv[1:]))


def run(description: str, argv: Sequence[str]) -> int:
    """Runs with a command line. Returns the exit code: as other jobs do."""
    observe.configure()
    arguments = _parser(description).parse_args(argv)
    try:
        options = Options(
            retention=timedelta(days=arguments.retention_days),
            zorder=tuple(arguments.zorder),
            dry_run=arguments.dry_run,
            night=check_night(arguments.night),
        )
        with lazy_spark(STEP) as sessions:
            _print(maintain(Lake.at(arguments.lake), options, sessions), dry_run=arguments.dry_run)
        return 0
    except KeyboardInterrupt:
        observe.warn("interrupted; the same command goes on")
        return INTERRUPTED
    except Exception as error:
        return report(error, debug=arguments.debug)


def _parser(description: str) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--lake", default="lake", help="where the lake is: a path or a URI (default: ./lake)")
    options.add_argument(
        "--retention-days", type=_days, default=7.0, help="how long versions stay readable that nothing names (default: 7)"
    )
    options.add_argument("--zorder", action="append", default=[], metavar="COLUMN", help="sort silver by it; may be repeated")
    options.add_argument("--dry-run", action="store_true", help="print what would go, and change nothing")
    options.add_argument("--night", default=datetime.now(UTC).date().isoformat(), help="YYYY-MM-DD (default: today, UTC)")
    options.add_argument("--debug", action="store_true", help="show tracebacks")
    return options


def _days(text: str) -> float:
    days = float(text)
    if not 0.0 <= days <= 36500.0:
        raise ValueError(text)
    return days


def _print(done: Report, *, dry_run: bool) -> None:
    table = Table("table", "files", "bytes", title="would be removed" if dry_run else "removed", title_justify="left")
    for found in done.removed:
        table.add_row(found.table, f"{len(found.paths):,}", f"{found.num_bytes:,}")
    console = observe.console()
    console.print(table if done.removed else "nothing to remove")
    for name, count in done.small_files.items():
        console.print(f"{name}: {'has' if dry_run else 'had'} {count} small files to put together", soft_wrap=True)
