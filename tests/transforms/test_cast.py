"""From text to types: what is no value becomes NULL and is named; the job goes on."""

from __future__ import annotations

import datetime
import math

import pytest
from pyspark.sql import SparkSession
from pyspark.sql.types import ArrayType, StringType
from pyspark.testing import assertDataFrameEqual

from millrace.contracts.spark import struct_type
from millrace.transforms.cast import cast_columns, raw_text
from tests.factories import make_contract

UTC = datetime.UTC
CASES = [
    # type, how bytes are written, text, value (None with text: no value of the type)
    ("boolean", None, "true", True),
    ("boolean", None, "maybe", None),
    ("tinyint", None, " 127 ", 127),
    ("tinyint", None, "128", None),
    ("smallint", None, "-32768", -32768),
    ("int", None, "2147483648", None),
    ("int", None, "1.5", None),
    ("int", None, "x", None),
    ("bigint", None, "9223372036854775807", 9223372036854775807),
    ("float", None, "0.5", 0.5),
    ("double", None, "1e-3", 0.001),
    ("double", None, "1,5", None),
    ("double", None, " -1.5E-3 ", -0.0015),
    ("double", None, "-Infinity", -math.inf),
    ("float", None, "inf", math.inf),
    ("string", None, " as it is ", " as it is "),
    ("date", None, "2026-11-22", datetime.date(2026, 11, 22)),
    ("date", None, "22.11.2026", None),
    ("date", None, "10000-01-01", None),
    ("date", None, "0000-01-01", None),
    ("date", None, "2026-11-22T00:00:00.000Z", datetime.date(2026, 11, 22)),
    ("date", None, "2026-11-22 rubbish", None),
    ("date", None, "2026-11-22 12:30:00", None),
    ("date", None, "2026-11-22\n", datetime.date(2026, 11, 22)),
    ("timestamp", None, "2026-11-22 03:04:05", datetime.datetime(2026, 11, 22, 3, 4, 5)),
    ("timestamp", None, "yesterday, three", None),
    ("timestamp", None, "10000-01-01 00:00:00", None),
    ("timestamp", None, "2026-11-22", datetime.datetime(2026, 11, 22)),
    ("timestamp", None, "12:30", None),  # which Spark takes for today's
    ("timestamp", None, "T12:30:00Z", None),
    ("binary", "decimal", " 0  16 255 ", b"\x00\x10\xff"),
    ("binary", "decimal", "0 256", None),
    ("binary", "decimal", "0 -1", None),
    ("binary", "decimal", "0 1.0", None),
    ("binary", "decimal", "0 x", None),
    ("binary", "hex", "00fF", b"\x00\xff"),
    ("binary", "hex", "0g", None),
    ("binary", "base64", "AP8=", b"\x00\xff"),
    ("binary", "base64", "A", None),
    ("binary", None, "AP8=", b"\x00\xff"),
]


def test_every_type(spark: SparkSession) -> None:
    """All cases in one row, a column each; and a row of nulls, which fail nowhere."""
    columns = {f"c{number}": {"type": kind, "text": form} for number, (kind, form, _, _) in enumerate(CASES)}
    contract = make_contract(columns)
    texts, values = [case[2] for case in CASES], [case[3] for case in CASES]
    raw = spark.createDataFrame(
        [(*texts, "f"), (*[None] * len(texts), "g")], ", ".join(f"{n} string" for n in [*columns, "_source_file"])
    )
    found = cast_columns(raw, contract=contract)
    schema = struct_type(contract).add("_source_file", "string").add("_cast_failed", ArrayType(StringType()))
    failed = [f"c{number}" for number, value in enumerate(values) if value is None]
    expected = spark.createDataFrame([(*values, "f", failed), (*[None] * len(values), "g", [])], schema)
    assertDataFrameEqual(found, expected, checkRowOrder=True, ignoreNullable=True)


def test_columns_of_the_right_type_are_left_alone_and_others_are_cast(spark: SparkSession) -> None:
    contract = make_contract({"a": {"type": "int"}, "b": {"type": "tinyint"}})
    found = cast_columns(spark.createDataFrame([(1, 5), (2, 300)], "a int, b int"), contract=contract)
    expected = spark.createDataFrame([(1, 5, []), (2, None, ["b"])], "a int, b tinyint, _cast_failed array<string>")
    assertDataFrameEqual(found, expected, checkRowOrder=True, ignoreNullable=True)
    right = cast_columns(spark.createDataFrame([(1, 5)], "a int, b tinyint"), contract=contract)
    assert [tuple(row) for row in right.collect()] == [(1, 5, [])]


@pytest.mark.parametrize(("raw", "text"), [((1, b"\x00\xff"), '{"a":1,"b":"AP8="}'), ((1, None), '{"a":1}')])
def test_raw_text(spark: SparkSession, raw: tuple[object, ...], text: str) -> None:
    contract = make_contract({"a": {"type": "int"}, "b": {"type": "binary"}})
    frame = spark.createDataFrame([raw], "a int, b binary")
    assert [row[0] for row in frame.select(raw_text(frame, contract=contract)).collect()] == [text]
