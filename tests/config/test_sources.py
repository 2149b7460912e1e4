"""Options of sources that are refused when a pipeline is read."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from millrace.config.sources import CsvSource, SourceConfig


def parse(**values: Any) -> Any:
    """A `source` section."""
    return TypeAdapter(SourceConfig).validate_python(
        {"name": "tiny", "path": "/x", "schema": "tiny_raw", "format": "csv", **values}
    )


def test_white_space_is_kept_where_it_means_something() -> None:
    source = parse(delimiter="\t", null_values=["", " NA "])
    assert isinstance(source, CsvSource)
    assert (source.delimiter, source.null_values, source.quote) == ("\t", ("", " NA "), '"')


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8-sig", "gbk", "GB18030", "big5", "latin-1", "cp1252", "utf-16", "shift_jis"])
def test_encodings(encoding: str) -> None:
    assert parse(encoding=encoding).encoding == encoding


@pytest.mark.parametrize("encoding", ["klingon", "base64", "rot13", "zlib", "utf-7", "unicode_escape", "idna", ""])
def test_encodings_that_are_refused(encoding: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse(encoding=encoding)
    assert f"'{encoding}' is no text encoding that Python knows, such as utf-8, gb18030, latin-1" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"delimiter": '"'}, "delimiter and quote differ, and neither is a line end"),
        ({"delimiter": "\n"}, "delimiter and quote differ, and neither is a line end"),
        ({"quote": "\r"}, "delimiter and quote differ, and neither is a line end"),
        ({"delimiter": ",,"}, "String should have at most 1 character"),
        ({"delimiter": " ", "skip_spaces": True}, "skip_spaces does not go with a space as the delimiter"),
        ({"columns": ["a", "a"]}, "columns names one twice"),
        ({"columns": ["a"], "rename": {"b": "a"}}, "rename goes with a header line; columns says that there is none"),
        ({"header": False}, "Extra inputs are not permitted"),
        ({"suffixes": ["csv"]}, "String should match pattern"),
        ({"max_row_bytes": 10}, "Input should be greater than or equal to 1024"),
        (
            {"format": "text", "labels": {"column": "a", "pattern": "("}},
            "'(' is no regular expression: missing ), unterminated subpattern at position 0",
        ),
        ({"format": "text", "labels": {"column": "a", "pattern": "a"}}, "'a' has 0 groups where it should have one, the label"),
        ({"format": "jsonl", "max_document_bytes": 2048}, "Extra inputs are not permitted"),
    ],
)
def test_options_that_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse(**values)
    assert message in str(caught.value)
