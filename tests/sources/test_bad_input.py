"""Bad input in every text format: good rows + quarantined rows are all rows, or there is one clear error. Memory has a cap."""

# ruff: noqa: E501 (whole messages)

from __future__ import annotations

import bz2
import gzip
import io
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from pydantic import TypeAdapter

from millrace.config.sources import SourceConfig
from millrace.errors import MillraceError
from millrace.sources.read import FileSource, source_of
from tests.factories import make_contract

STRICT = make_contract()
LENIENT = make_contract(evolution={"added": "quarantine"})
LOOSE = make_contract(
    {"id": {"type": "bigint"}, "name": {"type": "string"}}, evolution={"added": "quarantine", "missing": "null"}
)
TEXT = make_contract({"text": {"type": "string"}})
MIB = 1024**2
GOOD = "good"
DAMAGED = "ingest: expected a whole file at FILE; found that it is damaged ({}). Fetch it again, then run the night again."
ENDED = DAMAGED.format("Compressed file ended before the end-of-stream marker was reached")
NO_JSON = "ingest: expected a JSON document in FILE: an array of objects, or one object; found {}. Mend the file, then run the night again."
OPEN_QUOTE = DAMAGED.format("it ends within a quoted field")
LONG_ROW = (
    "ingest: expected rows of at most 1,024 bytes in FILE; found a longer one with a quote in it, which may never be closed. "
    "Mend that row, set the source's quote to null, or raise its max_row_bytes."
)
BOMB = (
    "ingest: expected at most 100,000 bytes in FILE; found that it unpacks to more. "
    "If it is meant to be so large, unpack it first, or raise the source's max_bytes."
)
ROWS = b"id,name\n" + b"".join(b"%d,%d\n" % (number, number**5) for number in range(5_000))
OBJECTS = b"".join(b'{"id": %d, "name": "a"}\n' % number for number in range(5_000))


def zipped(*contents: bytes) -> bytes:
    """A zip of so many files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"{number}.csv", content)
    return buffer.getvalue()


def zst(content: bytes) -> bytes:
    """One zstd frame."""
    return zstandard.ZstdCompressor().compress(content)


def source(name: str, path: str, **options: Any) -> FileSource:
    """The source for a file's format by its name."""
    kinds = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".json": "json", ".txt": "text"}
    kind = next(kinds[suffix] for suffix in (".csv", ".tsv", ".jsonl", ".json", ".txt") if suffix in name)
    values = {"name": "tiny", "format": kind, "path": path, "schema": "tiny_raw", **options}
    found = source_of(TypeAdapter(SourceConfig).validate_python(values))
    assert isinstance(found, FileSource)
    return found


def batches(found: FileSource, path: str, contract: Any = STRICT) -> Iterator[Any]:
    """What the night would read, after its checks."""
    assert found.find(path) == [path]
    found.check([path], contract)
    for unit in found.reader.units([path]):
        for batch in found.reader.read(unit, contract):
            assert batch.schema == found.reader.arrow_schema(contract)
            yield batch


def verdicts(name: str, path: str, contract: Any, **options: Any) -> Any:
    """Of each row `good` or its rule; or the error's message, with the file's path left out."""
    found = source(name, path, **options)
    try:
        rows = [row for batch in batches(found, path, contract) for row in batch.to_pylist()]
    except MillraceError as error:
        return str(error).replace(path, "FILE")
    for row in rows:
        rejects = (row["_rule"], row["_reason"], row["_record"])
        assert row["_source_file"] == path
        assert all(rejects) or not any(value is not None for value in rejects)
        assert row["_rule"] is None or row["_rule"] in found.rules
        assert row["_rule"] is None or all(row[column] is None for column in contract.columns)
    return [row["_rule"] or GOOD for row in rows]


CASES: list[tuple[str, bytes, Any, dict[str, Any]]] = [
    # compression
    ("trunc.csv.gz", gzip.compress(ROWS)[:-9], ENDED, {}),
    ("trunc.csv.bz2", bz2.compress(ROWS)[:-9], ENDED, {}),
    ("trunc.csv.zst", zst(ROWS)[:-9], ENDED, {}),
    ("trunc.csv.zip", zipped(ROWS)[:-9], DAMAGED.format("File is not a zip file"), {}),
    ("trunc.jsonl.gz", gzip.compress(OBJECTS)[:-9], ENDED, {}),
    ("plain.csv.gz", ROWS, DAMAGED.format("Not a gzipped file (b'id')"), {}),
    ("plain.csv.bz2", ROWS, DAMAGED.format("Invalid data stream"), {}),
    ("plain.csv.zst", ROWS, DAMAGED.format("zstd decompressor error: Unknown frame descriptor"), {}),
    (
        "gzip.csv",
        gzip.compress(ROWS, mtime=0),
        "ingest: expected the columns id, name in FILE; found no id, name in its first line. Mend the file, or the contract tiny_raw, or let its evolution.missing quarantine such files.",
        {},
    ),
    ("tail.csv.gz", gzip.compress(ROWS) + b"tail", DAMAGED.format("Not a gzipped file (b'ta')"), {}),
    (
        "two.csv.zip",
        zipped(ROWS, ROWS),
        "ingest: expected one plain file in FILE; found 2. Unpack it, and give the path of what is in it.",
        {},
    ),
    (
        "none.csv.zip",
        zipped(),
        "ingest: expected one plain file in FILE; found 0. Unpack it, and give the path of what is in it.",
        {},
    ),
    ("empty.csv.gz", b"", DAMAGED.format("it is empty"), {}),
    ("bomb.csv.gz", gzip.compress(b"id,name\n" + b"1,a\n" * 50_000), BOMB, {"max_bytes": 100_000}),
    ("bomb.csv.bz2", bz2.compress(b"id,name\n" + b"1,a\n" * 50_000), BOMB, {"max_bytes": 100_000}),
    ("bomb.csv.zst", zst(b"id,name\n" + b"1,a\n" * 50_000), BOMB, {"max_bytes": 100_000}),
    ("bomb.csv.zip", zipped(b"id,name\n" + b"1,a\n" * 50_000), BOMB, {"max_bytes": 100_000}),
    ("bomb.json.gz", gzip.compress(b"[" + b"{}," * 50_000), BOMB, {"max_bytes": 100_000}),
    ("bomb.txt.gz", gzip.compress(bytes(200_000)), BOMB, {"max_bytes": 100_000}),
    # files of CSV
    (
        "empty.csv",
        b"",
        "ingest: expected the columns id, name in FILE; found no id, name in its first line. Mend the file, or the contract tiny_raw, or let its evolution.missing quarantine such files.",
        {},
    ),
    ("header_only.csv", b"id,name", [], {}),
    (
        "twice.csv",
        b"id,name,id\n1,a,2\n",
        "ingest: expected each column once in FILE; found id, name, id. Mend the file's first line.",
        {},
    ),
    ("added.csv", b"id,name,x\n1,a,2\n1,b\n", ["column_added", "too_few_fields"], {}),
    ("no_header.csv", b"1,a\n2,b,c\n3\n", [GOOD, "too_many_fields", "too_few_fields"], {"columns": ["id", "name"]}),
    (
        "wrong_columns.csv",
        b"1,a\n",
        "ingest: expected the columns id, name in the source; found no name. Mend the source, or the contract tiny_raw, or let its evolution.missing be null or quarantine such files.",
        {"columns": ["id", "nome"]},
    ),
    (
        "no_delimiter.csv",
        b"id\tname\n1\ta\n",
        "ingest: expected the columns id, name in FILE; found no id, name in its first line. Mend the file, or the contract tiny_raw, or let its evolution.missing quarantine such files.",
        {},
    ),
    # rows of CSV
    ("fields.csv", b"id,name\n1\n1,a,b\n,\n1,a\n", ["too_few_fields", "too_many_fields", GOOD, GOOD], {}),
    ("line_ends.csv", b"id,name\r\n1,a\n2,b\r3,c\r\n\r\n\n4,d", [GOOD] * 4, {}),
    ("old_mac.csv", b"id,name\r1,a\r2\r", [GOOD, "too_few_fields"], {}),
    ("nul.csv", b"id,name\n1,\0\n\0\0\n", [GOOD, "too_few_fields"], {}),
    ("quote.csv", b'id,name\n1,"a\n2,b\n', OPEN_QUOTE, {}),
    ("quote_at_end.csv", b'id,name\n1,a\n2,"', OPEN_QUOTE, {}),
    ("quotes_are_text.tsv", b'id\tname\n1\t"a\n2\tb"\n3\t"\n', [GOOD] * 3, {"delimiter": "\t", "quote": None}),
    ("odd_quotes.csv", b'id,name\n1,5" pipe\n2,"a"b\n3,"x","y"\n', [GOOD, GOOD, "too_many_fields"], {}),
    ("values.csv", b"id,name\nNaN,inf\n9223372036854775808,9999-99-99\n1e400,-0\n", [GOOD] * 3, {}),  # for the caster to judge
    ("long_line.csv", b"id,name\n1,a\n2," + b"x" * 9_000 + b"\n3,c\n", [GOOD, "line_too_long", GOOD], {"max_row_bytes": 1024}),
    ("long_quote.csv", b'id,name\n1,a\n2,"' + b"x" * 9_000 + b'"\n3,c\n', LONG_ROW, {"max_row_bytes": 1024}),
    ("long_row.csv", b'id,name\n1,a\n2,"' + b"x\n" * 9_000 + b'"\n3,c\n', LONG_ROW, {"max_row_bytes": 1024}),
    ("long_header.csv", b"id" * 9_000 + b"\n3,c\n", LONG_ROW, {"max_row_bytes": 1024}),
    # encodings
    ("latin.csv", "id,name\n1,é\n2,b\n".encode("latin-1"), ["not_utf8", GOOD], {}),
    ("bom.csv", b"\xef\xbb\xbfid,name\n1,\xef\xbb\xbf\n", [GOOD], {}),
    ("surrogate.csv", b"id,name\n1,\xed\xa0\x80\n2,b\n", ["not_utf8", GOOD], {}),
    (
        "gbk.csv",
        "id,name\n1,好评\n".encode("gbk") + b"2,\xff\n3,\xba\n4,d\n",
        [GOOD, "not_gbk", "not_gbk", GOOD],
        {"encoding": "gbk"},
    ),
    ("utf8_as_gbk.csv", "id,name\n1,好评价\n2,b\n".encode(), ["not_gb18030", GOOD], {"encoding": "gb18030"}),
    ("utf16.csv", "id,name\n1,é\n2,b\n".encode("utf-16"), [GOOD, GOOD], {"encoding": "utf-16"}),
    ("odd.csv", "id,name\n1,a\n2,b".encode("utf-16") + b"\0", [GOOD, "not_utf_16"], {"encoding": "utf-16"}),
    (
        "utf16_as_utf8.csv",
        "id,name\n1,a\n".encode("utf-16"),
        "ingest: expected the columns id, name in FILE; found no id, name in its first line. Mend the file, or the contract tiny_raw, or let its evolution.missing quarantine such files.",
        {},
    ),
    # JSON lines
    ("empty.jsonl", b"", [], {}),
    ("blank.jsonl", b"\n \r\n{}\n", [GOOD], {}),
    (
        "broken.jsonl",
        b'{"id": 1\n{"id": 1}}\n{"id": 01}\n{\'id\': 1}\n{"id": 1}\n\0\n',
        ["not_json"] * 4 + [GOOD, "not_json"],
        {},
    ),
    ("constants.jsonl", b'{"id": NaN}\n{"id": [-Infinity]}\n{"id": 1e400}\n', ["not_json", "not_json", GOOD], {}),
    ("kinds.jsonl", b'[]\n1\n"a"\nnull\ntrue\nNaN\n{"id": null}\n', ["not_an_object"] * 5 + ["not_json", GOOD], {}),
    ("twice.jsonl", b'{"id": 1, "id": 2}\n{"id": {"a": 1, "a": 1}}\n', ["duplicate_key"] * 2, {}),
    (
        "surrogates.jsonl",
        b'{"id": "\\ud800"}\n{"\\udfff": 1}\n{"id": ["\\ud800"]}\n{"id": "\\ud83d\\ude00"}\n',
        ["lone_surrogate"] * 3 + [GOOD],
        {},
    ),
    ("encoding.jsonl", b'{"id": "\xff"}\n\xff\n{"id": "\xc3\xa9"}\n', ["not_utf8", "not_utf8", GOOD], {}),
    (
        "deep.jsonl",
        b'{"id": '
        + b"[" * 63
        + b"]" * 63
        + b'}\n{"id": '
        + b"[" * 64
        + b"]" * 64
        + b"}\n"
        + b"[" * 200_000
        + b'\n{"id":' * 1
        + b"[" * 9_000
        + b"]" * 9_000
        + b"}\n",
        [GOOD, "too_deep", "too_deep", "too_deep"],
        {},
    ),
    ("added.jsonl", b'{"id": 1}\n{"id": 1, "x": 2}\n', ["good", "column_added"], {}),
    ("long.jsonl", b'{"id": "' + b"x" * 9_000 + b'"}\n{"id": 1}\n', ["line_too_long", GOOD], {"max_row_bytes": 1024}),
    # JSON
    ("empty.json", b"", NO_JSON.format("nothing where an array or an object begins"), {}),
    ("scalar.json", b"\xef\xbb\xbf 1", NO_JSON.format("1 where an array or an object begins"), {}),
    ("broken.json", b'[{"id": 1}, {"id": ]', NO_JSON.format("Expecting value at line 1, character 20"), {}),
    ("cut.json", b'[{"id": 1},\n {"id": 2}', NO_JSON.format("Expecting ',' delimiter at line 2, character 11"), {}),
    ("tail.json", b'[{"id": 1}]\n]', NO_JSON.format("Extra data at line 2, character 1"), {}),
    ("comma.json", b'[{"id": 1},]', NO_JSON.format("Expecting value at line 1, character 12"), {}),
    ("deep.json", b"[" * 100_000, NO_JSON.format("something nested more than 64 deep"), {}),
    (
        "rows.json",
        b'[{"id": 1}, [], {"id": NaN}, {"id": 1, "id": 2}, {"x": 1}, {"id": "\xff"}]',
        [GOOD, "not_an_object", "not_json", "duplicate_key", "column_added", "not_utf8"],
        {},
    ),
    (
        "large.json",
        b"[" + b"{}," * 900 + b"{}]",
        "ingest: expected a JSON document of at most 1,024 bytes in FILE; found a larger one. Write it as JSON lines, or raise the source's max_document_bytes.",
        {"max_document_bytes": 1024},
    ),
    # text
    ("empty.txt", b"", [], {}),
    (
        "lines.txt",
        b"a\n\nb\r\n\xff\n\0\n" + b"x" * 9_000,
        [GOOD, GOOD, "not_utf8", GOOD, "line_too_long"],
        {"max_row_bytes": 1024},
    ),
    (
        "paragraphs.txt",
        b"a\nb\n\n" + b"x\n" * 9_000 + b"\n\n\nc",
        [GOOD, "paragraph_too_long", GOOD],
        {"max_row_bytes": 1024, "unit": "paragraph"},
    ),
    ("file.txt", b"x" * 9_000, ["file_too_long"], {"max_row_bytes": 1024, "unit": "file"}),
    (
        "label.txt",
        b"a\n",
        "ingest: expected a name that (pos|neg)$ finds a label in; found FILE. Mend the source's labels.pattern, or its path.",
        {"labels": {"column": "label", "pattern": "(pos|neg)$"}},
    ),
]


@pytest.mark.parametrize(("name", "content", "expected", "options"), CASES, ids=[case[0] for case in CASES])
def test_every_row_or_one_error(tmp_path: Path, name: str, content: bytes, expected: Any, options: dict[str, Any]) -> None:
    (tmp_path / name).write_bytes(content)
    contract = TEXT if ".txt" in name else LOOSE if ".json" in name else LENIENT
    assert verdicts(name, str(tmp_path / name), contract, **options) == expected


def test_the_corpus_is_wide() -> None:
    assert len({name for name, *_ in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("content", ['{"id": 1}\n{"id": 1, "x": 2}\n', '{"id": 1, "x": 2}\n'])
def test_keys_that_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    strict = make_contract(evolution={"missing": "null"})
    assert verdicts("a.jsonl", str(tmp_path / "a.jsonl"), strict) == (
        "ingest: expected the columns id, name in FILE; found also x. "
        "Add them to the contract tiny_raw, or let its evolution.added quarantine such rows."
    )


@pytest.mark.parametrize(
    ("name", "begin", "end", "expected"),
    [
        ("a.csv", b"id,name\n1,", b"\n2,b\n", ["line_too_long", GOOD]),
        ("a.csv.gz", b"id,name\n1,", b"\n2,b\n", ["line_too_long", GOOD]),
        ("a.jsonl", b'{"id": "', b'"}\n{"id": 1}\n', ["line_too_long", GOOD]),
        ("a.txt", b"", b"\nb\n", ["line_too_long", GOOD]),
        ("a.json", b'[{"id": "', b'"}]', "document"),
    ],
)
def test_a_line_of_100_mb_is_passed_over_in_little_memory(
    tmp_path: Path, request: pytest.FixtureRequest, name: str, begin: bytes, end: bytes, expected: Any
) -> None:
    path = tmp_path / name
    with gzip.open(path, "wb", 1) if name.endswith(".gz") else path.open("wb") as stream:
        stream.write(begin)
        for _ in range(100):
            stream.write(b"x" * 1_000_000)
        stream.write(end)
    pool, before = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)  # tracemalloc does not see Arrow's buffers
    request.addfinalizer(lambda: pa.set_memory_pool(before))
    tracemalloc.start()
    found = verdicts(name, str(path), TEXT if ".txt" in name else LOOSE if ".json" in name else LENIENT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pool.max_memory() < 70 * MIB
    if expected == "document":
        assert found.startswith("ingest: expected a JSON document of at most 67,108,864 bytes in FILE; found a larger one.")
        assert peak < 80 * MIB
    else:
        assert found == expected
        assert peak < 70 * MIB
