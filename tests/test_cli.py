"""The command `millrace`: what it prints, what it refuses, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from millrace.cli import cli
from millrace.lake import small
from millrace.lake.layout import Lake, rejects_of_pipeline
from millrace.lake.ledger import Counts, TableVersion
from millrace.lake.protocol import run_step
from tests.factories import NIGHT, make_run, make_step

RUN = make_run("digits")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture
def night(lake: Lake) -> Lake:
    """An ingest that succeeded, a preprocess that failed, and what it rejected; one commit that nobody named."""
    small.append(lake, "predictions/digits", [prediction("named")], metadata={})
    small.append(lake, "predictions/digits", [prediction("unnamed")], metadata={})
    run_step(lake, RUN, make_step(outputs=[TableVersion("predictions/digits", 0)], counts=Counts(10, 7, 2, 1)))
    with pytest.raises(RuntimeError):
        run_step(lake, RUN, make_step("preprocess", error=RuntimeError("[red] is no colour here")))
    reject = {"row_id": None, "source_file": "/raw/a.csv", "stage": "ingest", "rule": "too_few_fields", "action": "quarantined"}
    rejects = [
        {**reject, "record": f"[bold]{number}", "reason": "1 field", "run_id": "r", "_night": NIGHT} for number in range(5)
    ]
    small.append(lake, rejects_of_pipeline("digits"), rejects, metadata={})
    return lake


def prediction(row_id: str) -> dict[str, object]:
    values = {"run_id": "r", "model_version": 1, "split": "test", "label": "1", "predicted": "1", "_night": NIGHT}
    return {"row_id": row_id, "scores": [0.25, 0.75], **values}


def test_runs(night: Lake) -> None:
    found = call("runs", "--lake", night.uri)
    assert found.exit_code == 0
    first, second = [line.split() for line in found.stdout.splitlines() if RUN.run_id in line]
    assert first[1::2][:9] == [RUN.run_id, "ingest", "succeeded", "1", "10", "7", "2", "1", first[17]]
    assert second[1:8:2] == [RUN.run_id, "preprocess", "failed", "1"]
    assert "RuntimeError: [red] is no colour here" in found.stdout
    assert RUN.run_id not in call("runs", "--lake", night.uri, "--pipeline", "other").stdout
    assert "ingest" not in call("runs", "--lake", night.uri, "--last", "1").stdout


def test_sql_shows_finished_tables_only(night: Lake) -> None:
    tables = call("sql", "--lake", night.uri, "--format", "csv", "SELECT name FROM (SHOW TABLES)").stdout
    assert tables == "name\nmetrics_runs\npredictions_digits\n"
    rows = call("sql", "--lake", night.uri, "--format", "json", "SELECT row_id, scores FROM predictions_digits").stdout
    assert json.loads(rows) == [{"row_id": "named", "scores": [0.25, 0.75]}]


def test_sql_formats(night: Lake) -> None:
    query = "SELECT step, status, num_rows_in, outputs FROM metrics_runs WHERE status != 'started' ORDER BY step"
    assert call("sql", "--lake", night.uri, "--format", "csv", query).stdout == (
        "step,status,num_rows_in,outputs\n"
        'ingest,succeeded,10,"[{""table"": ""predictions/digits"", ""version"": 0}]"\n'
        "preprocess,failed,,[]\n"
    )
    values = "SELECT 1 AS a, NULL AS b, 'NaN'::DOUBLE AS c, DATE '2026-11-22' AS d, '[x]' AS \"[e]\", '\\x00'::BLOB AS f"
    assert json.loads(call("sql", "--lake", night.uri, "--format", "json", values).stdout) == [
        {"a": 1, "b": None, "c": None, "d": "2026-11-22", "[e]": "[x]", "f": "00"}
    ]
    table = call("sql", "--lake", night.uri, values).stdout
    assert "[e]" in table
    assert "[x]" in table


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("SELECT * FROM metric_runs", "Catalog Error: Table with name metric_runs does not exist!"),
        ("SELECT * FROM read_csv('/etc/passwd')", "Permission Error: "),
        ("COPY (SELECT 1) TO '/tmp/x.csv'", "Permission Error: "),
        ("SET enable_external_access = true", "Invalid Input Error: Cannot change configuration option"),
        ("SELECT * FROM visible", "Catalog Error: "),  # a variable of the process
        ("SELEC 1", "Parser Error: "),
    ],
)
def test_sql_that_is_refused(night: Lake, query: str, found: str) -> None:
    result = call("sql", "--lake", night.uri, query)
    assert result.exit_code == 2
    assert f"sql: expected a query over the lake's tables; found {found}" in result.stderr
    assert result.stderr.endswith("SHOW TABLES lists them.\n")


def test_quarantine(night: Lake) -> None:
    found = call("quarantine", "digits", "--lake", night.uri, "--night", NIGHT, "--samples", "2").stdout
    assert "ingest: too_few_fields (quarantined) 5 rows" in found
    assert ("[bold]1" in found, "[bold]2" in found) == (True, False)
    other = call("quarantine", "digits", "--lake", night.uri, "--night", "2026-01-01")
    assert (other.exit_code, other.stdout) == (0, "nothing was quarantined or dropped\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("describe", "digit"), "expected the name of a pipeline; found 'digit'. Did you mean 'digits'?"),
        (("describe", "digits", "--set", "training.epoch=1"), "found 'training.epoch'. Did you mean 'epochs'?"),
        (("describe", "digits", "--set", "label.column=digits"), "found 'digits'. Did you mean 'digit'?"),
        (("quarantine", "digits", "--night", "22.11.2026"), "expected --night YYYY-MM-DD; found 22.11.2026."),
        (("runs", "--lake", "/no/lake"), "lake: expected a lake at /no/lake; found none. Check --lake, or run a night first"),
        (("sql", "--lake", "/no/lake", "SELECT 1"), "lake: expected a lake at /no/lake; found none."),
        (("init", "Bad-Name"), "init: expected a name of lower-case letters, digits and _; found 'Bad-Name'."),
    ],
)
def test_mistakes_end_with_one_line_and_exit_code_2(arguments: tuple[str, ...], message: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_describe_prints_what_is_understood() -> None:
    found = call("describe", "digits", "--set", "training.optimizer.learning_rate=1e-2")
    assert found.exit_code == 0
    assert found.stdout.startswith("# pipeline digits: valid\nname: digits\n")
    assert "learning_rate: 0.01\n" in found.stdout
    assert "# contract digits_raw: one row per scanned digit\n" in found.stdout


def test_init_writes_what_is_valid_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MILLRACE_ROOT", raising=False)
    assert call("init", "reviews").stdout == (
        "wrote conf/pipelines/reviews.yaml\nwrote schemas/reviews_raw.yaml\nnext  millrace describe reviews\n"
    )
    assert call("describe", "reviews").exit_code == 0
    again = call("init", "reviews")
    assert again.exit_code == 2
    assert (
        "init: expected no conf/pipelines/reviews.yaml; found that it is there. Take another name, or remove it." in again.stderr
    )
