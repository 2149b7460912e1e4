"""CSV: every row is read, or named with what is wrong with it; a damaged file ends the night with one error."""

# ruff: noqa: E501 (whole messages)

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from millrace.contracts.table import TableContract
from millrace.errors import ContractError, MillraceError, SourceError
from millrace.sources import csv
from tests.factories import make_contract, write_file

CONTRACT = make_contract()
ADDED = make_contract(evolution={"added": "quarantine"})


def rows_of(path: str, contract: TableContract = CONTRACT) -> list[tuple[str | None, ...]]:
    """id, name, rule, reason, record of each row."""
    csv.check(path, contract)
    names = ("id", "name", "_rule", "_reason", "_record")
    found = [row for batch in csv.read(path, contract) for row in batch.to_pylist()]
    assert all(row["_source_file"] == path for row in found)
    return [tuple(row[name] for name in names) for row in found]


def good(*rows: tuple[str | None, str | None]) -> list[tuple[str | None, ...]]:
    return [(*row, None, None, None) for row in rows]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("id,name\n1,a\n2,b\n", good(("1", "a"), ("2", "b"))),
        ("id,name\n1,a", good(("1", "a"))),  # no newline at the end
        ("\ufeffid,name\r\n1,a\r\n", good(("1", "a"))),
        ('id,name\n1,"a, ""b""\nc"\n2,d\n', good(("1", 'a, "b"\nc'), ("2", "d"))),
        ('id,name\r\n1,"a\r\nb"\r\n', good(("1", "a\r\nb"))),
        ("name,id\na,1\n", good(("1", "a"))),  # by name, in any order
        ("id,name\n1,\n,\n", good(("1", None), (None, None))),
        ("id,name\n\n1,a\n\n\n", good(("1", "a"))),
        ("id,name\n1,ü→\U0001f600\n", good(("1", "ü→\U0001f600"))),
        ('id,name\n1,5" pipe\n', good(("1", '5" pipe'))),
        ("id,name\n", []),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_whole_rows(tmp_path: Path, content: str, rows: list[tuple[str | None, ...]], suffix: str) -> None:
    assert rows_of(write_file(tmp_path / f"a{suffix}", content)) == rows


def test_broken_rows_are_named_and_kept_as_text(tmp_path: Path) -> None:
    content = b'id,name\n1\n2,b,c\n3,"x,\ny",z\n4,\xff\n5,e\n'
    assert rows_of(write_file(tmp_path / "a.csv", content)) == [
        (None, None, "too_few_fields", "1 fields where the header has 2", "1"),
        (None, None, "too_many_fields", "3 fields where the header has 2", "2,b,c"),
        (None, None, "too_many_fields", "3 fields where the header has 2", '3,"x,\ny",z'),
        (None, None, "not_utf8", "bytes that are no UTF-8", "4,\\udcff"),
        ("5", "e", None, None, None),
    ]


def test_a_column_that_was_added(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.csv", "id,name,extra\n1,a,x\n2,b\n")
    assert rows_of(path, ADDED) == [
        (None, None, "column_added", "the file has columns that the contract does not have: extra", "1,a,x"),
        (None, None, "too_few_fields", "2 fields where the header has 3", "2,b"),
    ]
    with pytest.raises(ContractError) as caught:
        csv.check(path, CONTRACT)
    assert str(caught.value) == (
        f"ingest: expected the columns id, name in {path}; found also extra. "
        "Add them to the contract tiny_raw, or let its evolution.added quarantine such files."
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "id\n1\n",
            "expected the columns id, name in FILE; found no name in its first line. Mend the file, or the contract tiny_raw, or let its evolution.missing be null or quarantine such files.",
        ),
        (
            "",
            "expected the columns id, name in FILE; found no id, name in its first line. Mend the file, or the contract tiny_raw, or let its evolution.missing quarantine such files.",
        ),
        ("id,name,id\n", "expected each column once in FILE; found id, name, id. Mend the file's first line."),
    ],
)
def test_headers_that_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = write_file(tmp_path / "a.csv", content)
    with pytest.raises(ContractError) as caught:
        csv.check(path, CONTRACT)
    assert str(caught.value).replace(path, "FILE") == f"ingest: {message}"


def test_a_truncated_gz(tmp_path: Path) -> None:
    data = gzip.compress(b"id,name\n" + b"".join(b"%d,%d\n" % (number, number**7) for number in range(5_000)))
    path = str(tmp_path / "a.csv.gz")
    Path(path).write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError) as caught:
        rows_of(path)
    assert str(caught.value) == (
        f"ingest: expected a whole file at {path}; found that it is damaged (Compressed file ended before the end-of-stream "
        "marker was reached). Fetch it again, then run the night again."
    )


@pytest.mark.parametrize("content", ["no gzip at all", b"\x1f\x8b\x08\x00garbage garbage garbage"])
def test_what_is_no_gz(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SourceError, match="that it is damaged"):
        rows_of(str(path))


@pytest.mark.parametrize("content", ['id,name\n1,"a\n2,b\n3,c\n', 'id,name\n1,a\n2,"b'])
def test_a_quote_that_is_never_closed_swallows_no_rows(tmp_path: Path, content: str) -> None:
    path = write_file(tmp_path / "a.csv", content)
    with pytest.raises(MillraceError) as caught:
        rows_of(path)
    assert str(caught.value) == (
        f"ingest: expected a whole file at {path}; found that it is damaged (it ends within a quoted field). "
        "Fetch it again, then run the night again."
    )


def test_rows_come_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv, "_BATCH_ROWS", 3)
    path = write_file(tmp_path / "a.csv", "id,name\n" + "".join(f"{number},x\n" for number in range(7)))
    assert [batch.num_rows for batch in csv.read(path, CONTRACT)] == [3, 3, 1]
