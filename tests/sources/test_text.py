"""Plain text: lines, paragraphs, files, and labels from names."""

# ruff: noqa: E501 (whole messages)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from millrace.errors import ContractError
from millrace.sources.encodings import Encoding
from millrace.sources.text import Labels, TextOptions, TextReader
from tests.factories import make_contract, write_file

CONTRACT = make_contract({"text": {"type": "string"}, "line_number": {"type": "bigint"}})
CONTENT = "\ufeffa\r\nb \n\n \nc\rd\n\n\n\ne"


def rows_of(path: str, options: TextOptions, contract: Any = CONTRACT) -> list[tuple[str | None, ...]]:
    """The contract's columns of each row."""
    reader = TextReader(options)
    reader.check(path, contract)
    rows = [row for batch in reader.read(path, contract) for row in batch.to_pylist()]
    return [tuple(row[name] for name in contract.columns) for row in rows]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("line", [("a", "1"), ("b ", "2"), ("c", "5"), ("d", "6"), ("e", "10")]),
        ("paragraph", [("a\r\nb ", "1"), ("c\rd", "5"), ("e", "10")]),
        ("file", [(CONTENT.removeprefix("\ufeff"), "1")]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "gb18030"])
def test_units(tmp_path: Path, unit: Any, expected: list[tuple[str, str]], encoding: str) -> None:
    path = write_file(tmp_path / "a.txt.gz", CONTENT.encode(encoding))
    assert rows_of(path, TextOptions(unit=unit, encoding=Encoding(encoding))) == expected


def test_a_row_per_file_even_if_it_is_empty(tmp_path: Path) -> None:
    assert rows_of(write_file(tmp_path / "a.txt", ""), TextOptions(unit="file")) == [("", "1")]
    assert rows_of(write_file(tmp_path / "b.txt", " \n"), TextOptions(unit="file")) == [(" \n", "1")]


def test_labels_from_names(tmp_path: Path) -> None:
    contract = make_contract({"label": {"type": "string"}, "text": {"type": "string"}})
    options = TextOptions(labels=Labels("label", r"[.](pos|neg)$"))
    for label in ("pos", "neg"):
        assert rows_of(write_file(tmp_path / f"a.{label}", "x\n"), options, contract) == [(label, "x")]


def test_columns_that_text_does_not_have(tmp_path: Path) -> None:
    contract = make_contract({"text": {"type": "string"}, "label": {"type": "string"}})
    with pytest.raises(ContractError) as caught:
        TextReader().check(write_file(tmp_path / "a.txt", "x\n"), contract)
    assert str(caught.value) == (
        "ingest: expected no columns in tiny_raw but text, line_number; found label. Mend the contract, or give the source labels."
    )
