"""JSON: values reach the caster as they were written."""

from __future__ import annotations

import json as python_json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.sources.encodings import Encoding
from millrace.sources.json import JsonLinesReader, JsonOptions, JsonReader
from millrace.sources.json_values import BrokenRowError, elements, parse_line, row_of
from tests.factories import make_contract, write_file

CONTRACT = make_contract({"a": {"type": "string"}, "b": {"type": "string"}}, evolution={"missing": "null"})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def value_of(text: str) -> str | None:
    """What becomes of a JSON value in a column."""
    return row_of(parse_line(f'{{"a": {text}}}', Encoding()), {})["a"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"é \\u00e9 \\ud83d\\ude00 \\n"', "é é \U0001f600 \n"),
        ('""', ""),
        ('"null"', "null"),
        ("null", None),
        ("true", "true"),
        ("false", "false"),
        ("9223372036854775808", "9223372036854775808"),
        ("-0", "-0"),
        ("1e400", "1e400"),
        ("1E+2", "1E+2"),
        ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        ("1" * 5_000, "1" * 5_000),
        ("[]", "[]"),
        ('[1.50, "a\\"é", null, {"b": [true, 1e400]}]', '[1.50,"a\\"é",null,{"b":[true,1e400]}]'),
    ],
)
def test_values(text: str, expected: str | None) -> None:
    assert value_of(text) == expected


@settings(max_examples=60, deadline=None)
@given(value=JSON)
def test_nested_values_are_the_same_json(value: Any) -> None:
    assert python_json.loads(str(value_of(python_json.dumps([value])))) == [value]


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.dictionaries(st.text(), JSON, max_size=2), max_size=4), indent=st.sampled_from([None, 1]))
def test_elements_are_those_of_pythons_json(values: list[dict[str, Any]], indent: int | None) -> None:
    text = python_json.dumps(values, indent=indent)
    assert [python_json.loads(element) for _, element in elements(text)] == values


@pytest.mark.parametrize("size", [10, 200_000])
def test_an_object_with_a_key_twice_costs_no_time(size: int) -> None:
    text = "{" + ",".join(f'"{number}": 1' for number in range(size)) + ', "0": 1}'
    with pytest.raises(BrokenRowError) as caught:
        row_of(parse_line(text, Encoding()), {})
    assert caught.value.verdict == ("duplicate_key", "the key '0' more than once in an object")


def test_rows_of_lines_and_of_documents(tmp_path: Path) -> None:
    options = JsonOptions(rename=(("a.b", "b"),))
    expected = [
        {"a": "1", "b": None, "_rule": None, "_reason": None, "_record": None},
        {"a": None, "b": '{"c":1.0}', "_rule": None, "_reason": None, "_record": None},
        {"a": None, "b": None, "_rule": "not_json", "_reason": "NaN, which is no JSON", "_record": '{"a": NaN}'},
        {
            "a": None,
            "b": None,
            "_rule": "duplicate_key",
            "_reason": "two keys for the column 'b'",
            "_record": '{"b": 1, "a.b": 2}',
        },
    ]
    rows = ['{"a": 1}', '{"a": null, "a.b": {"c": 1.0}}', '{"a": NaN}', '{"b": 1, "a.b": 2}']
    lines = write_file(tmp_path / "a.jsonl.gz", "\ufeff" + "\r\n\n".join(rows))
    document = write_file(tmp_path / "a.json.gz", "\ufeff [" + " ,\n".join(rows) + "]\n")
    for path, reader in [(lines, JsonLinesReader(options)), (document, JsonReader(options))]:
        reader.check(path, CONTRACT)
        found = [row for batch in reader.read(path, CONTRACT) for row in batch.to_pylist()]
        assert found == [{**row, "_source_file": path} for row in expected]


def test_one_object_is_a_document(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.json", ' {"a": "x"}\n')
    assert [row["a"] for batch in JsonReader().read(path, CONTRACT) for row in batch.to_pylist()] == ["x"]


def test_what_is_broken_is_named_with_its_place(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.jsonl", '{"a": 1,}\n')
    (row,) = next(JsonLinesReader().read(path, CONTRACT)).to_pylist()
    assert (row["_rule"], row["_reason"]) == (
        "not_json",
        "Expecting property name enclosed in double quotes at character 9",
    )
