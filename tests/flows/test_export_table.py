"""Tables and queries as files: what each format keeps, whole files or none, and bounded memory."""

from __future__ import annotations

import base64
import csv
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from deltalake import write_deltalake

from millrace.cli import cli
from millrace.flows import export_table as exporting
from millrace.lake.layout import Lake
from millrace.lake.ledger import TableVersion
from tests.factories import succeed

TABLE = "gold/tiny"
ROWS = pa.table(
    {
        "row_id": ["a", "b", "c"],
        "text": ["", None, 'x,"y"\nü'],
        "image": [b"\x00\xff", b"", None],
        "tags": pa.array([["p", None], [], None], pa.list_(pa.string())),
        "pair": pa.array([{"n": 1, "b": b"\x01"}, {"n": None, "b": None}, None]),
        "counts": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
        "value": pa.array([0.1, float("nan"), None], pa.float64()),
        "money": pa.array([Decimal("1.10"), None, Decimal("-0.01")], pa.decimal128(5, 2)),
        "at": pa.array([datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), None, None], pa.timestamp("us", tz="UTC")),
    }
)


@pytest.fixture
def filled(lake: Lake) -> Lake:
    """gold/tiny at version 0, which is named, and 1, which is not; and rows enough for several batches in silver/tiny."""
    write_deltalake(lake.path(TABLE), ROWS)
    write_deltalake(lake.path(TABLE), ROWS.slice(0, 1), mode="append")
    write_deltalake(lake.path("silver/tiny"), pa.table({"n": list(range(20_000))}))
    succeed(lake, TableVersion(TABLE, 0), TableVersion("silver/tiny", 0))
    return lake


def call(lake: Lake, *arguments: object) -> Result:
    return CliRunner().invoke(cli, ["export-table", "--lake", lake.uri, *map(str, arguments)])


def test_parquet_keeps_everything(filled: Lake, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    done = call(filled, TABLE, "--format", "parquet", "--out", out)
    assert (done.exit_code, done.output) == (0, f"3 rows in {out}\n")
    found = pq.read_table(out)
    assert found.schema.names == ROWS.schema.names
    for name in ROWS.schema.names:
        assert str(found.column(name).to_pylist()) == str(ROWS.column(name).to_pylist()) or name == "at", name
    assert found.column("at").to_pylist() == ROWS.column("at").to_pylist()


def test_jsonl(filled: Lake, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert call(filled, "gold_tiny", "--format", "jsonl", "--out", out).exit_code == 0
    first, second, third = (json.loads(line) for line in out.read_text().splitlines())
    assert first == {
        "row_id": "a",
        "text": "",
        "image": base64.b64encode(b"\x00\xff").decode(),
        "tags": ["p", None],
        "pair": {"b": "AQ==", "n": 1},
        "counts": {"k": 1},
        "value": 0.1,
        "money": "1.10",
        "at": "2026-01-02T03:04:05.000006+00:00",
    }
    assert (second["text"], second["image"], second["tags"], second["value"]) == (None, "", [], None)
    assert (third["text"], third["image"], third["pair"], third["money"]) == ('x,"y"\nü', None, None, "-0.01")


def test_csv_tells_null_from_an_empty_text(filled: Lake, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert call(filled, TABLE, "--format", "csv", "--out", out).exit_code == 0
    lines = out.read_text()
    assert lines.startswith('"row_id","text","image","tags","pair","counts","value","money","at"\n"a","","AP8=",')
    assert '\n"b",,"","[]",' in lines
    with out.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["text"] for row in rows] == ["", "", 'x,"y"\nü']
    assert json.loads(rows[0]["tags"]) == ["p", None]
    assert json.loads(rows[0]["pair"]) == {"n": 1, "b": "AQ=="}
    assert [row["counts"] for row in rows] == ['{"k": 1}', "{}", ""]
    read = duckdb.read_csv(str(out), all_varchar=True, allow_quoted_nulls=False)
    found = read.select("row_id", "text", "money").fetchall()
    assert found == [("a", "", "1.10"), ("b", None, None), ("c", 'x,"y"\nü', "-0.01")]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_many_batches_and_none(filled: Lake, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out"
    done = call(filled, "SELECT n, n * 2 AS m FROM silver_tiny WHERE n >= 10 ORDER BY n", "--format", form, "--out", out)
    assert done.output == f"19990 rows in {out}\n"
    nothing = call(filled, "SELECT n FROM silver_tiny WHERE n < 0", "--format", form, "--out", tmp_path / "none")
    assert nothing.output == f"0 rows in {tmp_path / 'none'}\n"
    if form == "parquet":
        assert pq.read_table(out).column("m").to_pylist() == [2 * n for n in range(10, 20_000)]
        assert pq.ParquetFile(out).num_row_groups > 1
        assert pq.read_table(tmp_path / "none").schema.names == ["n"]


def test_batches_are_written_as_they_come(filled: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than a batch is held: the greatest that a writer was given is far below the whole."""
    sizes = []

    class Counting:
        def __init__(self, path: Path, _: pa.Schema) -> None:
            path.write_text("")

        def write(self, batch: pa.RecordBatch) -> None:
            sizes.append(batch.num_rows)

        def close(self) -> None: ...

    monkeypatch.setitem(exporting._WRITERS, "csv", Counting)
    assert exporting.export_table(filled, "silver/tiny", format="csv", out=tmp_path / "out") == 20_000
    assert max(sizes) <= 8192


def test_a_version_by_its_number(filled: Lake, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert call(filled, TABLE, "--version", 1, "--format", "csv", "--out", out).output == f"4 rows in {out}\n"
    wrong = call(filled, TABLE, "--version", 2, "--format", "csv", "--out", tmp_path / "x")
    assert wrong.exit_code == 2


@pytest.mark.parametrize(
    ("what", "more", "message"),
    [
        ("gold/tinny", (), "export-table: expected a table of the lake; found 'gold/tinny'. Did you mean 'gold_tiny'?"),
        ("SELECT 1", ("--version", "0"), "expected a table with --version; found a query. Leave --version out, or name a table."),
        ("SELECT nothing FROM gold_tiny", (), "expected a query over the lake's tables; found Binder Error"),
        ("SELECT * FROM read_csv('/etc/passwd')", (), "expected a query over the lake's tables; found "),
        ("SELECT 1 AS a, 2 AS a", (), "expected columns of different names; found 'a' twice. Use AS."),
    ],
)
def test_what_cannot_be_exported(
    filled: Lake, tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str, more: tuple[str, ...], message: str
) -> None:
    before = sorted(tmp_path.iterdir())
    done = call(filled, what, *more, "--format", "jsonl", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert message in done.output + caplog.text
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("what", "more", "out", "message"),
    [
        (TABLE, ("--version", "1"), "out", f"export-table: expected the files of version 1 of {TABLE}; found "),
        (TABLE, (), "out", f"export-table: expected the files of {TABLE}; found "),
        (
            "SELECT CAST(IF(n < 19000, '1', 'x') AS INT) FROM silver_tiny ORDER BY n",
            (),
            "out",
            "export-table: expected a query",
        ),
        ("silver/tiny", (), "o" * 250, "; found File name too long. Take another place."),
    ],
)
def test_what_fails_while_it_is_read_or_written(
    filled: Lake,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    what: str,
    more: tuple[str, ...],
    out: str,
    message: str,
) -> None:
    for path in Path(filled.path(TABLE)).glob("*.parquet"):
        path.unlink()
    before = sorted(tmp_path.iterdir())
    done = call(filled, what, *more, "--format", "csv", "--out", tmp_path / out)
    assert (done.exit_code, message in done.output + caplog.text) == (2, True), done.output + caplog.text
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_that_is_there_stays_without_force(filled: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.csv"
    out.write_text("mine")
    assert call(filled, TABLE, "--format", "csv", "--out", out).exit_code == 2
    assert out.read_text() == "mine"
    with monkeypatch.context() as patched:
        patched.setattr(exporting._Csv, "write", lambda *_: 1 / 0)
        assert call(filled, TABLE, "--format", "csv", "--out", out, "--force").exit_code == 1
    assert out.read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"lake", "out.csv"}
    assert call(filled, TABLE, "--format", "csv", "--out", out, "--force").exit_code == 0
    assert out.read_text().startswith('"row_id"')


def test_dates_that_python_does_not_have(filled: Lake, tmp_path: Path) -> None:
    """Silver has none; a query may make one, alone or in a list."""
    query = "SELECT DATE '9999-12-31' + 1 AS day, [DATE '9999-12-31' + 1] AS days FROM gold_tiny LIMIT 1"
    out = tmp_path / "out.jsonl"
    done = call(filled, query, "--format", "jsonl", "--out", out)
    assert done.exit_code == 0, done.output
    assert "10000-01-01" in json.loads(out.read_text())["day"]
    done = call(filled, query, "--format", "csv", "--out", tmp_path / "out.csv")
    assert done.exit_code == 0, done.output
