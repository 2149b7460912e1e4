"""JSON objects as rows of text, by RFC 8259 and no further: numbers keep their own text, what has no meaning is named.

Python's parser is asked for pieces of text instead of numbers, so that 2^63, 1e400 and long decimals reach the caster as they are
written. What it takes and JSON does not have (NaN, a key twice, half a surrogate pair) becomes a rule that the row breaks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from millrace.sources.encodings import Encoding, has_marks, shown
from millrace.sources.gather import Verdict

MAX_DEPTH = 64
"""Objects and arrays within each other, the row itself counted."""
RULES = (
    *("not_json", "not_an_object", "duplicate_key", "lone_surrogate", "too_deep"),
    *("column_added", "column_missing", "line_too_long"),
)
_SPACE = re.compile(r"[ \t\n\r]*")
_TOO_DEEP = ("too_deep", f"nested more than {MAX_DEPTH} deep")


class BrokenRowError(Exception):
    """A row that breaks a rule."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(*verdict)
        self.verdict = verdict


class _Number(str):
    """A number's text."""


@dataclass(frozen=True)
class _Wrong:
    """Stands where Python's parser has taken what is no JSON, or no one thing."""

    verdict: Verdict


def _object(pairs: list[tuple[str, Any]]) -> Any:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
    return _Wrong(("duplicate_key", f"the key '{shown(twice)}' more than once in an object"))


DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_float=_Number,
    parse_int=_Number,
    parse_constant=lambda name: _Wrong(("not_json", f"{name}, which is no JSON")),
)
"""Gives what `row_of` takes."""


def parse_line(text: str, encoding: Encoding) -> Any:
    """The value of a text that is one JSON value. Raises BrokenRowError."""
    if has_marks(text):
        raise BrokenRowError((encoding.rule, encoding.reason))
    try:
        return DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise BrokenRowError(("not_json", f"{error.msg} at character {error.pos + 1}")) from None
    except RecursionError:
        raise BrokenRowError(_TOO_DEEP) from None


def elements(text: str) -> Iterator[tuple[Any, str]]:
    """The elements of a document's array, or the document if it is one object, each with its text.

    Raises json.JSONDecodeError where it is broken, RecursionError where it is nested a thousand deep.
    """
    place = _behind_space(text, 0)
    if text.startswith("{", place):
        value, end = DECODER.raw_decode(text, place)
        _refuse_more(text, end)
        yield value, text[place:end]
        return
    if not text.startswith("[", place):
        raise json.JSONDecodeError("Expecting an array or an object", text, place)
    place = _behind_space(text, place + 1)
    is_open = not text.startswith("]", place)
    while is_open:
        value, end = DECODER.raw_decode(text, place)
        yield value, text[place:end]
        place = _behind_space(text, end)
        is_open = text.startswith(",", place)
        if is_open:
            place = _behind_space(text, place + 1)
    if not text.startswith("]", place):
        raise json.JSONDecodeError("Expecting ',' delimiter", text, place)
    _refuse_more(text, place + 1)


def row_of(value: Any, rename: Mapping[str, str]) -> dict[str, str | None]:
    """The values of an object as text, by the columns' names; null is None. Raises BrokenRowError."""
    if isinstance(value, _Wrong):
        raise BrokenRowError(value.verdict)
    if not isinstance(value, dict):
        raise BrokenRowError(("not_an_object", "a JSON value that is no object"))
    found: dict[str, str | None] = {}
    for key, inner in value.items():
        name = rename.get(key, key)
        if name in found:
            raise BrokenRowError(("duplicate_key", f"two keys for the column '{shown(name)}'"))
        found[_whole(name)] = _column(inner)
    return found


def _column(value: Any) -> str | None:
    if value is None:
        return None
    return _whole(str(value)) if isinstance(value, str) else _text(value, 2)


def _text(value: Any, depth: int) -> str:
    """Compact JSON, numbers as they were written. `depth` counts the objects and arrays around and with this one."""
    match value:
        case _Wrong():
            raise BrokenRowError(value.verdict)
        case _Number():
            return str(value)
        case str():
            return json.dumps(_whole(value), ensure_ascii=False)
        case None | True | False:
            return {None: "null", True: "true", False: "false"}[value]
    if depth > MAX_DEPTH:
        raise BrokenRowError(_TOO_DEEP)
    if isinstance(value, list):
        return f"[{','.join(_text(inner, depth + 1) for inner in value)}]"
    return "{" + ",".join(f"{_text(str(key), depth)}:{_text(inner, depth + 1)}" for key, inner in value.items()) + "}"


def _whole(text: str) -> str:
    if has_marks(text):
        raise BrokenRowError(("lone_surrogate", "half of a surrogate pair, which is no character"))
    return text


def _behind_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return place if found is None else found.end()


def _refuse_more(text: str, place: int) -> None:
    if (end := _behind_space(text, place)) != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
