"""The command `millrace`: look at a lake and its pipelines. Spark is started only for tables that nothing else can read."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Callable
from datetime import date, datetime
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import click
import yaml
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from millrace import __version__, observe
from millrace.config.load import load_pipeline
from millrace.config.places import Places
from millrace.contracts.table import load_contract
from millrace.errors import MillraceError
from millrace.flows import inspect
from millrace.flows.check import check_pipeline
from millrace.flows.context import check_night
from millrace.flows.export_table import Format, export_table
from millrace.flows.lazy_spark import lazy_spark
from millrace.flows.new import new_pipeline
from millrace.lake.layout import Lake

lake_option = click.option("--lake", default="lake", show_default="./lake", help="Where the lake is: a path or a URI.")
conf_option = click.option("--conf-dir", help="A directory with pipelines/ and schemas/ that is searched first.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="millrace")
def cli() -> None:
    """Look at a lake and its pipelines. The jobs that fill it are under jobs/."""


def reported(command: Callable[..., None]) -> Callable[..., None]:
    """One line for an error of ours, and its exit code."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        observe.configure()
        try:
            command(*arguments, **options)
        except MillraceError as error:
            observe.LOG.error("%s", error)
            sys.exit(error.exit_code)

    return run


@cli.command()
@lake_option
@click.option("--pipeline", help="Only this one.")
@click.option("--last", default=20, show_default=True, help="How many entries.")
@reported
def runs(lake: str, pipeline: str | None, last: int) -> None:
    """What happened: the ledger, newest last. A step that `started` and nothing more was killed, or still runs."""
    table = Table(title=f"runs in {Lake.at(lake).uri}", title_justify="left")
    for name in ("run", "step", "status", "try", "in", "kept", "quarantined", "dropped", "seconds", "error"):
        table.add_column(name, no_wrap=name in ("run", "step", "status"), overflow="fold")
    for entry in inspect.runs(Lake.at(lake), pipeline=pipeline)[-last:]:
        counts = vars(entry.counts).values() if entry.counts else ["", "", "", ""]
        seconds = f"{(entry.ended_at - entry.started_at).total_seconds():.1f}" if entry.ended_at else ""
        row = [entry.run.run_id, entry.step, entry.status, str(entry.attempt), *map(str, counts), seconds, entry.error or ""]
        table.add_row(*map(Text, row))  # as Text, because rich would take [square brackets] for markup
    observe.console().print(table)


@cli.command()
@lake_option
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@click.argument("query")
@reported
def sql(lake: str, form: str, query: str) -> None:
    """Run a QUERY (DuckDB's SQL) over the lake's tables: metrics/runs is metrics_runs, and so on. `SHOW TABLES` lists them."""
    with lazy_spark("sql") as sessions:
        found = inspect.sql(Lake.at(lake), query, sessions=sessions)
    rows = list(zip(*[column.to_pylist() for column in found.columns], strict=True))  # two columns may have one name
    if form == "json":
        named = [{name: _for_json(value) for name, value in zip(found.column_names, row, strict=True)} for row in rows]
        click.echo(json.dumps(named, ensure_ascii=False))
    elif form == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([found.column_names, *[[_for_people(value) for value in row] for row in rows]])
        click.echo(text.getvalue(), nl=False)
    else:
        table = Table(*[escape(name) for name in found.column_names])
        for row in rows:
            table.add_row(*[Text(_for_people(value)) for value in row])
        observe.console().print(table)


@cli.command("export-table")
@lake_option
@click.option("--format", "form", type=click.Choice(["csv", "jsonl", "parquet"]), required=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write.")
@click.option("--version", type=int, help="Of a table; without it the last that a finished step has written.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.argument("table_or_query")
@reported
def export(lake: str, form: Format, out: Path, version: int | None, force: bool, table_or_query: str) -> None:
    """Write a table (gold/digits or gold_digits) or the rows of a query to a file, however many they are.

    csv: NULL is an empty field, an empty text is "". csv and jsonl: bytes are base64; what is nested is JSON.
    """
    with lazy_spark("export-table") as sessions:
        num_rows = export_table(
            Lake.at(lake), table_or_query, format=form, out=out, version=version, force=force, sessions=sessions
        )
    click.echo(f"{num_rows} rows in {out}")


@cli.command()
@lake_option
@conf_option
@click.argument("pipeline")
@click.option("--night", help="YYYY-MM-DD; without it all nights.")
@click.option("--samples", default=3, show_default=True, help="Rows shown of each rule.")
@reported
def quarantine(lake: str, conf_dir: str | None, pipeline: str, night: str | None, samples: int) -> None:
    """What was not kept, by rule, with samples; also of a run that failed over its reject budget."""
    config = load_pipeline(pipeline, Places.standard(conf_dir))
    taken = inspect.rejects(Lake.at(lake), config, night=check_night(night) if night else None, num_samples=samples)
    if not taken:
        observe.console().print("nothing was quarantined or dropped")
    for group in taken:
        click.echo(f"{group.stage}: {group.rule} ({group.action}) {group.num_rows} rows")  # a table's title would be wrapped
        table = Table("source file", "reason", "record")
        for row in group.samples:
            table.add_row(*[Text(value or "") for value in (row["source_file"], row["reason"], (row["record"] or "")[:120])])
        observe.console().print(table)


@cli.command()
@conf_option
@click.argument("pipeline")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Overrides a key.")
@reported
def describe(conf_dir: str | None, pipeline: str, overrides: tuple[str, ...]) -> None:
    """The pipeline as it is understood: every key with its value, and the contract. Says what is wrong with it."""
    places = Places.standard(conf_dir)
    config = load_pipeline(pipeline, places, overrides=overrides)
    contract = load_contract(config.source.contract, places)
    check_pipeline(config, contract)
    values = config.model_dump(mode="json", by_alias=True, exclude_none=True)
    contract_values = contract.model_dump(mode="json", exclude_none=True)
    click.echo(f"# pipeline {config.name}: valid\n{yaml.safe_dump(values, sort_keys=False)}")
    click.echo(f"# contract {contract.name}: {contract.grain}\n{yaml.safe_dump(contract_values, sort_keys=False)}", nl=False)


@cli.command()
@click.argument("name")
@click.option("--directory", default=".", show_default=True, help="Where conf/pipelines and schemas are.")
@reported
def init(name: str, directory: str) -> None:
    """Write a pipeline file and a contract to start from; they are valid as they are."""
    for path in new_pipeline(name, Path(directory)):
        click.echo(f"wrote {path}")
    click.echo(f"next  millrace describe {name}")


def _for_people(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(_for_json(value), ensure_ascii=False) if isinstance(value, list | dict) else str(_for_json(value))


def _for_json(value: Any) -> Any:
    """Times as ISO texts, bytes as hex, what JSON has no number for (NaN) as null."""
    if isinstance(value, dict):
        return {str(name): _for_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_for_json(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def main() -> NoReturn:
    """The console script."""
    try:
        cli()
    except SystemExit as end:  # click's, always with a number
        observe.end_process(int(end.code or 0))
    raise AssertionError("click ends every command")
