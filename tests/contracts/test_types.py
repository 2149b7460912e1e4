"""Type names: parsed, printed again, and what they mean to Arrow and Spark."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql.pandas.types import to_arrow_type
from pyspark.sql.types import StructType, _parse_datatype_string

from millrace.contracts.spark import spark_type
from millrace.contracts.types import DataType, parse_type
from millrace.errors import ConfigError

SIMPLE = ("boolean", "tinyint", "smallint", "int", "bigint", "float", "double", "string", "binary", "date", "timestamp")
names = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)


def _nested(inner: st.SearchStrategy[DataType]) -> st.SearchStrategy[DataType]:
    fields = st.dictionaries(names, inner, min_size=1, max_size=3)
    return st.one_of(
        inner.map(lambda kind: DataType("array", (kind,))),
        st.tuples(inner, inner).map(lambda kinds: DataType("map", kinds)),
        fields.map(lambda found: DataType("struct", tuple(found.values()), tuple(found))),
    )


types = st.recursive(st.sampled_from(SIMPLE).map(DataType), _nested, max_leaves=5)


@given(types, st.sampled_from(["", " ", "\n  "]))
def test_a_printed_type_is_parsed_to_the_same(kind: DataType, blank: str) -> None:
    text = str(kind)
    for sign in "<>,:":
        text = text.replace(sign, f"{blank}{sign}{blank}")
    assert parse_type(text) == kind
    assert pa.types.is_nested(kind.to_arrow()) == bool(kind.inner)


@pytest.mark.parametrize("name", [*SIMPLE, "array<int>", "map<string,double>", "struct<table:string,versions:array<bigint>>"])
def test_spark_and_arrow_mean_the_same(name: str, spark: object) -> None:
    kind = parse_type(name)
    assert spark_type(kind) == _parse_datatype_string(f"x {name}")["x"].dataType  # type: ignore[index]
    expected = to_arrow_type(StructType().add("x", spark_type(kind))["x"].dataType, timestamp_utc=True)
    assert kind.to_arrow().equals(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "integer",
        "big int",
        "array",
        "array<>",
        "array<int",
        "array<int,int>",
        "map<int>",
        "struct<>",
        "struct<int>",
        "int>",
        "int!",
    ],
)
def test_what_is_no_type(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_type(text)
    assert str(caught.value) == (
        f"contract: expected a column type; found '{text}'. Known: {', '.join(SIMPLE)}, array<T>, map<K,V>, struct<name:T,…>."
    )
