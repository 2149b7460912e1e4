"""The error tree, and an error's way through pickles and through Spark's tracebacks."""

from __future__ import annotations

import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from millrace import errors
from millrace.errors import ConfigError, GateError, LakeError, MillraceError, SourceError, WireError, find_in

KINDS = MillraceError.__subclasses__()
# Surrogates are no text, but raw bytes that are no UTF-8 come as such.
texts = st.text(alphabet=st.characters(exclude_categories=[]), max_size=60)


def make(kind: type[MillraceError] = LakeError, *, retry: bool = False) -> MillraceError:
    return kind("lake", expected='a "quoted" path', found="it's ünïcode → \\ and\na line", remedy="Do <this>.", retry=retry)


def test_tree_is_what_the_docstring_draws() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert drawn == [kind.__name__ for kind in KINDS]
    assert all(kind.__bases__ == (MillraceError,) for kind in KINDS)


def test_message_says_stage_expected_found_and_remedy() -> None:
    error = ConfigError("config", expected="a number", found="'ten'", remedy="Mend it.")
    assert str(error) == "config: expected a number; found 'ten'. Mend it."


@pytest.mark.parametrize("kind", KINDS)
def test_exit_codes(kind: type[MillraceError]) -> None:
    assert make(kind).exit_code == (3 if kind is GateError else 2)
    assert make(kind, retry=True).exit_code == 1


@pytest.mark.parametrize("kind", [*KINDS, MillraceError])
@pytest.mark.parametrize("retry", [False, True])
def test_pickle_and_wire_keep_everything(kind: type[MillraceError], retry: bool) -> None:
    error = make(kind, retry=retry)
    for copy in (pickle.loads(pickle.dumps(error)), find_in(f"Traceback …\n  {error.to_wire()}\n\tat org.apache")):  # noqa: S301
        assert type(copy) is kind
        assert vars(copy) == vars(error)
        assert str(copy) == str(error)


@given(texts, texts, texts, texts)
def test_wire_is_one_line_of_ascii_whatever_the_words(stage: str, expected: str, found: str, remedy: str) -> None:
    error = SourceError(stage, expected=expected, found=found, remedy=remedy)
    wire = error.to_wire()
    assert wire.isascii()
    assert wire.isprintable()
    if ":millrace-error>>" not in stage + expected + found + remedy:
        assert vars(find_in(f"before {wire} after {wire}") or error) == vars(error)


@pytest.mark.parametrize(
    "text", ["", "no error", "<<millrace-error:[1, 2]:millrace-error>>", "<<millrace-error:{:millrace-error>>"]
)
def test_nothing_is_found_where_there_is_none(text: str) -> None:
    assert find_in(text) is None


def test_an_executors_error_arrives_whole(spark: SparkSession) -> None:
    error = make(SourceError, retry=True)

    def fail(batches: object) -> object:
        raise WireError(error)

    with pytest.raises(Exception, match="millrace-error") as caught:
        spark.range(1).mapInArrow(fail, "id long").collect()
    found = find_in(str(caught.value))
    assert type(found) is SourceError
    assert vars(found) == vars(error)
