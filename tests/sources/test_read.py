"""Which files a path means, the samples, and sources as Spark reads them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from pyspark.sql import SparkSession
from pyspark.testing import assertDataFrameEqual

from millrace.config.places import Places
from millrace.config.sources import CsvSource, IdxSource, SourceConfig
from millrace.contracts.table import load_contract
from millrace.errors import SourceError, find_in
from millrace.lake.ledger import RawFile
from millrace.sources import csv
from millrace.sources.files import identify, list_files
from millrace.sources.read import source_of
from millrace.sources.samples import write_digits
from tests.factories import idx_images, idx_labels, make_contract, write_file

CSV = source_of(CsvSource.model_validate({"name": "tiny", "format": "csv", "path": "/x", "schema": "tiny_raw"}))
IDX = source_of(IdxSource.model_validate({"name": "tiny", "format": "idx", "path": "/x", "schema": "tiny_raw"}))


def test_files(tmp_path: Path) -> None:
    root = tmp_path / ".hidden" / "raw"  # what the user has named is not judged
    for name in ("b.csv", "a.csv.gz", "deep/c.csv", "_d.csv", ".e.csv", "f.csv.tmp", "g.txt", "_temporary/0/h.csv"):
        write_file(root / name, "id,name\n")

    def found(path: str) -> list[str]:
        return [name.removeprefix(f"{root}/") for name in list_files(path, csv.SUFFIXES)]

    assert found(str(root)) == ["a.csv.gz", "b.csv", "deep/c.csv"]
    assert found(f"{root}/*.csv") == ["b.csv"]
    assert found(f"{root}/g.txt") == ["g.txt"]
    assert found(f"{root}/none") == []
    assert CSV.find(str(root)) == list_files(str(root), csv.SUFFIXES)


@pytest.mark.parametrize(
    ("names", "path", "found"),
    [
        (("a.csv", "b.csv.br"), "", "b.csv.br"),
        (("a.csv", "c/d.csv.xz", "c/e.csv.zstd"), "", "c/d.csv.xz, and 1 more"),
        (("a.csv", "b.csv.gz.gz"), "", "b.csv.gz.gz"),
        (("a.csv.lz4",), "a.csv.lz4", "a.csv.lz4"),
        (("a.csv", "b.7z"), "*", "b.7z"),
    ],
)
def test_files_that_are_compressed_otherwise_are_not_passed_over(
    tmp_path: Path, names: tuple[str, ...], path: str, found: str
) -> None:
    for name in (*names, "_c.csv.br", "notes.br" if not path else "_notes.br"):
        write_file(tmp_path / name, "x")
    with pytest.raises(SourceError) as caught:
        CSV.find(str(tmp_path / path))
    assert str(caught.value) == (
        f"ingest: expected names that end in .csv, .csv.gz, .csv.bz2, .csv.zst, .csv.zip; found {tmp_path}/{found}, "
        "compressed in a way that is not read. "
        "Unpack what is compressed otherwise, compress it as one of these, or move it out of source.path."
    )
    assert not caught.value.retry


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    os.close(os.open(os.fsencode(tmp_path) + b"/\xba\xc3.csv", os.O_CREAT))
    write_file(tmp_path / "good.csv", "a\n1\n")
    with pytest.raises(SourceError) as caught:
        list_files(str(tmp_path), (".csv",))
    assert str(caught.value) == (
        f"ingest: expected names of files in UTF-8; found {tmp_path}/\\udcba\\udcc3.csv. "
        "Rename it, for example with `convmv -f gb18030 -t utf-8`."
    )


def test_files_are_identified_by_content(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.csv.gz", "id\n")
    content = Path(path).read_bytes()
    assert identify([path]) == (RawFile(path, len(content), hashlib.sha256(content).hexdigest()),)
    with pytest.raises(SourceError) as caught:
        identify([f"{path}x"])
    assert str(caught.value) == f"ingest: expected to read {path}x; found No such file or directory. Check its permissions."


def test_csv_by_spark(spark: SparkSession, tmp_path: Path) -> None:
    paths = [write_file(tmp_path / "a.csv", "id,name\n1,a\n2\n"), write_file(tmp_path / "b.csv.gz", "name,id\nc,3\n")]
    CSV.check(paths, make_contract())
    found = CSV.rows(spark, paths, make_contract()).orderBy("_source_file", "id")
    expected = [
        (None, None, paths[0], "too_few_fields", "1 fields where the header has 2", "2"),
        ("1", "a", paths[0], None, None, None),
        ("3", "c", paths[1], None, None, None),
    ]
    schema = "id string, name string, _source_file string, _rule string, _reason string, _record string"
    assertDataFrameEqual(found, spark.createDataFrame(expected, schema), checkRowOrder=True)


def test_one_big_file_by_many_tasks(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millrace.sources.csv_parts.PART_BYTES", 1000)
    monkeypatch.setattr("millrace.sources.csv_parts._READ_BYTES", 500)
    path = write_file(tmp_path / "a.csv", "id,name\n" + "".join(f'{number},"a"\n' for number in range(2000)) + "2000\n")
    rows = CSV.rows(spark, [path], make_contract())
    assert rows.rdd.getNumPartitions() > 4
    found = sorted((int(row["id"] or row["_record"]), row["_rule"]) for row in rows.collect())
    assert found == [*((number, None) for number in range(2000)), (2000, "too_few_fields")]


def test_other_formats_by_spark(spark: SparkSession, tmp_path: Path) -> None:
    write_file(tmp_path / "a.jsonl", '{"id": 1, "name": "a"}\n[]\n')
    write_file(tmp_path / "b.json", '[{"id": 2, "name": null}]')
    write_file(tmp_path / "c.txt", "d\n")
    values = {"name": "tiny", "path": "/x", "schema": "tiny_raw"}
    labels = {"column": "id", "pattern": "(c)[.]txt"}
    found = {}
    for kind, columns, options in [
        ("jsonl", ("id", "name"), {}),
        ("json", ("id", "name"), {}),
        ("text", ("id", "text"), {"labels": labels}),
    ]:
        source = source_of(TypeAdapter(SourceConfig).validate_python({**values, "format": kind, **options}))
        contract = make_contract({name: {"type": "string"} for name in columns})
        paths = source.find(str(tmp_path))
        source.check(paths, contract)
        found[kind] = [(*tuple(row)[:2], row["_rule"]) for row in source.rows(spark, paths, contract).collect()]
    assert found == {
        "jsonl": [("1", "a", None), (None, None, "not_an_object")],
        "json": [("2", None, None)],
        "text": [("c", "d", None)],
    }


def test_a_damaged_file_reaches_the_driver_as_one_error(spark: SparkSession, tmp_path: Path) -> None:
    columns = {"subset": {"type": "string"}, "index": {"type": "int"}, "image": {"type": "binary"}, "digit": {"type": "int"}}
    images = write_file(tmp_path / "t-images-idx3-ubyte", idx_images(2)[:-3])
    labels = write_file(tmp_path / "t-labels-idx1-ubyte", idx_labels([1, 2]))
    rows = IDX.rows(spark, [images, labels], make_contract(columns))
    with pytest.raises(Exception, match="millrace-error") as caught:
        rows.collect()
    error = find_in(str(caught.value))
    assert type(error) is SourceError
    assert str(error) == (
        f"ingest: expected a whole file at {images}; found that it is damaged (it ends 3 bytes early). "
        "Fetch it again, then run the night again."
    )


def test_the_digits_are_written_once(tmp_path: Path) -> None:
    directory = tmp_path / "raw"
    write_digits(str(directory))
    paths = list_files(str(directory), csv.SUFFIXES)
    contract = load_contract("digits_raw", Places.standard())
    CSV.check(paths, contract)
    rows = [row for path in paths for batch in csv.read(path, contract) for row in batch.to_pylist()]
    assert len(rows) == 1_797 + 5
    assert sorted(row["_rule"] for row in rows if row["_rule"]) == ["too_few_fields", "too_many_fields"]
    Path(paths[0]).unlink()
    write_digits(str(directory))
    assert list_files(str(directory), csv.SUFFIXES) == paths[1:]  # somebody's files are there: nothing is added
