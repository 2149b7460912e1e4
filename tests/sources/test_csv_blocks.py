"""Arrow's parser and Python's give the same rows, wherever a file is cut."""

from __future__ import annotations

import csv as python_csv
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from millrace.errors import MillraceError
from millrace.sources import blocks, csv, csv_parts
from millrace.sources.csv_blocks import has_plain_quotes, is_plain
from millrace.sources.csv_dialect import RFC_4180, Dialect
from millrace.sources.csv_parts import Part, parts
from tests.factories import make_contract

CONTRACT = make_contract({"a": {"type": "string"}, "b": {"type": "string"}})
PIECES = ["a", "é", "好", " ", ",", ",", "\n", "\n", "\r\n", "\r", '"', '""', '",', ',"', "NA", "\t", "\0", "\ufeff", "\u2028"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
LINES = st.lists(
    st.lists(st.sampled_from(["", "x", "NA", '"q, r"', '"d""e"', "é"]), min_size=1, max_size=3).map(",".join), max_size=9
)
DIALECTS = st.builds(
    Dialect,
    delimiter=st.sampled_from([",", "\t"]),
    quote=st.sampled_from(['"', None]),
    columns=st.just(("a", "b")),
    null_values=st.sampled_from([("",), ("", "NA"), ()]),
    skip_spaces=st.booleans(),
    max_row_bytes=st.sampled_from([20, 1000]),
)


def outcome(path: str, dialect: Dialect, units: Sequence[Part] | None = None) -> Any:
    """All rows, or the error."""
    try:
        read = [batch for part in units or [Part(path)] for batch in csv.read_part(part, CONTRACT, dialect)]
    except MillraceError as error:
        return str(error)
    return [tuple(row.values()) for batch in read for row in batch.to_pylist()]


def both(content: bytes, dialect: Dialect) -> tuple[Any, Any]:
    """By Arrow where it can, with a file in small blocks; by Python alone, in one block."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/a.csv"
        Path(path).write_bytes(content)
        with mock.patch.object(blocks, "_PIECE_BYTES", 7):
            fast = outcome(path, dialect)
        with mock.patch.object(csv, "parse", lambda *_, **__: None):
            return fast, outcome(path, dialect)


@settings(max_examples=60, deadline=None)
@given(content=st.one_of(TEXTS, LINES.map("\n".join)), dialect=DIALECTS)
@example(content="\ufeffx,y\n\ufeffx,y\n", dialect=Dialect(columns=("a", "b")))
@example(content='x,"y\nz,"w"', dialect=Dialect(columns=("a", "b")))
@example(content="x,y\n" + "x" * 70 + ",y\nx,y\n", dialect=Dialect(columns=("a", "b"), max_row_bytes=20))
def test_two_parsers_one_result(content: str, dialect: Dialect) -> None:
    fast, slow = both(content.encode(), dialect)
    assert fast == slow


@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=40).map(lambda data: b"x,y\n" + data + b"\nx,y\n"))
def test_any_bytes(content: bytes) -> None:
    fast, slow = both(content, Dialect(columns=("a", "b")))
    assert fast == slow


@settings(max_examples=40, deadline=None)
@given(content=st.one_of(TEXTS, LINES.map("\n".join)))
def test_rows_are_those_of_pythons_csv(content: str) -> None:
    fast, _ = both(content.encode(), Dialect(columns=("a", "b"), null_values=()))
    rows = [row for row in python_csv.reader(io.StringIO(content.removeprefix("\ufeff"), newline="")) if row]
    if isinstance(fast, str):
        assert fast.endswith("(it ends within a quoted field). Fetch it again, then run the night again.")
        return
    assert [len(rows), *([list(row[:2]) for row in fast if row[3] is None])] == [
        len(fast),
        *(row for row in rows if len(row) == 2),
    ]


@settings(max_examples=40, deadline=None)
@given(content=st.one_of(TEXTS, LINES.map("\n".join)), quote=st.sampled_from(['"', None]))
def test_a_file_in_parts_is_the_whole_file(content: str, quote: str | None) -> None:
    dialect = Dialect(quote=quote)
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/a.csv"
        Path(path).write_bytes(b"b,a\n" + content.encode())
        with mock.patch.object(csv_parts, "PART_BYTES", 8), mock.patch.object(csv_parts, "_READ_BYTES", 16):
            cut = parts(path, dialect)
        assert [part.start for part in cut[1:]] == [part.end for part in cut[:-1]]
        assert (cut[0].start, cut[-1].end) == (0, None)
        assert outcome(path, dialect, cut) == outcome(path, dialect)


def test_big_files_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_parts, "PART_BYTES", 100)
    monkeypatch.setattr(csv_parts, "_READ_BYTES", 64)
    rows = "".join(f'{number},"x, y"\n' for number in range(100))
    for name, content, num_parts in [
        ("a.csv", "a,b\n" + rows, 8),
        ("b.csv", "a,b\n" + rows.replace("\n", "\r\n"), 8),
        ("c.csv", "a,b\n" + rows[:540] + '1,"x\ny"\n' + rows[540:], 5),  # a line end within a field: the rest is one part
        ("d.csv.gz", "a,b\n" + rows, 1),
        ("e.csv", "a,b\n", 1),
    ]:
        path = tmp_path / name
        path.write_text(content, newline="")
        found = parts(str(path), RFC_4180)
        assert (name, len(found)) == (name, num_parts)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"a,b\n", True),
        (b'"a","b"\n"c",d\n', True),
        (b'"a ""b""",c\r\n"",""\r\n', True),
        (b'""\n""""\n', True),
        (b'"a\nb",c\n', False),
        (b'5" pipe,6" pipe\n', False),
        (b'"a"b,c\n', False),
        (b'"a,b\n', False),
        (b' "a",b\n', False),
        (b'a, "b"\n', False),
        (b'"a" ,b\n', False),
    ],
)
def test_plain_quotes(block: bytes, expected: bool) -> None:
    assert has_plain_quotes(block, '"', ",") is expected
    assert is_plain(block, RFC_4180) is expected
    assert is_plain(block, Dialect(quote=None))
