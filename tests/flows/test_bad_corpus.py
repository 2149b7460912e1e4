"""The corpus of broken files through whole nights: every row is accounted for, or there is one clear error and the lake is as it
was. Takes minutes: a night for each file."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from millrace.contracts.table import TableContract
from millrace.lake.ledger import Ledger
from tests.flows.law import content, errors_of, rows_of
from tests.flows.pipelines import FIRST, Pipelines
from tests.sources.test_bad_input import CASES, GOOD, LENIENT, LOOSE, TEXT

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]
FORMATS: dict[str, tuple[TableContract, bytes]] = {
    "csv": (LENIENT, b"id,name\n1,a\n2,b\n"),
    "jsonl": (LOOSE, b'{"id": 1, "name": "a"}\n{"id": 2, "name": "b"}\n'),
    "json": (LOOSE, b'[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]'),
    "text": (TEXT, b"a\nb\n"),
}
SUFFIXES = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".json": "json", ".txt": "text"}
DATA_TABLES = ("bronze/digits", "silver/digits", "gold/digits", "quarantine/sources/digits", "quarantine/pipelines/digits")


def format_of(name: str) -> str:
    return next(format_ for suffix, format_ in SUFFIXES.items() if suffix in name)


def define(pipelines: Pipelines, format_: str, **options: Any) -> None:
    contract, _ = FORMATS[format_]
    first, last = (list(contract.columns)[place] for place in (0, -1))
    sections = {
        "clean": [],
        "split": {"method": "hash", "key": [first], "fractions": {"train": 1.0}},
        "features": [{"column": last, "encode": "index"}],
        "quality": {"max_reject_ratio": 1.0},
    }
    pipelines.define("digits", sections, format=format_, **options)


@pytest.mark.parametrize("format_", FORMATS)
def test_every_file_of_the_corpus(pipelines: Pipelines, capsys: pytest.CaptureFixture[str], format_: str) -> None:
    contract, good = FORMATS[format_]
    plain = contract.model_dump(mode="json", exclude_unset=True)
    pipelines.contract(**{"key": [], "checks": [], "evolution": {}, **{k: plain[k] for k in plain if k not in ("name", "grain")}})
    define(pipelines, format_)
    suffix = {"text": ".txt"}.get(format_, f".{format_}")
    (pipelines.raw / f"good{suffix}").write_bytes(good)
    assert pipelines.call(FIRST) == [0, 0]
    assert len(rows_of(pipelines.lake, "gold/digits")) == 2
    own = [case for case in CASES if format_of(case[0]) == format_]
    for number, (name, data, expected, options) in enumerate(own, start=22):
        night = f"2027-{number // 28:02d}-{number % 28 + 1:02d}" if number >= 28 else f"2026-12-{number:02d}"
        define(pipelines, format_, **options)
        path = pipelines.raw / name
        path.write_bytes(data)
        before = {table: content(pipelines.lake, table) for table in DATA_TABLES}
        capsys.readouterr()
        codes = pipelines.call(night)
        said = [line.replace(str(path), "FILE") for line in errors_of(capsys.readouterr().err)]
        after = {table: content(pipelines.lake, table) for table in DATA_TABLES}
        if isinstance(expected, str):
            assert (codes, said) == ([2, 0], [expected.replace("tiny_raw", "digits_raw")]), name
            assert after == before, name
            entry = next(each for each in reversed(Ledger.read(pipelines.lake).entries) if each.step == "ingest")
            assert entry.status == "failed" or entry.run.night != night, name
        else:
            assert (codes, said) == ([0, 0], []), name
            rules = Counter(row["rule"] for row in rows_of(pipelines.lake, "quarantine/sources/digits") if row["_night"] == night)
            assert rules == Counter(verdict for verdict in expected if verdict != GOOD), name
            added = after["bronze/digits"] - before["bronze/digits"]
            assert added.total() == expected.count(GOOD), name
        law = {table: found.total() for table, found in after.items()}
        assert law["silver/digits"] + law["quarantine/pipelines/digits"] == law["bronze/digits"], name
        assert law["gold/digits"] == law["silver/digits"], name
        path.unlink()
