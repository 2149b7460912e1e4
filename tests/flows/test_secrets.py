"""A secret in the driver's environment or on its command line is found nowhere in what a night leaves."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from millrace.flows.job import run
from millrace.flows.nightly import NIGHT as FLOW
from tests.flows.nights import CANARY, Night


def texts_of(lake: Path) -> dict[str, str]:
    """The content of each file of a lake, and the rows of each table, because Parquet files are compressed."""
    files = {str(path): path.read_bytes().decode(errors="replace") for path in lake.rglob("*") if path.is_file()}
    tables = [path.parent for path in lake.rglob("_delta_log")]
    assert len(tables) > 8
    for table in tables:
        if "deletionVectors" not in (DeltaTable(str(table)).protocol().reader_features or ()):
            rows: pa.Table = DeltaTable(str(table)).to_pyarrow_table()
            files[f"rows of {table}"] = str(rows.to_pylist())
    return files


def test_finished_night_holds_no_secret(finished: Night) -> None:
    """Ledger, metrics, registry, artifacts, log.jsonl, and what was printed."""
    assert finished.first_output is not None
    texts = texts_of(finished.lake)
    assert any(name.endswith("log.jsonl") for name in texts)
    texts |= {"stdout": finished.first_output.stdout, "stderr": finished.first_output.stderr}
    assert [name for name, text in texts.items() if CANARY in text] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--set", f"source.path=s3://key:{CANARY}@bucket/raw"],
        ["--set", f"source.path=https://host/raw.csv?sig={CANARY}"],
        ["--lake", f"s3a://key:{CANARY}@bucket/lake"],
    ],
)
def test_address_with_a_password_is_refused_before_anything_starts(arguments, tmp_path, capfd) -> None:
    lake = tmp_path / "lake"
    code = run(FLOW, "", ["--pipeline", "digits", "--lake", str(lake), *arguments])
    output = capfd.readouterr()
    assert code == 2
    assert "password or token" in output.err
    assert CANARY not in output.out + output.err
    assert not lake.exists()
