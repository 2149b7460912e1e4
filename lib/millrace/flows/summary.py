"""What a person sees at the end: counts, metrics, where things lie, what to do next."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from millrace import observe
from millrace.flows.context import Context
from millrace.lake import ledger as books
from millrace.lake import log
from millrace.lake.layout import MODELS


def print_summary(context: Context) -> None:
    """Prints the standing steps of the night, the model's figures and the next commands."""
    ledger = books.Ledger.read(context.lake)
    console = observe.console()
    console.print()
    console.print(_steps(context, ledger))
    model = _model(context)
    if model is not None:
        figures = "  ".join(f"{name} {value:.4f}" for name, value in sorted(model["metrics"]))
        console.print(f"model {context.config.name} version {model['version']} ({model['stage']}) on the test split: {figures}")
        console.print(f"exports    {model['artifact']}", soft_wrap=True)
    run = context.lake.artifacts(context.config.name, context.run.run_id)
    console.print(f"artifacts  {run}", soft_wrap=True)
    lake = context.lake.uri
    console.print(f"next       {command()} runs --lake {lake}", soft_wrap=True)
    if any(entry.counts and entry.counts.num_rows_quarantined for entry in _standing(context, ledger).values()):
        console.print(
            f"           {command()} quarantine {context.config.name} --night {context.run.night} --lake {lake}", soft_wrap=True
        )
    if model is not None:
        query = "SELECT artifact, metric, average, value FROM metrics_evaluation WHERE label IS NULL"
        console.print(f'           {command()} sql "{query}" --lake {lake}', soft_wrap=True)


def command() -> str:
    """How `millrace` is called here: by its name where the shell finds it."""
    path = Path(sys.prefix, "bin", "millrace")
    if shutil.which("millrace") or not path.exists():
        return "millrace"
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _standing(context: Context, ledger: books.Ledger) -> dict[str, books.Entry]:
    """The newest succeeded entry of each step, of this run where it has one, else of the run that did it for all."""
    found: dict[str, books.Entry] = {}
    for name in ("ingest", "preprocess", "train", "publish"):
        own = ledger.succeeded(step=name, run_id=context.run.run_id)
        others = [entry for entry in ledger.entries if entry.step == name and entry.status == "succeeded"]
        same = [entry for entry in others if entry.run.pipeline == context.config.name]
        entry = own or (same[-1] if same else None)
        if entry is not None:
            found[name] = entry
    return found


def _steps(context: Context, ledger: books.Ledger) -> Table:
    table = Table(title=f"{context.run.run_id}", title_justify="left")
    for name in ("step", "rows in", "kept", "quarantined", "dropped", "seconds", "done by"):
        table.add_column(name, justify="left" if name in ("step", "done by") else "right")
    for name, entry in _standing(context, ledger).items():
        counts = entry.counts or books.Counts()
        seconds = (entry.ended_at - entry.started_at).total_seconds() if entry.ended_at else 0.0
        numbers = [counts.num_rows_in, counts.num_rows_kept, counts.num_rows_quarantined, counts.num_rows_dropped]
        done_by = "this run" if entry.run.run_id == context.run.run_id else entry.run.run_id
        table.add_row(name, *[f"{number:,}" for number in numbers], f"{seconds:.1f}", done_by)
    return table


def _model(context: Context) -> dict[str, Any] | None:
    uri = context.lake.path(MODELS)
    if not log.exists(uri):
        return None
    rows = [row for row in log.read_rows(uri).to_pylist() if row["pipeline"] == context.config.name]
    own = [row for row in rows if row["run_id"] == context.run.run_id]
    return max(own or rows, key=lambda row: row["version"], default=None)
