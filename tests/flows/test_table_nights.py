"""A database and a Delta table as the source of whole nights: what is read again, what is taken once, what gives way."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from millrace.lake.ledger import Ledger
from millrace.lake.read import read_version
from tests.flows.law import check_law, content, rows_of
from tests.flows.pipelines import FIRST, SECOND, Pipelines

THIRD = "2026-11-23"
COLUMNS = {"id": {"type": "bigint", "nullable": False}, "name": {"type": "string"}}
SECTIONS = {
    "clean": [],
    "split": {"key": ["id"], "fractions": {"train": 1.0}},
    "features": [{"column": "name", "encode": "index"}],
}


def silver(pipelines: Pipelines, spark: SparkSession) -> dict[int, tuple[str, str]]:
    """id -> (night, name)"""
    version = Ledger.read(pipelines.lake).version_of("silver/digits")
    rows = read_version(spark, pipelines.lake, "silver/digits", version).collect()
    return {row["id"]: (row["_night"], row["name"]) for row in rows}


def run_sql(spark: SparkSession, url: str, *statements: str) -> None:
    jvm = spark.sparkContext._jvm
    jvm.java.lang.Class.forName("org.apache.derby.iapi.jdbc.AutoloadedDriver")
    connection = jvm.java.sql.DriverManager.getConnection(f"{url};create=true", "miller", "w4ter-wheel")
    for statement in statements:
        run = connection.createStatement()
        run.execute(statement)
        run.close()
    connection.close()


@pytest.mark.full
def test_a_database_is_read_each_night(
    pipelines: Pipelines,
    spark: SparkSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All of it, by the contract's key: newer rows take the place of older ones, and it is nothing to be warned of."""
    url = f"jdbc:derby:{tmp_path / 'shop'}"
    monkeypatch.setenv("SHOP_USER", "miller")
    monkeypatch.setenv("SHOP_PASSWORD", "w4ter-wheel")
    access = {"user_from": "env:SHOP_USER", "password_from": "env:SHOP_PASSWORD"}
    pipelines.contract(key=["id"], columns=COLUMNS, checks=[], evolution={}, upsert=True)
    pipelines.define("digits", SECTIONS, format="jdbc", path=url, table="THINGS", **access)
    run_sql(
        spark,
        url,
        "CREATE TABLE things (id INT NOT NULL PRIMARY KEY, name VARCHAR(20))",
        "INSERT INTO things VALUES (1, 'mill'), (2, 'race')",
    )
    assert pipelines.call(FIRST) == [0, 0]
    assert silver(pipelines, spark) == {1: (FIRST, "mill"), 2: (FIRST, "race")}
    before = content(pipelines.lake, "bronze/digits")
    assert pipelines.call(FIRST) == [0, 0]  # the same night is the same rows, whatever the database has now
    assert content(pipelines.lake, "bronze/digits") == before
    run_sql(spark, url, "UPDATE things SET name = 'wheel' WHERE id = 2", "INSERT INTO things VALUES (3, 'lake')")
    capsys.readouterr()
    assert pipelines.call(SECOND) == [0, 0]
    assert "changed" not in capsys.readouterr().err
    found = silver(pipelines, spark)
    assert found == {1: (SECOND, "mill"), 2: (SECOND, "wheel"), 3: (SECOND, "lake")}
    check_law(pipelines.lake, "digits", num_raw=5, num_silver=3)
    assert {row["_source_file"] for row in rows_of(pipelines.lake, "bronze/digits")} == {url}
    for path in (path for path in Path(pipelines.lake.uri).rglob("*") if path.is_file()):
        assert b"w4ter-wheel" not in path.read_bytes(), path


@pytest.mark.full
def test_a_delta_table_is_taken_once_a_version(pipelines: Pipelines, spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    pipelines.contract(key=["id"], columns=COLUMNS, checks=[], evolution={})
    pipelines.define("digits", SECTIONS, format="delta", path=path)
    rows = spark.createDataFrame([(1, "mill"), (2, "race")], "id bigint, name string")
    rows.write.format("delta").save(path)
    assert pipelines.call(FIRST) == [0, 0]
    assert pipelines.call(SECOND) == [0, 0]
    assert silver(pipelines, spark) == {1: (FIRST, "mill"), 2: (FIRST, "race")}
    assert len(rows_of(pipelines.lake, "bronze/digits")) == 2
    spark.createDataFrame([(3, "lake")], "id bigint, name string").write.format("delta").mode("append").save(path)
    assert pipelines.call(THIRD) == [0, 0]
    assert silver(pipelines, spark) == {1: (FIRST, "mill"), 2: (FIRST, "race"), 3: (THIRD, "lake")}
    check_law(pipelines.lake, "digits", num_raw=5)  # a version is read whole; rows that are there by their key are dropped
    assert {row["rule"] for row in rows_of(pipelines.lake, "quarantine/pipelines/digits")} == {"duplicate_key"}
