"""Every policy for added, missing and retyped columns, in every format whose files or objects name their columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from millrace.contracts.table import TableContract
from millrace.errors import ContractError
from millrace.sources import csv
from millrace.sources.csv import CsvReader
from millrace.sources.csv_dialect import Dialect
from millrace.sources.delta import DeltaTableSource
from millrace.sources.json import JsonLinesReader, JsonReader
from millrace.sources.parquet import ParquetReader
from millrace.sources.reader import FileReader
from tests.factories import make_contract, write_file

COLUMNS = {"id": {"type": "bigint", "nullable": False}, "name": {"type": "string"}}
ADDED, MISSING, RETYPED = ("refuse", "evolve", "quarantine"), ("refuse", "null", "quarantine"), ("refuse", "evolve", "quarantine")
READERS: Mapping[str, FileReader] = {
    "csv": CsvReader(),
    "jsonl": JsonLinesReader(),
    "json": JsonReader(),
    "parquet": ParquetReader(),
}
Policies = Mapping[str, str]


def columns_of(changes: set[str]) -> dict[str, Any]:
    """Two rows of a source that has changed so."""
    columns: dict[str, Any] = {"id": [1, 2], "name": ["a", "b"], "x": [7, None]}
    gone = ({"name"} if "missing" in changes else set()) | ({"x"} if "added" not in changes else set())
    return {name: values for name, values in columns.items() if name not in gone}


def write(form: str, path: Path, changes: set[str]) -> str:
    columns = columns_of(changes)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if form == "parquet":
        kinds = {"id": pa.int32() if "retyped" in changes else pa.int64(), "name": pa.string(), "x": pa.int64()}
        pq.write_table(pa.table({name: pa.array(values, kinds[name]) for name, values in columns.items()}), path)
        return str(path)
    if form == "csv":
        lines = [",".join(columns), *(",".join("" if value is None else str(value) for value in row.values()) for row in rows)]
        return write_file(path, "\n".join(lines) + "\n")
    return write_file(path, json.dumps(rows) if form == "json" else "\n".join(map(json.dumps, rows)))


def expected(form: str, changes: set[str], policies: Policies) -> list[tuple[Any, ...]] | str:
    """(id, name, _added, _rule) of the rows; or the beginning of what the error has found."""
    if "missing" in changes and policies["missing"] == "refuse":
        return "found no name"
    if "added" in changes and policies["added"] == "refuse":
        return "found also x"
    has_types = form in ("parquet", "delta")
    if has_types and "retyped" in changes and policies["retyped"] == "refuse":
        return "found id as int32"
    rules = [("added", "column_added"), ("missing", "column_missing"), *([("retyped", "column_retyped")] if has_types else [])]
    rule = next((rule for what, rule in rules if what in changes and policies[what] == "quarantine"), None)
    if rule is not None:
        return [(None, None, rule)] * 2
    return [(number, None if "missing" in changes else name, None) for number, name in ((1, "a"), (2, "b"))]


def check(form: str, changes: set[str], policies: Policies, found: list[dict[str, Any]]) -> None:
    rows = [(row["id"] and int(row["id"]), row["name"], row["_rule"]) for row in found]
    assert rows == expected(form, changes, policies), (form, changes, policies)
    assert all(("_added" in row) == (policies["added"] == "evolve") for row in found)
    if policies["added"] == "evolve" and found[0]["_rule"] is None:
        maps = [None if row["_added"] is None else dict(row["_added"]) for row in found]
        assert maps == ([{"x": "7"}, {"x": None}] if "added" in changes else [None, None])


def all_changes() -> list[set[str]]:
    return [
        {name for name, happens in zip(("added", "missing", "retyped"), which, strict=True) if happens}
        for which in product((False, True), repeat=3)
    ]


def all_policies() -> list[dict[str, str]]:
    return [dict(zip(("added", "missing", "retyped"), policies, strict=True)) for policies in product(ADDED, MISSING, RETYPED)]


@pytest.mark.parametrize("form", READERS)
def test_every_combination(form: str, tmp_path: Path) -> None:
    """What is refused is refused before anything is read, but for documents of JSON, which are read whole."""
    reader = READERS[form]
    for changes in all_changes():
        path = write(form, tmp_path / f"a.{form}", changes)
        (unit,) = reader.units([path])
        for policies in all_policies():
            contract = make_contract(COLUMNS, evolution=policies)
            told = expected(form, changes, policies)
            if isinstance(told, str):
                with pytest.raises(ContractError, match=told):
                    reader.check(unit, contract)
                    list(reader.read(unit, contract)) if form == "json" else None
                continue
            reader.check(unit, contract)
            check(form, changes, policies, [row for batch in reader.read(unit, contract) for row in batch.to_pylist()])


@pytest.mark.full
def test_every_combination_of_a_delta_table(spark: SparkSession, tmp_path: Path) -> None:
    """216 reads by Spark."""
    for number, changes in enumerate(all_changes()):
        table, columns = str(tmp_path / str(number)), columns_of(changes)
        kind = "int" if "retyped" in changes else "bigint"
        schema = ", ".join(f"{name} {({'id': kind, 'name': 'string', 'x': 'bigint'})[name]}" for name in columns)
        rows = spark.createDataFrame(list(zip(*columns.values(), strict=True)), schema).coalesce(1)
        rows.write.format("delta").save(table)
        source = DeltaTableSource()
        addresses = source.find(table)
        for policies in all_policies():
            contract, told = make_contract(COLUMNS, evolution=policies), expected("delta", changes, policies)
            if isinstance(told, str):
                with pytest.raises(ContractError, match=told):
                    source.check(addresses, contract)
                continue
            source.check(addresses, contract)
            found = [row.asDict() for row in source.rows(spark, addresses, contract).collect()]
            check("delta", changes, policies, sorted(found, key=lambda row: row["_record"] or row["id"]))


EVOLVING = make_contract({"id": {"type": "bigint"}, "name": {"type": "string"}}, evolution={"added": "evolve", "missing": "null"})


def csv_rows(path: str, contract: TableContract = EVOLVING, dialect: Dialect = csv.RFC_4180) -> list[tuple[Any, ...]]:
    csv.check(path, contract, dialect)
    rows = [row for batch in csv.read(path, contract, dialect) for row in batch.to_pylist()]
    return [(row["id"], row["name"], row["_added"], row["_rule"]) for row in rows]


def test_added_columns_of_csv_by_both_parsers(tmp_path: Path) -> None:
    """A quoted line end sends a block to Python's parser; names that are no text are shown as they can be."""
    plain = csv_rows(write_file(tmp_path / "plain.csv", b"x,id,\xff\na,1,\n,2,b\n3,4\n"))
    assert plain == [
        ("1", None, [("x", "a"), ("\\udcff", None)], None),
        ("2", None, [("x", None), ("\\udcff", "b")], None),
        (None, None, None, "too_few_fields"),
    ]
    assert csv_rows(write_file(tmp_path / "quoted.csv", b'x,id,\xff\na,1,\n,2,b\n3,4\n"\n",5,\n')) == [
        *plain,
        ("5", None, [("x", "\n"), ("\\udcff", None)], None),
    ]
    spaced = Dialect(skip_spaces=True, null_values=("", "NA"))
    assert csv_rows(write_file(tmp_path / "spaced.csv", "id, x\n1, NA\n"), dialect=spaced)[0][2] == [("x", None)]
    assert csv_rows(write_file(tmp_path / "other.csv", "u;v\n1;2\n")) == [(None, None, [("u;v", "1;2")], None)]
    unnamed = Dialect(columns=("id", "x"))
    assert csv_rows(write_file(tmp_path / "unnamed.csv", "1,2\n"), dialect=unnamed) == [("1", None, [("x", "2")], None)]


def test_objects_are_looked_at_alone(tmp_path: Path) -> None:
    contract = make_contract(COLUMNS, evolution={"added": "evolve", "missing": "null"})
    text = '{"id": 1}\n{"name": null, "id": 2, "x": [1.0], "y": "z"}\n{"name": "c"}\n{"id": 4, "name": "d"}\n'
    path = write_file(tmp_path / "a.jsonl", text)
    rows = [row for batch in JsonLinesReader().read(path, contract) for row in batch.to_pylist()]
    assert [(row["id"], row["name"], row["_added"], row["_rule"], row["_reason"]) for row in rows] == [
        ("1", None, None, None, None),
        ("2", None, [("x", "[1.0]"), ("y", "z")], None, None),
        (None, None, None, "column_missing", "it does not have keys that cannot be NULL: id"),
        ("4", "d", None, None, None),
    ]
    with pytest.raises(ContractError) as caught:
        list(JsonLinesReader().read(path, make_contract(COLUMNS, evolution={"added": "evolve"})))
    assert str(caught.value) == (
        f"ingest: expected the columns id, name in {path}; found no name in one of its objects. "
        "Mend the file, or the contract tiny_raw, or let its evolution.missing be null or quarantine such rows."
    )
