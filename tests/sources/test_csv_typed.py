"""Rows that are typed where they are read are those that Spark casts from text, whatever stands in a field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from millrace.contracts.table import TableContract
from millrace.contracts.texts import TEXTS, rules_met_by_typed
from millrace.quality.rules import rules_of, tag, tag_where_broken
from millrace.sources import csv_typed
from millrace.sources.csv import CsvReader
from millrace.sources.csv_dialect import Dialect
from millrace.sources.read import FileSource, typed
from millrace.transforms.cast import CAST_FAILED, cast_columns, cast_texts, raw_text, raw_text_of_texts
from tests.factories import make_contract

CONTRACT = make_contract(
    {
        "id": {"type": "bigint", "nullable": False},
        "small": {"type": "tinyint", "range": [-100, 100]},
        "real": {"type": "double", "range": [-1e308, 1e308]},
        "single": {"type": "float", "nullable": False},
        "day": {"type": "date"},
        "word": {"type": "string", "nullable": False, "one_of": ["a", "b"]},
    }
)
NUMBERS = [
    *(
        "0",
        "-0",
        "+5",
        "007",
        " 7",
        "7 ",
        "\t7",
        "7.0",
        "7.",
        ".5",
        "1e2",
        "1E-2",
        "1d",
        "1.5f",
        "0x10",
        "0X1F",
        "1_0",
        "1,5",
        "--1",
    ),
    *(
        "127",
        "128",
        "-128",
        "-129",
        "101",
        "9223372036854775807",
        "9223372036854775808",
        "1e400",
        "4.9e-324",
        "1e-400",
        "3.4028236e38",
    ),
    *(
        "0.1",
        "0.30000000000000004",
        "123456789.123456789",
        "NaN",
        "nan",
        "inf",
        "-Infinity",
        "infinity",
        "",
        " ",
        "NA",
        "null",
        "x",
        "\uff11",
    ),
    *('"7"', "1 2", "0.1000000000000000055511151231257827021181583404541015625", "16777217", "8388609.5"),
]


def lines() -> list[str]:
    """Each odd text in each column, between good rows."""
    good = [f"{number},{number % 100},{number / 7},{number / 3},2026-01-{number % 28 + 1:02},a" for number in range(60)]
    odd = []
    for text in NUMBERS:
        for place in range(6):
            fields = good[place].split(",")
            fields[place] = text
            odd.append(",".join(fields))
    return [*good, *odd, "", "1,2", *good, "1,2,3,4,2026-13-01,a", "1,2,3,4,2026-01-01,c"]


def judged(rows: DataFrame) -> DataFrame:
    """Values, verdict and raw text of each row."""
    action = F.when(F.col("_rule").isNotNull(), F.lit("quarantined"))
    if TEXTS in rows.columns:
        cast = cast_texts(rows, contract=CONTRACT).withColumn("_action", action)
        came_typed = F.col(TEXTS).isNull()
        tagged = tag_where_broken(cast, rules_of(CONTRACT), met=rules_met_by_typed(CONTRACT), where=came_typed)
        raw = F.when(~came_typed, F.coalesce("_record", raw_text_of_texts(CONTRACT)))
    else:
        raw_columns = rows.withColumn("_raw", raw_text(rows, contract=CONTRACT))
        tagged = tag(cast_columns(raw_columns, contract=CONTRACT).withColumn("_action", action), rules_of(CONTRACT))
        raw = F.coalesce("_record", "_raw")
    return tagged.select(*CONTRACT.columns, CAST_FAILED, "_source_file", "_rule", "_reason", "_action", raw.alias("raw"))


@pytest.mark.parametrize("num_parts", [16, 200])
def test_typed_rows_are_those_that_spark_casts(
    num_parts: int, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 200 pieces most rows are alone, so that each odd text goes both ways by itself."""
    path = tmp_path / "a.csv"
    path.write_text(",".join(CONTRACT.columns) + "\n" + "\n".join(lines()) + "\n")
    monkeypatch.setattr(csv_typed, "_NUM_PARTS", num_parts)
    reader = CsvReader(Dialect(null_values=("", "NA")))
    plain = FileSource(reader)
    fast = typed(plain)
    assert isinstance(fast, FileSource)
    batches = [batch for unit in fast.reader.units([str(path)]) for batch in fast.reader.read(unit, CONTRACT)]
    num_typed = sum(batch.column(TEXTS).null_count for batch in batches)
    assert num_typed >= 60
    expected = judged(plain.rows(spark, [str(path)], CONTRACT)).collect()
    found = judged(spark.createDataFrame(pa.Table.from_batches(batches))).collect()  # read here, where the patch holds
    keyed = [sorted(((repr(tuple(row)[:-1]), row["raw"]) for row in rows), key=repr) for rows in (found, expected)]
    assert [row for row, _ in keyed[0]] == [row for row, _ in keyed[1]]
    assert sum(raw is None for _, raw in keyed[0]) == num_typed
    raws = [sorted(raw for _, raw in each if raw is not None) for each in keyed]
    assert not [raw for raw in raws[0] if raw not in raws[1]]


def test_a_bad_row_beside_mixed_line_ends_is_the_one_that_is_judged(spark: SparkSession, tmp_path: Path) -> None:
    """Arrow ends rows at a carriage return and passes over empty lines, so that rows and line ends may be as many by chance."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,v\n1,1\r2,99\n3,3\n\n")
    contract = make_contract({"id": {"type": "int"}, "v": {"type": "int", "range": [0, 10]}})
    plain = FileSource(CsvReader(Dialect()))
    fast = typed(plain)
    assert isinstance(fast, FileSource)
    tables = [pa.Table.from_batches([*_batches(source, path, contract)]) for source in (fast, plain)]
    cast = cast_texts(spark.createDataFrame(tables[0]), contract=contract)
    found = [(row["id"], row["v"]) for row in cast.collect()]
    assert sorted(found) == sorted((int(row["id"]), int(row["v"])) for row in tables[1].to_pylist())
    assert (2, 99) in found


def _batches(source: FileSource, path: Path, contract: TableContract) -> Iterator[pa.RecordBatch]:
    for unit in source.reader.units([str(path)]):
        yield from source.reader.read(unit, contract)
