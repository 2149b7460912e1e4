"""What the README and the notebook show works as printed, on a finished night."""

from __future__ import annotations

import re
import subprocess

import nbformat
import pytest
from nbclient import NotebookClient
from pyspark.sql import SparkSession

from millrace.flows.inspect import sql
from millrace.lake.layout import Lake
from millrace.lake.read import register_tables
from tests.flows.nights import NIGHT, ROOT, Night

README = (ROOT / "README.md").read_text()
QUERIES = re.findall(r'^millrace sql "(.*)"$', README, flags=re.MULTILINE)


def test_the_readme_has_three_queries() -> None:
    assert len(QUERIES) == 3


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_gives_the_same_rows_in_duckdb_and_spark(finished: Night, spark: SparkSession, query: str) -> None:
    lake = Lake.at(str(finished.lake))
    register_tables(spark, lake)
    by_duckdb = [tuple(row.values()) for row in sql(lake, query).to_pylist()]
    by_spark = [tuple(row) for row in spark.sql(query).collect()]
    assert by_duckdb
    assert sorted(by_duckdb, key=repr) == sorted(by_spark, key=repr)


@pytest.mark.parametrize("line", re.findall(r"^millrace (?:runs|quarantine|describe).*?(?=\s+#)", README, flags=re.MULTILINE))
def test_a_command_of_the_readme_works(finished: Night, line: str) -> None:
    arguments = line.replace("2026-11-22", NIGHT).split()[1:]
    options = [] if arguments[0] == "describe" else ["--lake", str(finished.lake)]
    command = [str(ROOT / ".venv" / "bin" / "millrace"), *arguments, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "digits" in done.stdout


def test_the_notebook_runs(finished: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts a kernel of its own."""
    monkeypatch.setenv("MILLRACE_LAKE", str(finished.lake))
    notebook = nbformat.read(ROOT / "notebooks" / "first_night.ipynb", as_version=4)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(ROOT / "notebooks")}}
    ).execute()
    pictures = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 2
