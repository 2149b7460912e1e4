"""Real files: every row, and every value of it, as Python's csv module reads them."""

from __future__ import annotations

import csv as python_csv
import gzip
import io
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from millrace.config.sources import SourceConfig
from millrace.sources.read import FileSource, source_of
from tests.factories import make_contract

DATA = Path(os.environ.get("MILLRACE_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
NAMES = [f"c{number}" for number in range(42)]
ADULT = {"columns": NAMES[:15], "skip_spaces": True, "null_values": ["", "?"]}


def plain(path: Path) -> str:
    """The text of a file."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            data = archive.read(archive.namelist()[0])
    return data.decode("utf-8-sig")


def expected_rows(path: Path, options: dict[str, Any]) -> tuple[list[str], list[list[str | None]]]:
    """Columns and rows."""
    rows = [
        row
        for row in python_csv.reader(
            io.StringIO(plain(path), newline=""),
            delimiter=options.get("delimiter", ","),
            quoting=python_csv.QUOTE_MINIMAL if options.get("quote", '"') else python_csv.QUOTE_NONE,
            skipinitialspace=options.get("skip_spaces", False),
        )
        if row
    ]
    nulls = options.get("null_values", [""])
    header = list(options["columns"]) if "columns" in options else [re.sub(r"\W", "_", name) for name in rows.pop(0)]
    return header, [[None if value in nulls else value for value in row] for row in rows]


@pytest.mark.full
@pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not in $MILLRACE_DATA")
@pytest.mark.parametrize(
    ("name", "num_rows", "options"),
    [
        ("adult/adult-train.csv", 32_561, ADULT),
        ("adult/adult-test.csv", 16_281, ADULT),
        ("kddcup99_10pct/kddcup.data_10_percent.gz", 494_021, {"columns": NAMES}),
        ("titanic/titanic.csv", 891, {}),
        ("penguins/penguins.csv", 344, {"null_values": ["", "NA"]}),
        ("penguins/penguins_raw.csv", 344, {"null_values": ["NA"]}),
        ("sms_spam/SMSSpamCollection", 5_574, {"columns": NAMES[:2], "delimiter": "\t", "quote": None}),
        ("ag_news/test.csv", 7_600, {"columns": NAMES[:3]}),
        ("waimai_10k/waimai_10k.csv", 11_987, {}),
        ("online_shopping_10_cats/online_shopping_10_cats.zip", 62_774, {}),
        ("beijing_pm25/pollution.csv", 43_824, {"null_values": ["NA"]}),
        ("wine_quality/winequality-red.csv", 1_599, {"columns": NAMES[:12]}),
        ("wine_quality/winequality-white.csv", 4_898, {"columns": NAMES[:12]}),
    ],
)
def test_csv(name: str, num_rows: int, options: dict[str, Any]) -> None:
    """Takes over 20 s for kddcup99, of which 21 million values are compared one by one."""
    header, expected = expected_rows(DATA / name, options)
    rename = {} if "columns" in options else {"rename": _renames(DATA / name)}
    rows = _read("csv", DATA / name, header, {**options, **rename})
    assert len(rows) == num_rows
    assert rows == [[*row, None] for row in expected]


@pytest.mark.full
@pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not in $MILLRACE_DATA")
@pytest.mark.parametrize("label", ["pos", "neg"])
def test_text(label: str) -> None:
    path = DATA / "rt_polarity" / f"rt-polarity.{label}"
    options = {"labels": {"column": "label", "pattern": r"[.](pos|neg)$"}}
    rows = _read("text", path, ["text", "label"], options)
    assert len(rows) == 5_331
    assert rows == [[line, label, None] for line in path.read_text(encoding="utf-8").split("\n") if line]


def _renames(path: Path) -> dict[str, str]:
    header = next(python_csv.reader(io.StringIO(plain(path))))
    return {name: re.sub(r"\W", "_", name) for name in header}


def _read(kind: str, path: Path, columns: list[str], options: dict[str, Any]) -> list[list[str | None]]:
    """The columns and the rule of each row."""
    values = {"name": "tiny", "format": kind, "path": str(path), "schema": "tiny_raw", **options}
    source = source_of(TypeAdapter(SourceConfig).validate_python(values))
    assert isinstance(source, FileSource)
    contract = make_contract({name: {"type": "string"} for name in columns})
    paths = source.find(str(path))
    source.check(paths, contract)
    units = source.reader.units(paths)
    batches = [batch for unit in units for batch in source.reader.read(unit, contract)]
    return [
        list(row)
        for batch in batches
        for row in zip(*(batch.column(name).to_pylist() for name in [*columns, "_rule"]), strict=True)
    ]
