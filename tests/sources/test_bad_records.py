"""Web archives, time series and Parquet files, broken: good and quarantined rows are all rows, or there is one clear error."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from base64 import b32encode
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from millrace.config.sources import FilesSource, ImagesSource, ParquetSource, TsSource, WarcSource, WetSource
from millrace.contracts.types import parse_type
from millrace.errors import ContractError, SourceError
from millrace.sources.parquet import ParquetReader, Part
from millrace.sources.typed_arrow import fit
from millrace.sources.warc import COLUMNS
from tests.factories import make_contract
from tests.sources.broken_files import count, page, read, warc, write

BASE = {"name": "t", "path": "/x", "schema": "tiny_raw"}
DATA = Path(os.environ.get("MILLRACE_DATA", "../shared/data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no data at {DATA}; set MILLRACE_DATA")
DAMAGED = "ingest: expected a whole file at PATH; found that it is damaged ({}). Fetch it again, then run the night again."


def web(format_: str = "warc", **options: Any) -> WarcSource | WetSource:
    kind: type[WarcSource | WetSource] = WarcSource if format_ == "warc" else WetSource
    return kind.model_validate({**BASE, "format": format_, **options})


def pages(payload: str = "string", *names: str) -> Any:
    return make_contract({name: {"type": payload if name == "payload" else "string"} for name in names or COLUMNS})


def failure(path: Path, config: Any, contract: Any) -> str:
    with pytest.raises((SourceError, ContractError)) as caught:
        read(config, [str(path)], contract)
    return str(caught.value).replace(str(path), "PATH")


# --- web archives -------------------------------------------------------------------------------------------------------

OTHERS = warc(b"software: x", kind="warcinfo") + warc(b"GET / HTTP/1.1\r\n\r\n", kind="request")
GOOD = warc(page())
SHA1 = b32encode(hashlib.sha1(page(), usedforsecurity=False).digest()).decode()


def test_responses(tmp_path: Path) -> None:
    more = f"WARC-Record-ID: <urn:uuid:1>\r\nWARC-Block-Digest: sha1:{SHA1}\r\nWARC-Identified-Content-Language: eng"
    records = [OTHERS, warc(page(), more=more), GOOD]
    write(tmp_path, {"a.warc.gz": b"".join(gzip.compress(record) for record in records), "b.warc": b"".join(records)})
    for name in ("a.warc.gz", "b.warc"):
        rows = read(web(), [str(tmp_path / name)], pages())
        assert count(rows) == {"good": 2}
        assert {name: rows[0][name] for name in COLUMNS} == {
            "uri": "http://a/",
            "date": "2026-11-22T00:00:00Z",
            "content_type": "text/html; charset=utf-8",
            "status": "200",
            "payload": "<p>mill</p>",
            "language": "eng",
            "record_id": "urn:uuid:1",
            "digest": f"sha1:{SHA1}",
        }
    assert [set(row) & set(COLUMNS) for row in read(web(), [str(tmp_path / "b.warc")], pages("binary", "payload"))] == [
        {"payload"}
    ] * 2


CHUNKED = b"5;x=y\r\n<p>mi\r\n6\r\nll</p>\r\n0\r\n\r\n"
BROKEN_RECORDS: dict[str, tuple[bytes, dict[str, int]]] = {
    "no_length": (GOOD + warc(page(), length=None) + GOOD, {"good": 2, "broken_header": 1}),
    "strange_length": (GOOD + warc(page(), length="many") + GOOD, {"good": 2, "broken_header": 1}),
    "negative_length": (warc(page(), length=-5) + GOOD, {"good": 1, "broken_header": 1}),
    "no_version": (GOOD + warc(page(), version="WARP/9") + GOOD, {"good": 2, "broken_header": 1}),
    "no_colon": (GOOD + warc(page(), more="this is no field") + GOOD, {"good": 2, "broken_header": 1}),
    "too_short": (GOOD + warc(page(), length=20) + GOOD, {"good": 2, "wrong_length": 1}),
    "too_long": (GOOD + warc(page(), length=200) + GOOD, {"good": 2, "wrong_length": 1}),
    "much_too_long": (GOOD + warc(page(), length=900) + GOOD, {"good": 2, "wrong_length": 1}),
    "garbage": (GOOD + b"\x00\xffgarbage\n" * 50 + b"\n" + GOOD, {"good": 2, "broken_header": 1}),
    "large": (GOOD + warc(page(b"x" * 2_000)) + GOOD, {"good": 2, "record_too_large": 1}),
    "large_request": (warc(b"x" * 2_000, kind="request") + GOOD, {"good": 1}),
    "gzip_members": (warc(page(gzip.compress(b"<p>mi") + gzip.compress(b"ll</p>"), "Content-Encoding: gzip\r\n")), {"good": 1}),
    "no_http": (warc(b"\x00\x01\x02") + GOOD, {"good": 1, "broken_http": 1}),
    "no_block": (warc(b"") + GOOD, {"good": 1, "broken_http": 1}),
    "chunked": (warc(page(CHUNKED, "Transfer-Encoding: chunked\r\n")), {"good": 1}),
    "unchunked": (warc(page(headers="Transfer-Encoding: chunked\r\n")), {"good": 1}),
    "cut_chunk": (warc(page(CHUNKED[:-12], "Transfer-Encoding: chunked\r\n")), {"broken_payload": 1}),
    "wrong_chunk": (warc(page(b"3\r\n<p>mill</p>\r\n0\r\n", "Transfer-Encoding: chunked\r\n")), {"broken_payload": 1}),
    "gzip": (warc(page(gzip.compress(b"<p>mill</p>"), "Content-Encoding: gzip\r\n")), {"good": 1}),
    "ungzipped": (warc(page(headers="Content-Encoding: gzip\r\n")), {"good": 1}),
    "cut_gzip": (warc(page(gzip.compress(b"<p>mill</p>")[:-9], "Content-Encoding: gzip\r\n")), {"broken_payload": 1}),
    "gzip_bomb": (warc(page(gzip.compress(bytes(100_000)), "Content-Encoding: gzip\r\n")), {"payload_too_large": 1}),
    "deflate": (warc(page(zlib.compress(b"<p>mill</p>"), "Content-Encoding: deflate\r\n")), {"good": 1}),
    "zstd": (warc(page(zstandard.compress(b"<p>mill</p>"), "Content-Encoding: zstd\r\n")), {"good": 1}),
    "zstd_bomb": (warc(page(zstandard.compress(bytes(100_000)), "Content-Encoding: zstd\r\n")), {"payload_too_large": 1}),
    "brotli": (warc(page(b"\x0b\x05\x80", "Content-Encoding: br\r\n")), {"broken_payload": 1}),
    "many_codings": (warc(page(headers=f"Content-Encoding: {'gzip,' * 9}\r\n")), {"broken_payload": 1}),
    "no_charset": (warc(page(b"<p>mill</p>\xff\xfe")), {"wrong_encoding": 1}),
    "digest": (warc(page(b"other"), more=f"WARC-Block-Digest: sha1:{SHA1}"), {"wrong_digest": 1}),
}


@pytest.mark.parametrize(("content", "expected"), BROKEN_RECORDS.values(), ids=BROKEN_RECORDS)
def test_broken_records(tmp_path: Path, content: bytes, expected: dict[str, int]) -> None:
    write(tmp_path, {"a.warc": content, "a.warc.gz": gzip.compress(content)})
    for name in ("a.warc", "a.warc.gz"):
        rows = read(web(record_bytes=1_500), [str(tmp_path / name)], pages())
        assert count(rows) == expected
        assert {row["payload"] for row in rows if row["_rule"] is None} <= {"<p>mill</p>"}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (GOOD[:-20], "it ends 16 bytes before its last record does"),
        (GOOD + GOOD[:60], "it ends within a record's header"),
        (GOOD + warc(page(), length=5_000), None),
        (gzip.compress(GOOD)[:-20], "Compressed file ended before the end-of-stream marker was reached"),
    ],
)
def test_a_truncated_archive_is_refused(tmp_path: Path, content: bytes, found: str | None) -> None:
    path = tmp_path / ("a.warc.gz" if content[:2] == b"\x1f\x8b" else "a.warc")
    path.write_bytes(content)
    expected = (
        DAMAGED.format(found)
        if found
        else DAMAGED.format("a record of another length than its header says, too large to look into")
    )
    text = failure(path, web(record_bytes=4_000 if found is None else 100_000), pages())
    assert text == expected if found else text.startswith(DAMAGED[:60])


def test_no_web_archive(tmp_path: Path) -> None:
    write(tmp_path, {"a.warc": b"<html>"})
    assert failure(tmp_path / "a.warc", web(), pages()) == (
        "ingest: expected WARC/1.0 or WARC/1.1 in the first line of PATH; found '<html>'. It is no web archive: fetch it again."
    )


def test_charsets_of_pages(tmp_path: Path) -> None:
    def of(body: bytes, charset: str) -> bytes:
        return warc(f"HTTP/1.1 200 OK\r\nContent-Type: text/html{charset}\r\n\r\n".encode() + body)

    gbk = "水车".encode("gbk")
    content = of(gbk, "; charset=gb2312") + of(b'<meta charset="GBK">' + gbk, "") + of("水车".encode(), "; charset=nobody")
    content += of(b"\x93mill\x94", "; charset=ISO-8859-1")
    content += (
        of(rb"\ud83d", "; charset=unicode_escape") + of(b"+2AE-", "; charset=utf-7") + of(b"\xd8\x00", "; charset=utf-16-be")
    )
    write(tmp_path, {"a.warc": content})
    rows = read(web(), [str(tmp_path / "a.warc")], pages())
    told = ["水车", '<meta charset="GBK">水车', "水车", "\u201cmill\u201d", r"\ud83d", "+2AE-"]
    assert [row["payload"] for row in rows if row["_rule"] is None] == told
    assert count(rows) == {"good": len(told), "wrong_encoding": 1}


def test_conversions_with_bare_line_ends(tmp_path: Path) -> None:
    content = warc("Mühle\n".encode(), kind="conversion").replace(b"\r\n", b"\n").removesuffix(b"\n")
    write(tmp_path, {"a.warc.wet": OTHERS + content + content})
    rows = read(web("wet"), [str(tmp_path / "a.warc.wet")], pages())
    assert [(row["payload"], row["status"], row["content_type"]) for row in rows] == [("Mühle\n", None, "text/plain")] * 2


@needs_data
def test_real_web_archives() -> None:
    root = DATA / "webcrawl_samples"
    paths = [
        str(root / name) for name in ("dolma/sample-0000.warc.gz", "dolma/sample-0001.warc.gz", "commoncrawl/whirlwind.warc.gz")
    ]
    rows = read(web(), paths, pages("binary"))
    assert count(rows) == {"good": 22 + 15 + 1}
    assert all(row["uri"].startswith("http") and row["digest"].startswith("sha1:") for row in rows)
    (row,) = read(web("wet"), [str(root / "commoncrawl/whirlwind.warc.wet.gz")], pages())
    assert (row["language"], row["payload"][:9]) == ("spa", "Escopete ")
    # somebody has shortened these by hand: no length is right any more
    assert count(read(web("wet"), [str(root / "cc_net/sample.warc.txt")], pages())) == {"wrong_length": 3}


# --- time series --------------------------------------------------------------------------------------------------------

HEADER = "#note\n@problemName x\n@timeStamps false\n@univariate false\n@dimensions 2\n@classLabel true a b\n@data\n"


def series(missing: str = "quarantine") -> TsSource:
    return TsSource.model_validate({**BASE, "format": "ts", "missing": missing})


def cases(shape: list[int] | None = None) -> Any:
    tensor = {} if shape is None else {"tensor": {"dtype": "float32", "shape": shape}}
    return make_contract(
        {
            "subset": {"type": "string"},
            "index": {"type": "int"},
            "series": {"type": "binary", **tensor},
            "label": {"type": "string"},
        }
    )


LINES = {
    "1,2,3:4,5,6:a": None,
    " 1e0 , -2,.5 : 4,5,6:b\r": None,
    "1,2,3:4,5,?:a": "missing_value",
    "1,2,NaN:4,5,6:a": "missing_value",
    "1,2,inf:4,5,6:a": "no_number",
    "1,2,1e39:4,5,6:a": "no_number",
    "1,two,3:4,5,6:a": "no_number",
    "1,,3:4,5,6:a": "no_number",
    "1,2,3:a": "wrong_number_of_dimensions",
    "1,2,3:4,5,6:7,8,9:a": "wrong_number_of_dimensions",
    "a": "wrong_number_of_dimensions",
    "1,2:4,5,6:a": "wrong_length",
    "1,2:4,5:a": "wrong_length",
    "1,2,3:4,5,6:c": "unknown_label",
    "1,2,3:4,5,6:": "no_label",
    "\xff\xfe:1:a": "wrong_length",
}


def test_cases(tmp_path: Path) -> None:
    write(tmp_path, {"x_TRAIN.ts": (HEADER + "\n".join(LINES)).encode("latin-1"), "x_TEST.ts.gz": gzip.compress(HEADER.encode())})
    rows = read(series(), [str(tmp_path / name) for name in ("x_TRAIN.ts", "x_TEST.ts.gz")], cases([3, 2]))
    found = dict(zip(LINES, [row["_rule"] for row in rows], strict=True))
    assert {line: rule for line, rule in found.items() if line[0] != "\xff"} == {
        line: rule for line, rule in LINES.items() if line[0] != "\xff"
    }
    first, second = (np.frombuffer(row["series"], np.float32).reshape(3, 2).tolist() for row in rows[:2])
    assert first == [[1, 4], [2, 5], [3, 6]]
    assert second == [[1, 4], [-2, 5], [0.5, 6]]
    assert [(row["subset"], row["index"], row["label"]) for row in rows[:2]] == [("train", "0", "a"), ("train", "1", "b")]
    reasons = {row["_rule"]: row["_reason"] for row in reversed(rows) if row["_rule"]}
    assert reasons["missing_value"] == "case 2: 1 values are missing"
    assert reasons["wrong_number_of_dimensions"] == "case 8: 1 dimensions, where 2 are expected"
    assert reasons["unknown_label"] == "case 13: the label 'c', which the header does not name"


def test_series_of_any_length_and_with_gaps(tmp_path: Path) -> None:
    write(tmp_path, {"x.ts": (HEADER + "1,?:3,4:a\n5:6:b\n1:2,3:a\n").encode()})
    rows = read(series("nan"), [str(tmp_path / "x.ts")], cases())
    assert [row["_rule"] for row in rows] == [None, None, "wrong_length"]
    gap = np.frombuffer(rows[0]["series"], np.float32).reshape(2, 2)
    assert np.isnan(gap[1, 0])
    assert gap[1, 1] == 4
    assert len(rows[1]["series"]) == 8


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "found no line @data"),
        (HEADER.replace("@data", "@date"), "found no line @data"),
        ("1,2,3:a\n@data\n", "found the line '1,2,3:a' before @data"),
        (HEADER.replace("timeStamps false", "timeStamps true"), "found @timeStamps true, which is not read"),
        (HEADER.replace("@dimensions 2", "@dimensions -2"), "found @dimensions -2"),
    ],
)
def test_headers(tmp_path: Path, content: str, expected: str) -> None:
    write(tmp_path, {"x.ts": content.encode()})
    assert failure(tmp_path / "x.ts", series(), cases()) == (
        f"ingest: expected lines of @headers, then @data, in PATH; {expected}. "
        "It is no .ts file of this kind: fetch it again, or mend it."
    )


def test_a_contract_with_labels_for_cases_without(tmp_path: Path) -> None:
    write(tmp_path, {"x.ts": HEADER.replace("@classLabel true a b", "@classLabel false").encode()})
    assert failure(tmp_path / "x.ts", series(), cases()) == (
        "ingest: expected cases with a label in PATH, as tiny_raw has the column label; found @classLabel false. "
        "Leave the column out of the contract."
    )


@needs_data
def test_real_series() -> None:
    paths = [str(DATA / f"basic_motions/BasicMotions_{name}.ts") for name in ("TRAIN", "TEST")]
    rows = read(series(), paths, cases([100, 6]))
    assert count(rows) == {"good": 80}
    assert {row["subset"] for row in rows} == {"train", "test"}
    assert {row["label"] for row in rows} == {"Standing", "Running", "Walking", "Badminton"}
    assert np.frombuffer(rows[0]["series"], np.float32).reshape(100, 6)[2, 0] == np.float32(-0.903497)


# --- Parquet ------------------------------------------------------------------------------------------------------------

PARQUET = ParquetSource.model_validate({**BASE, "format": "parquet"})
TYPES = {"id": {"type": "int"}, "name": {"type": "string"}, "day": {"type": "date"}, "parts": {"type": "array<struct<n:int>>"}}


def table(directory: Path, columns: Mapping[str, pa.Array], name: str = "a.parquet", **options: Any) -> str:
    path = directory / name
    pq.write_table(pa.table(dict(columns)), path, **options)
    return str(path)


def usual(num_rows: int = 2) -> dict[str, pa.Array]:
    parts = pa.array([[{"n": 1}], None] * (num_rows // 2), pa.list_(pa.struct([("n", pa.int32())])))
    return {
        "id": pa.array(range(num_rows), pa.int32()),
        "name": pa.array(["a", None] * (num_rows // 2)),
        "day": pa.array([date(2026, 11, 22)] * num_rows),
        "parts": parts,
    }


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path, usual(6), row_group_size=2)
    rows = read(PARQUET, [path], make_contract(TYPES))
    assert [row["id"] for row in rows] == list(range(6))
    assert rows[0]["parts"] == [{"n": 1}]
    monkeypatch.setattr("millrace.sources.parquet._UNIT_BYTES", 1)
    assert ParquetReader().units([path]) == [Part(path, (0,)), Part(path, (1,)), Part(path, (2,))]
    assert len(read(PARQUET, [path], make_contract(TYPES))) == 6
    assert read(PARQUET, [table(tmp_path, usual(0), "none.parquet")], make_contract(TYPES)) == []


RETYPED: list[tuple[str, pa.Array, str, list[Any], int]] = [
    ("bigint", pa.array([1, 2**31, None], pa.int64()), "int", [1, None, None], 1),
    ("fractions", pa.array([1.0, 1.5, float("nan")]), "int", [1, None, None], 2),
    ("texts", pa.array([" 7", "seven", "2147483648"]), "int", [7, None, None], 2),
    ("numbers", pa.array([7, 8]), "string", ["7", "8"], 0),
    ("floats", pa.array([0.5, None]), "string", [None, None], 1),
    ("flags", pa.array([2, 1]), "boolean", [None, None], 2),
    ("words", pa.array(["true", "perhaps"]), "boolean", [True, None], 1),
    ("doubles", pa.array([0.5, 1e300, float("inf")]), "float", [0.5, None, float("inf")], 1),
    ("bytes", pa.array([b"mill", b"\xff"]), "string", ["mill", None], 1),
    ("categories", pa.array(["a", "b", "a"]).dictionary_encode(), "string", ["a", "b", "a"], 0),
    ("nothing", pa.nulls(2), "int", [None, None], 0),
    ("naive", pa.array([datetime(2026, 11, 22, 1)]), "timestamp", [datetime(2026, 11, 22, 1, tzinfo=UTC)], 0),
    ("finer", pa.array([1_000, 1_001], pa.timestamp("ns", "UTC")), "timestamp", [datetime(1970, 1, 1, 0, 0, 0, 1, UTC)] * 2, 0),
    ("too_late", pa.array([10**16, 0], pa.timestamp("ms")), "timestamp", [None, datetime(1970, 1, 1, tzinfo=UTC)], 1),
    ("days", pa.array([19_000], pa.int32()), "date", [None], 1),
    ("lists", pa.array([["1"], ["x"], None]), "array<int>", [[1], None, None], 1),
    ("structs", pa.array([{"a": 1}]), "int", [None], 1),
]


@pytest.mark.parametrize(
    ("stored", "wanted", "values", "num_broken"), [case[1:] for case in RETYPED], ids=[case[0] for case in RETYPED]
)
def test_values_of_another_type(stored: pa.Array, wanted: str, values: list[Any], num_broken: int) -> None:
    found, unfit = fit(stored, parse_type(wanted).to_arrow())
    assert found.type == parse_type(wanted).to_arrow()
    assert found.to_pylist() == values
    assert len(unfit) == num_broken
    assert all(values[row] is None and stored[row].is_valid for row in unfit)


def test_columns_of_another_type(tmp_path: Path) -> None:
    texts = table(tmp_path, {"x": pa.array(["7", "seven", None])})
    numbers = table(tmp_path, {"x": pa.array([7, None], pa.int32())}, "b.parquet")
    rows = read(PARQUET, [texts, numbers], make_contract({"x": {"type": "bigint"}}))
    assert [(row["x"], row["_rule"], row["_reason"], row["_record"]) for row in rows] == [
        (7, None, None, None),
        (None, "column_retyped", "x is string in the file, and its value is no bigint", '{"x": "seven"}'),
        (None, None, None, None),
        (None, "column_retyped", "the file has x as int32, not x as bigint", '{"x": 7}'),
        (None, "column_retyped", "the file has x as int32, not x as bigint", '{"x": null}'),
    ]
    rows = read(PARQUET, [numbers], make_contract({"x": {"type": "bigint"}}, evolution={"retyped": "evolve"}))
    assert [(row["x"], row["_rule"]) for row in rows] == [(7, None), (None, None)]
    assert failure(Path(numbers), PARQUET, make_contract({"x": {"type": "bigint"}}, evolution={"retyped": "refuse"})) == (
        "ingest: expected x as bigint in PATH; found x as int32. "
        "Mend the file, or the contract tiny_raw, or let its evolution.retyped quarantine such files."
    )


def test_added_and_missing_columns(tmp_path: Path) -> None:
    path = Path(table(tmp_path, {**usual(), "more": pa.array([b"\xff", None]), "deep": pa.array([[{"n": 1}], None])}))
    assert failure(path, PARQUET, make_contract(TYPES)) == (
        "ingest: expected the columns id, name, day, parts in PATH; found also more, deep. "
        "Add them to the contract tiny_raw, or let its evolution.added quarantine such files."
    )
    rows = read(PARQUET, [str(path)], make_contract(TYPES, evolution={"added": "quarantine"}))
    assert count(rows) == {"column_added": 2}
    assert rows[0]["_record"].startswith('{"id": 0, "name": "a", "day": "2026-11-22", "parts": [{"n": 1}], "more": "/w==", ')
    price = {**TYPES, "price": {"type": "int"}}
    rows = read(PARQUET, [str(path)], make_contract(price, evolution={"added": "evolve", "missing": "null"}))
    assert count(rows) == {"good": 2}
    assert rows[0]["_added"] == [("more", "/w=="), ("deep", '[{"n": 1}]')]
    assert [row["price"] for row in rows] == [None, None]
    assert failure(path, PARQUET, make_contract(price)) == (
        "ingest: expected the columns id, name, day, parts, price in PATH; found no price in its schema. "
        "Mend the file, or the contract tiny_raw, or let its evolution.missing be null or quarantine such files."
    )


def test_damaged_parquet(tmp_path: Path) -> None:
    contract = make_contract({"name": {"type": "string"}})
    texts = pa.array([f"{number:010d}" for number in range(5_000)])
    path = Path(table(tmp_path, {"name": texts}, use_dictionary=False, compression="zstd"))
    whole = path.read_bytes()
    assert len(read(PARQUET, [str(path)], contract)) == 5_000
    for content in (b"", b"PAR1", whole[:-1], whole[:500], whole[: len(whole) // 2], whole[4:], b"x" * 5_000):
        path.write_bytes(content)
        text = failure(path, PARQUET, contract)
        assert text.startswith(DAMAGED.partition("{}")[0])
        assert text.endswith(DAMAGED.partition("{}")[2])
    flipped = bytearray(whole)
    flipped[60:90] = bytes(30)
    path.write_bytes(flipped)
    assert failure(path, PARQUET, contract).startswith(DAMAGED.partition("{}")[0])


# --- real texts and pictures --------------------------------------------------------------------------------------------


@needs_data
def test_real_pictures() -> None:
    pattern = r"(?P<split>validation|test)/(?P<label>[^/]+)/(?P<id>[0-9a-f-]+)\.jpg"
    config = ImagesSource.model_validate({**BASE, "format": "images", "content": "image", "pattern": pattern})
    texts = {name: {"type": "string"} for name in ("split", "label", "id")}
    contract = make_contract({**texts, "image": {"type": "binary", "tensor": {"dtype": "uint8", "shape": [32, 32, 3]}}})
    rows = read(config, [str(DATA / "clothing_small/test.tar")], contract)
    assert count(rows) == {"good": 120}
    assert len({row["label"] for row in rows}) == 10
    assert {len(row["image"]) for row in rows} == {32 * 32 * 3}


@needs_data
@pytest.mark.full
def test_real_reviews() -> None:
    pattern = r"(?P<split>train|test)/(?P<label>pos|neg)/(?P<index>\d+)_(?P<stars>\d+)\.txt"
    config = FilesSource.model_validate({**BASE, "format": "files", "content": "text", "pattern": pattern})
    contract = make_contract({name: {"type": "string"} for name in ("split", "label", "index", "stars", "text")})
    rows = read(config, [str(DATA / f"imdb/aclImdb_{name}.tar.gz") for name in ("train", "test")], contract)
    assert count(rows) == {"good": 15_000}
    assert all((int(row["stars"]) > 5) == (row["label"] == "pos") for row in rows)
