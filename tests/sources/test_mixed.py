"""Several formats in one source: which part takes a file, what its rows come to, and what is refused."""

# ruff: noqa: E501 (whole messages)

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
import zstandard
from pyspark.sql import SparkSession
from pyspark.testing import assertDataFrameEqual

from millrace.config.load import hash_of, validate
from millrace.config.models import PipelineConfig
from millrace.config.sources import MixedSource
from millrace.contracts.table import TableContract
from millrace.errors import ConfigError, MillraceError, SourceError
from millrace.flows.check import check_pipeline
from millrace.sources.read import FileSource, source_of
from tests.factories import make_contract, pipeline_values
from tests.sources.broken_files import count, page, read, warc, write

COLUMNS = {name: {"type": "string"} for name in ("url", "html", "text")}
CONTRACT = make_contract({**COLUMNS, "status": {"type": "int"}}, evolution={"added": "quarantine", "missing": "null"})
WARC = {"format": "warc", "mapping": {"uri": "url", "payload": "html", "status": "status"}}
WET = {"format": "wet", "mapping": {"uri": "url", "payload": "text"}}
JSONL = {"format": "jsonl", "suffixes": [".jsonl", ".json"], "mapping": {"id": "url", "text": "text", "score": None}}
PARTS = (WARC, WET, JSONL)
LINE = b'{"id": "http://b/", "text": "b", "score": 1}\n'


def values(*parts: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"name": "t", "path": "/x", "schema": "tiny_raw", "format": "mixed", "parts": list(parts or PARTS), **options}


def mixed(*parts: dict[str, Any], **options: Any) -> MixedSource:
    return validate(MixedSource, values(*parts, **options), origin="a test")


def source(*parts: dict[str, Any], **options: Any) -> FileSource:
    found = source_of(mixed(*parts, **options))
    assert isinstance(found, FileSource)
    return found


def rows(config: MixedSource, directory: Path, contract: TableContract = CONTRACT) -> list[dict[str, Any]]:
    return read(config, source_of(config).find(str(directory)), contract)


def failure(config: MixedSource, directory: Path, contract: TableContract = CONTRACT) -> str:
    with pytest.raises(MillraceError) as caught:
        rows(config, directory, contract)
    return f"{type(caught.value).__name__} {caught.value}".replace(f"{directory}/", "")


def zipped(content: bytes, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jsonl", content)


def test_each_ending_has_its_part_and_all_rows_the_same_columns(tmp_path: Path) -> None:
    response, conversion = warc(page()), warc(b"conversion", kind="conversion")
    write(
        tmp_path,
        {
            "a.warc": response,
            "b.warc.gz": gzip.compress(response),
            "c.wet": conversion,
            "deep/d.warc.wet.gz": gzip.compress(conversion),
            "e.jsonl": LINE,
            "f.jsonl.zst": zstandard.compress(LINE),
            "g.json.gz": gzip.compress(LINE),
        },
    )
    zipped(LINE, tmp_path / "h.jsonl.zip")
    found = {row["_source_file"].removeprefix(f"{tmp_path}/"): row for row in rows(mixed(), tmp_path)}
    assert {name: tuple(row[column] for column in CONTRACT.columns) for name, row in found.items()} == {
        **dict.fromkeys(("a.warc", "b.warc.gz"), ("http://a/", "<p>mill</p>", None, "200")),
        **dict.fromkeys(("c.wet", "deep/d.warc.wet.gz"), ("http://a/", None, "conversion", None)),
        **dict.fromkeys(("e.jsonl", "f.jsonl.zst", "g.json.gz", "h.jsonl.zip"), ("http://b/", None, "b", None)),
    }


def test_csv_json_and_text_are_parts_too(tmp_path: Path) -> None:
    write(
        tmp_path, {"a.tsv": b"link\tx\nhttp://a/\t1\n", "b.json": b'[{"text": "b"}]', "c.txt": b"c\n\n", "d.notes.txt": b"d\ne"}
    )
    config = mixed(
        {"format": "csv", "delimiter": "\t", "rename": {"link": "at"}, "mapping": {"at": "url", "x": None}},
        {"format": "json", "mapping": {"text": "text"}},
        {"format": "text", "mapping": {"text": "text", "line_number": "status"}},
        {"format": "text", "suffixes": [".notes.txt"], "unit": "file", "mapping": {"text": "html"}},  # the longer ending wins
    )
    found = [tuple(row[name] for name in CONTRACT.columns) for row in rows(config, tmp_path)]
    assert found == [("http://a/", None, None, None), (None, None, "b", None), (None, None, "c", "1"), (None, "d\ne", None, None)]


def test_broken_rows_of_every_part_go_to_quarantine(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "a.warc": warc(page()) + warc(b"no http"),
            "b.wet": warc(b"\xff\xfe", kind="conversion") + warc(b"good", kind="conversion"),
            "c.jsonl": LINE + b'{"id": 1\n{"id": "x", "more": 1}\n',
        },
    )
    found = rows(mixed(), tmp_path)
    assert count(found) == {"good": 3, "broken_http": 1, "wrong_encoding": 1, "not_json": 1, "column_added": 1}
    assert {row["_source_file"][-1] for row in found if row["_rule"]} == {"c", "t", "l"}


def test_columns_that_are_added_are_kept_where_the_contract_evolves(tmp_path: Path) -> None:
    write(tmp_path, {"a.warc": warc(page()), "b.jsonl": b'{"id": "b", "more": [1]}\n'})
    evolving = make_contract({**COLUMNS, "status": {"type": "int"}}, evolution={"added": "evolve", "missing": "null"})
    found = [(row["url"], row["_added"]) for row in rows(mixed(), tmp_path, evolving)]
    assert found == [("http://a/", None), ("b", [("more", "[1]")])]


def test_a_file_that_no_part_takes_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"a.jsonl": LINE, "b.warc.wat.gz": b"", "c.md": b"", "d.tmp": b"", "_e/f.html": b"", ".g": b""})
    expected = "SourceError ingest: expected files that a part of the source takes (.warc, .wet, .jsonl, .json; .gz, .bz2, .zst, .zip may follow); found {}. Add a part, give a part these suffixes, move the files away, or name their endings in source.ignore."
    assert failure(mixed(), tmp_path) == expected.format("b.warc.wat.gz, c.md")
    assert failure(mixed(ignore=[".md"]), tmp_path) == expected.format("b.warc.wat.gz")
    assert count(rows(mixed(ignore=[".md", ".wat.gz"]), tmp_path)) == {"good": 1}
    write(tmp_path, {f"{number}.html": b"" for number in range(5)})
    assert failure(mixed(ignore=[".md", ".wat.gz"]), tmp_path) == expected.format("0.html, 1.html, 2.html and 2 more")


def test_what_one_part_refuses_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"a.jsonl": LINE, "b.warc.gz": gzip.compress(warc(page()))[:-9]})
    assert failure(mixed(), tmp_path) == (
        "SourceError ingest: expected a whole file at b.warc.gz; found that it is damaged (Compressed file ended before the end-of-stream marker was reached). Fetch it again, then run the night again."
    )
    (tmp_path / "b.warc.gz").unlink()
    strict = make_contract({**COLUMNS, "status": {"type": "int"}})
    write(tmp_path, {"a.jsonl": b'{"id": "b", "text": "b", "score": 1, "x": 2}\n'})
    assert failure(mixed(), tmp_path, strict) == (
        "ContractError ingest: expected the columns id, text, score in a.jsonl; found also x. Add them to the contract tiny_raw, or let its evolution.added quarantine such rows."
    )


def test_columns_that_a_format_does_not_have(tmp_path: Path) -> None:
    write(tmp_path, {"a.warc": warc(page())})
    wrong = mixed({"format": "warc", "mapping": {"url": "url", "payload": "html"}})
    assert failure(wrong, tmp_path) == (
        "ContractError ingest: expected columns among uri, date, content_type, status, payload, language, record_id, digest in tiny_raw; found url too. Mend the contract, or name its columns so."
    )
    binary = make_contract({**COLUMNS, "html": {"type": "binary"}, "status": {"type": "int"}})
    assert failure(mixed(), tmp_path, binary) == (
        "ContractError ingest: expected the column html of tiny_raw to be string, since a mixed source gives texts; found binary. Mend the contract, or read the warc files by a source of their own."
    )


def test_two_parts_for_one_ending() -> None:
    with pytest.raises(ConfigError) as caught:
        source(WET, JSONL, {"format": "json", "mapping": {"text": "text"}})
    assert str(caught.value) == (
        "config: expected one part of source.parts for each ending; found .json in the parts jsonl and json. Say with suffixes which endings each of them takes."
    )


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"format": "warc", "mapping": {"uri": "url", "digest": "url"}}, "found mapping fills url twice. Mend it there."),
        ({"format": "warc", "mapping": {"uri": None}}, "found mapping fills no column of the contract. Mend it there."),
        ({"format": "warc"}, "expected 'parts.0.mapping' in a test; found nothing. Add it."),
        ({**WET, "record_byte": 1}, "expected known keys in a test; found 'parts.0.record_byte'. Did you mean 'record_bytes'?"),
        ({**WET, "path": "/y"}, "expected known keys in a test; found 'parts.0.path'."),
        ({**WET, "format": "wat"}, "to be 'csv', 'jsonl', 'json', 'text', 'warc' or 'wet'; found 'wat'."),
    ],
)
def test_parts_that_are_refused(part: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mixed(part)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "part", "message"),
    [
        (
            COLUMNS,
            {**WET, "mapping": {"payload": "txt"}},
            "config: expected source.parts, wet to name columns of the contract tiny_raw; found 'txt'. Did you mean 'text'?",
        ),
        (
            {**COLUMNS, "url": {"type": "string", "nullable": False}},
            {**WET, "mapping": {"payload": "text"}},
            "config: expected source.parts, wet to name all columns of tiny_raw that cannot be NULL; found no url. Name them in its mapping, or let tiny_raw make them nullable.",
        ),
        (
            {**COLUMNS, "links": {"type": "array<string>"}},
            WET,
            "contract: expected simple types in mixed; found links is array<string>. Make it a string, and parse it later.",
        ),
    ],
)
def test_parts_and_a_contract_that_do_not_fit(columns: dict[str, Any], part: dict[str, Any], message: str) -> None:
    config = PipelineConfig.model_validate(
        pipeline_values(
            source=values(part),
            split={"key": ["text"], "seed": 7, "fractions": {"train": 0.9, "validation": 0.1}},
            features=[{"column": "text", "encode": "words"}],
            label=None,
            model=None,
        )
    )
    with pytest.raises(MillraceError) as caught:
        check_pipeline(config, make_contract(columns))
    assert str(caught.value) == message


def test_where_the_files_lie_is_no_part_of_what_they_mean() -> None:
    def meaning(config: MixedSource) -> str:
        return hash_of(config.model_dump(mode="json", exclude={"path"}))

    assert meaning(mixed(path="/y")) == meaning(mixed())
    assert meaning(mixed(WARC, WET)) != meaning(mixed())
    assert yaml.safe_load(yaml.safe_dump(mixed().model_dump(mode="json")["parts"][1])) == {
        **WET,
        "record_bytes": 64 * 1024**2,
        "total_bytes": 64 * 1024**3,
    }


def test_by_spark(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path, {"a.warc": warc(page()), "b.jsonl": LINE + b"[]\n"})
    own = source()
    paths = own.find(str(tmp_path))
    own.check(paths, CONTRACT)
    found = own.rows(spark, paths, CONTRACT).orderBy("_source_file", "_rule")
    expected = [
        ("http://a/", "<p>mill</p>", None, "200", paths[0], None, None, None),
        ("http://b/", None, "b", None, paths[1], None, None, None),
        (None, None, None, None, paths[1], "not_an_object", "a JSON value that is no object", "[]"),
    ]
    schema = (
        "url string, html string, text string, status string, _source_file string, _rule string, _reason string, _record string"
    )
    assertDataFrameEqual(found, spark.createDataFrame(expected, schema), checkRowOrder=True)
    assert own.rules == tuple(dict.fromkeys(own.rules))
    with pytest.raises(SourceError):
        own.check([*paths, "/x/c.html"], CONTRACT)
