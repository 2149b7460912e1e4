"""Bad rows and bad files in whole nights: every row is in gold or in quarantine, and a damaged file changes nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millrace.lake import log
from millrace.lake.ledger import Ledger
from tests.flows.pipelines import FIRST, SECOND, Pipelines
from tests.sources.broken_files import PACK, page, png, tar, warc

KEYED = {"split": {"method": "hash", "key": ["id"], "fractions": {"train": 1.0}}, "clean": []}
VALUES = {
    "id": {"type": "bigint", "nullable": False},
    "n": {"type": "bigint"},
    "f": {"type": "double", "range": [-1e308, 1e308]},
    "d": {"type": "date", "range": ["1900-01-01", "2100-12-31"]},
    "t": {"type": "timestamp"},
}
ROWS = {
    "9223372036854775807,1e308,2026-11-22,2026-11-22 00:00:00": None,
    "-9223372036854775808,-0.0,1900-01-01,1970-01-01T00:00:00Z": None,
    ",,,": None,
    "9223372036854775808,0,2026-11-22,": "n_is_no_bigint",
    "-9223372036854775809,0,2026-11-22,": "n_is_no_bigint",
    "1.0,0,2026-11-22,": "n_is_no_bigint",
    "1,NaN,2026-11-22,": "f_out_of_range",
    "1,Infinity,2026-11-22,": "f_out_of_range",
    "1,-Infinity,2026-11-22,": "f_out_of_range",
    "1,1e309,2026-11-22,": "f_out_of_range",
    '1,"1,5",2026-11-22,': "f_is_no_double",
    "1,0,9999-99-99,": "d_is_no_date",
    "1,0,0000-00-00,": "d_is_no_date",
    "1,0,2026-02-29,": "d_is_no_date",
    "1,0,22.11.2026,": "d_is_no_date",
    "1,0,10000-01-01,": "d_is_no_date",
    "1,0,1899-12-31,": "d_out_of_range",
    "1,0,2026-11-22,2026-11-22 25:00:00": "t_is_no_timestamp",
    "1,0,2026-11-22,999999-01-01 00:00:00": "t_is_no_timestamp",
    "1,0,2026-11-22": "too_few_fields",
    "1,0,2026-11-22,,": "too_many_fields",
    "\xff,0,2026-11-22,": "not_utf8",
}


def test_numbers_and_dates_that_do_not_fit(pipelines: Pipelines) -> None:
    """2^63, NaN, infinities, dates that there are not, a wrong encoding; lines that end in all three ways."""
    pipelines.contract(key=["id"], columns=VALUES, checks=[])
    features = [{"columns": ["n", "f"], "encode": "zscore"}]
    pipelines.define("digits", {**KEYED, "features": features, "quality": {"max_reject_ratio": 1.0}})
    lines = ["id,n,f,d,t", *(f"{number},{row}" for number, row in enumerate(ROWS))]
    ends = ("\n", "\r\n", "\r")
    content = "".join(line + ends[number % 3] for number, line in enumerate(lines))
    (pipelines.raw / "values.csv").write_bytes(content.encode("latin-1"))
    assert pipelines.call(FIRST) == [0, 0]
    kept = {int(row["id"]) for row in log.read_rows(pipelines.lake.path("silver/digits")).to_pylist()}
    assert kept == {number for number, rule in enumerate(ROWS.values()) if rule is None}
    assert log.read_rows(pipelines.lake.path("gold/digits")).num_rows == len(kept)
    rejected: Counter[str] = Counter()
    for table in ("sources", "pipelines"):
        rejected.update(row["rule"] for row in log.read_rows(pipelines.lake.path(f"quarantine/{table}/digits")).to_pylist())
    assert rejected == Counter(rule for rule in ROWS.values() if rule is not None)
    for entry in Ledger.read(pipelines.lake).entries:
        if entry.counts is not None:
            counts = entry.counts
            assert counts.num_rows_in == counts.num_rows_kept + counts.num_rows_quarantined + counts.num_rows_dropped


def parquet(content: str) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": [content]}), sink)
    return sink.getvalue().to_pybytes()


TEXT: dict[str, Any] = {"text": {"type": "string"}}
PATTERN = {"pattern": r"(?P<kind>\w+)/\w+[.](?:txt|png)"}
PICTURE = {"kind": {"type": "string"}, "image": {"type": "binary", "tensor": {"dtype": "uint8", "shape": [2, 2, 1]}}}
SERIES = {"series": {"type": "binary"}, "label": {"type": "string"}}
TS = b"@classLabel true a\n@data\n"
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str, bytes, bytes, str]] = {
    "a bomb of csv": (
        {"format": "csv", "max_bytes": 1_000},
        TEXT,
        ".csv.zst",
        PACK[".zst"](b"text\na\n"),
        PACK[".zst"](b"text\n" + b"a\n" * 9_000),
        "at most 1,000 bytes in FILE; found that it unpacks to more. ",
    ),
    "a tar that leaves its place": (
        {"format": "files", "content": "text", **PATTERN},
        {"kind": {"type": "string"}, **TEXT},
        ".tar",
        tar(("pos/1.txt", b"a")),
        tar(("pos/2.txt", b"b"), ("../pos/3.txt", b"c")),
        "names that stay within the archive in FILE; found a member called '../pos/3.txt'. ",
    ),
    "cut lines of json": (
        {"format": "jsonl"},
        TEXT,
        ".jsonl.gz",
        PACK[".gz"](b'{"text": "a"}\n'),
        PACK[".gz"](b'{"text": "a"}\n' * 99)[:-9],
        "a whole file at FILE; found that it is damaged (Compressed file ended before the end-of-stream marker was reached). ",
    ),
    "a document of json": (
        {"format": "json"},
        TEXT,
        ".json",
        b'[{"text": "a"}]',
        b'[{"text": "a"}, ',
        "a JSON document in FILE: an array of objects, or one object; found ",
    ),
    "a corrupt text": (
        {"format": "text"},
        TEXT,
        ".txt.bz2",
        PACK[".bz2"](b"a\n"),
        PACK[".bz2"](b"a\n" * 99)[:-4] + b"abcd",
        "a whole file at FILE; found that it is damaged (",
    ),
    "half a parquet": (
        {"format": "parquet"},
        TEXT,
        ".parquet",
        parquet("a"),
        parquet("b" * 999)[:500],
        "a whole file at FILE; found that it is damaged (",
    ),
    "a picture's tar": (
        {"format": "images", "content": "image", **PATTERN},
        PICTURE,
        ".tar.gz",
        PACK[".gz"](tar(("shirt/a.png", png(2, 2, "L")))),
        PACK[".gz"](tar(("shirt/b.png", png(2, 2, "L"))))[:-9],
        "a whole file at FILE; found that it is damaged (",
    ),
    "a cut web archive": (
        {"format": "warc"},
        {"payload": {"type": "string"}},
        ".warc",
        warc(page()),
        warc(page())[:-20],
        "a whole file at FILE; found that it is damaged (it ends 16 bytes before its last record does). ",
    ),
    "no series": (
        {"format": "ts"},
        SERIES,
        ".ts",
        TS + b"1,2:a\n",
        b"1,2:a\n" + TS,
        "lines of @headers, then @data, in FILE; found the line '1,2:a' before @data. ",
    ),
    "another compression": (
        {"format": "csv"},
        TEXT,
        ".csv",
        b"text\na\n",
        b"",
        "names that end in .csv, .csv.gz, .csv.bz2, .csv.zst, .csv.zip; found FILE, compressed in a way that is not read. ",
    ),
}
QUICK = ("a bomb of csv", "a tar that leaves its place")


@pytest.mark.parametrize("case", [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in CASES])
def test_a_damaged_file_leaves_the_lake_as_it_was(pipelines: Pipelines, capsys: pytest.CaptureFixture[str], case: str) -> None:
    """A good night, then one with a damaged file beside a good one: exit 2, one line, no row of it anywhere. Without it the
    second night is done."""
    source, columns, suffix, good, bad, message = CASES[case]
    pipelines.contract(key=[], columns=columns, checks=[], evolution={})
    column = next(name for name in columns if name != "kind")
    split = {"method": "hash", "key": [next(iter(columns))], "fractions": {"train": 1.0}}
    pipelines.define("digits", {"split": split, "clean": [], "features": [feature(column)]}, **source)
    (pipelines.raw / f"first{suffix}").write_bytes(good)
    assert pipelines.call(FIRST, steps=("ingest",)) == [0]
    before = contents(pipelines)
    damaged = pipelines.raw / f"second{suffix}{'.br' if case == 'another compression' else ''}"
    damaged.write_bytes(bad)
    capsys.readouterr()
    assert pipelines.call(SECOND, steps=("ingest",)) == [2]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if " error   " in line]
    assert line.partition(" error   ")[2].replace(str(damaged), "FILE").startswith(f"ingest: expected {message}")
    assert contents(pipelines) == before
    damaged.unlink()
    (pipelines.raw / f"third{suffix}").write_bytes(good)
    assert pipelines.call(SECOND, steps=("ingest",)) == [0]
    assert len(contents(pipelines)) == 2 * len(before)


def feature(column: str) -> dict[str, Any]:
    if column == "image":
        return {"column": column, "encode": "scale", "shape": [2, 2, 1]}
    return {"column": "label" if column == "series" else column, "encode": "index"}


def contents(pipelines: Pipelines) -> list[str]:
    """The rows of bronze as its newest version has them, whatever the ledger says; nothing of quarantine is expected."""
    assert not log.exists(pipelines.lake.path("quarantine/sources/digits"))
    return sorted(map(repr, log.read_rows(pipelines.lake.path("bronze/digits")).to_pylist()))
