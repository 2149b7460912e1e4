"""Delta tables, databases and files as sources, each by Spark."""

from __future__ import annotations

import gzip
import re
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from delta import DeltaTable
from py4j.protocol import Py4JJavaError
from pydantic import ValidationError
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.testing import assertDataFrameEqual

from millrace.config.sources import DeltaSource, ImagesSource, JdbcSource, ParquetSource
from millrace.contracts.table import TableContract
from millrace.errors import ContractError, SecurityError, SourceError, find_in
from millrace.sources.failures import explain
from millrace.sources.read import source_of
from millrace.sources.reader import RawSource
from tests.factories import NIGHT, make_contract
from tests.sources.broken_files import png, tar, write, zipped

REJECTS = "_source_file string, _rule string, _reason string, _record string"


def delta(**options: Any) -> RawSource:
    return source_of(DeltaSource.model_validate({"name": "t", "format": "delta", "path": "/x", "schema": "tiny_raw", **options}))


def jdbc(url: str, night: str = NIGHT, **options: Any) -> RawSource:
    values = {"name": "t", "format": "jdbc", "path": url, "schema": "tiny_raw", **options}
    return source_of(JdbcSource.model_validate(values), night)


def message(error: pytest.ExceptionInfo[Any], path: object = "") -> str:
    return str(error.value).replace(str(path), "PATH") if path else str(error.value)


def test_a_delta_table_at_a_version(spark: SparkSession, tmp_path: Path) -> None:
    path, contract = str(tmp_path / "table"), make_contract()
    assert delta().find(path) == []
    rows = spark.createDataFrame([(1, "a"), (2, "b"), (3, "c")], "id bigint, name string").coalesce(1)
    rows.write.format("delta").save(path)
    DeltaTable.forPath(spark, path).delete("id = 2")
    (address,) = delta().find(path)
    assert address == f"{path}@v1"
    delta().check([address], contract)
    expected = [(1, "a", address, None, None, None), (3, "c", address, None, None, None)]
    schema = f"id bigint, name string, {REJECTS}"
    assertDataFrameEqual(delta().rows(spark, [address], contract), spark.createDataFrame(expected, schema))

    pinned = delta(version=0)
    assert pinned.find(path) == [f"{path}@v0"]
    assert pinned.rows(spark, pinned.find(path), contract).count() == 3
    old, new = pinned.identify([f"{path}@v0"]) + delta().identify([address])
    assert old == pinned.identify([f"{path}@v0"])[0]
    assert old.sha256 != new.sha256
    assert old.num_bytes > 0
    assert pinned.exists(f"{path}@v0")
    assert not pinned.exists(f"{path}@v7")
    with pytest.raises(SourceError) as caught:
        delta(version=7).find(path)
    assert message(caught, path).startswith("ingest: expected version 7 of PATH; found that it is gone (")
    assert message(caught).endswith("). Name a version that the table still has, or none for its newest.")


def test_a_delta_table_of_other_columns(spark: SparkSession, tmp_path: Path) -> None:
    path, contract = str(tmp_path / "table"), make_contract({"id": {"type": "int"}, "name": {"type": "string"}})

    def rows_of(schema: str, data: list[tuple[Any, ...]], **evolution: str) -> list[Any]:
        """What is read once the table holds these rows."""
        rows = spark.createDataFrame(data, schema).coalesce(1)
        rows.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(path)
        (address,) = delta().find(path)
        wanted = contract.model_copy(update={"evolution": contract.evolution.model_copy(update=evolution)})
        delta().check([address], wanted)
        return sorted(delta().rows(spark, [address], wanted).collect(), key=lambda row: row["name"] or "")

    found = rows_of("ID string, name string", [("1", "a"), ("one", "b"), (None, "c")])
    assert [(row["id"], row["_rule"], row["_reason"], row["_record"]) for row in found] == [
        (1, None, None, None),
        (None, "column_retyped", "id is string there, and its value is no int", '{"id":"one","name":"b"}'),
        (None, None, None, None),
    ]
    found = rows_of("id double, name string", [(1.0, "a")])
    assert (found[0]["_rule"], found[0]["_reason"]) == ("column_retyped", "the file has id as double, not id as int")
    found = rows_of("id short, name string, more binary", [(1, "a", b"x")], added="evolve", retyped="evolve")
    assert (found[0]["id"], found[0]["_added"], found[0]["_rule"]) == (1, {"more": "eA=="}, None)
    found = rows_of("id int, name string, more int", [(1, "a", 2)], added="quarantine")
    assert (found[0]["_rule"], found[0]["_record"]) == ("column_added", '{"id":1,"name":"a","more":2}')

    (address,) = delta().find(path)
    with pytest.raises(ContractError) as caught:
        delta().check([address], contract)
    assert message(caught, path) == (
        "ingest: expected the columns id, name in PATH@v3; found also more. "
        "Add them to the contract tiny_raw, or let its evolution.added quarantine such files."
    )
    for part in Path(path).glob("*.parquet"):
        part.write_bytes(part.read_bytes()[:-3])
    with pytest.raises(SourceError) as caught_too:
        delta(version=0).check([f"{path}@v0"], contract)
    pattern = (
        r"ingest: expected [\d,]+ bytes in part-.*parquet, a file of PATH@v0; found [\d,]+ bytes. Mend the table, or name another"
    )
    assert re.match(pattern, message(caught_too, path))


def test_a_delta_table_that_deltalake_cannot_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(uri: str, version: int | None) -> None:
        raise ValueError("Unsupported reader features required: [DeletionVectors]")

    monkeypatch.setattr("millrace.lake.log.open_table", refuse)
    with pytest.raises(SourceError) as caught:
        delta(version=1).identify([f"{tmp_path}@v1"])
    assert message(caught, tmp_path) == (
        "ingest: expected a Delta table that deltalake can read at PATH; found Unsupported reader features required: "
        "[DeletionVectors]. Let its owner drop the feature (ALTER TABLE … DROP FEATURE), or copy it to one without."
    )


def test_texts_of_a_delta_table_that_are_no_utf8(spark: SparkSession, tmp_path: Path) -> None:
    """Spark itself takes any bytes for a text."""
    path, contract = str(tmp_path / "table"), make_contract()
    rows = spark.sql("SELECT 1L AS id, cast(unhex('61FF') AS string) AS name UNION ALL SELECT 2L, 'ü'").coalesce(1)
    rows.write.format("delta").save(path)
    found = delta().rows(spark, delta().find(path), contract).orderBy("id").collect()
    assert [(row["_rule"], row["_reason"]) for row in found] == [
        ("column_retyped", "name is string there, and its value is no string"),
        (None, None),
    ]
    assert found[0]["_record"] == '{"id":1,"name":"a\ufffd"}'


DERBY_CONTRACT = make_contract(
    {"id": {"type": "bigint"}, "name": {"type": "string"}, "price": {"type": "double"}, "day": {"type": "date"}}, key=["id"]
)


@pytest.fixture(scope="module")
def derby(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with a table of things, by the Derby that Spark brings."""
    path = tmp_path_factory.mktemp("derby") / "shop"
    statements = [
        "CREATE TABLE things (id INT NOT NULL PRIMARY KEY, name VARCHAR(20), price DECIMAL(8, 2), day DATE)",
        "INSERT INTO things VALUES (1, 'mill', 2.50, '2026-11-21'), (2, 'race', NULL, '2026-11-22'), "
        "(3, NULL, 0.10, '2026-11-22')",
    ]
    manager = spark.sparkContext._jvm.java.sql.DriverManager
    spark.sparkContext._jvm.java.lang.Class.forName("org.apache.derby.iapi.jdbc.AutoloadedDriver")
    connection = manager.getConnection(f"jdbc:derby:{path};create=true", "miller", "w4ter-wheel")
    for statement in statements:
        run = connection.createStatement()
        run.execute(statement)
        run.close()
    connection.close()
    return f"jdbc:derby:{path}"


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    monkeypatch.setenv("SHOP_USER", "miller")
    secret = tmp_path / "secret"
    secret.write_text("w4ter-wheel\n")
    return {"user_from": "env:SHOP_USER", "password_from": f"file:{secret}"}


def test_a_database(spark: SparkSession, derby: str, credentials: dict[str, str]) -> None:
    partition = {"column": "ID", "lower": 1, "upper": 3, "num_partitions": 2}
    source = jdbc(derby, table="THINGS", partition=partition, **credentials)
    assert source.find(derby) == [derby]
    source.check([derby], DERBY_CONTRACT)
    found = source.rows(spark, [derby], DERBY_CONTRACT)
    expected = [
        (1, "mill", 2.5, date(2026, 11, 21), derby, None, None, None),
        (2, "race", None, date(2026, 11, 22), derby, None, None, None),
        (3, None, 0.1, date(2026, 11, 22), derby, None, None, None),
    ]
    schema = f"id bigint, name string, price double, day date, {REJECTS}"
    assertDataFrameEqual(found, spark.createDataFrame(expected, schema))
    assert found.rdd.getNumPartitions() == 2

    timed = make_contract({"id": {"type": "int"}, "moment": {"type": "timestamp"}})
    query = "SELECT id, TIMESTAMP('2026-11-22 01:02:03') AS moment FROM things WHERE id = 1"
    timed_source = jdbc(derby, query=query, **credentials)
    (row,) = timed_source.rows(spark, [derby], timed).select(F.unix_seconds("moment")).collect()
    assert row[0] == datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC).timestamp()
    zones, mine = spark.sparkContext._jvm.java.util.TimeZone, spark.sparkContext._jvm.java.util.TimeZone.getDefault()
    zones.setDefault(zones.getTimeZone("Asia/Shanghai"))
    try:
        with pytest.raises(SourceError) as caught:
            timed_source.rows(spark, [derby], timed)
    finally:
        zones.setDefault(mine)
    assert message(caught) == (
        "ingest: expected Java in the time zone UTC, so that a database's timestamps are the same on any machine; found "
        "Asia/Shanghai. Add -Duser.timezone=UTC to spark.driver.extraJavaOptions and spark.executor.extraJavaOptions."
    )

    query = "SELECT id, name, price, day FROM things WHERE day = DATE('{night}');"
    rows = jdbc(derby, query=query, **credentials).rows(spark, [derby], DERBY_CONTRACT).collect()
    assert sorted(row["id"] for row in rows) == [2, 3]

    other = make_contract({"id": {"type": "tinyint"}, "name": {"type": "int"}, "price": {"type": "int"}})
    rows = jdbc(derby, query="SELECT id, name, price FROM things", **credentials).rows(spark, [derby], other).collect()
    assert {row["_record"]: row["_reason"] for row in rows} == {
        '{"id":1,"name":"mill","price":2.50}': "name is string there, and its value is no int",
        '{"id":2,"name":"race"}': "name is string there, and its value is no int",
        '{"id":3,"price":0.10}': "price is decimal(8,2) there, and its value is no int",
    }


def test_nights_of_a_database() -> None:
    url, query = "jdbc:derby:/x", "SELECT * FROM things WHERE day = '{night}'"
    (one,) = jdbc(url, "2026-11-21", query=query).identify([url])
    (two,) = jdbc(url, "2026-11-22", query=query).identify([url])
    assert one == jdbc(url, "2026-11-21", query=query).identify([url])[0]
    assert (one.path, one.num_bytes) == (url, 0)
    assert one.sha256 != two.sha256
    assert one.sha256 != jdbc(url, "2026-11-21", table="things").identify([url])[0].sha256


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"table": "NOTHING"},
            "ingest: expected to read NOTHING from URL; found java.sql.SQLSyntaxErrorException: Table/View 'NOTHING' does not "
            "exist.. Check source.path, table and query.",
        ),
        (
            {"query": "SELECT FROM"},
            "ingest: expected to read (SELECT FROM) millrace_source from URL; found java.sql.SQLSyntaxErrorException: Syntax "
            'error: Encountered "FROM" at line 1, column 23.. Check source.path, table and query.',
        ),
        (
            {"table": "THINGS", "driver": "org.nobody.Driver"},
            "ingest: expected to read THINGS from URL; found java.lang.ClassNotFoundException: org.nobody.Driver. Put the "
            "driver's jar on Spark's class path (spark.jars), and name its class by source.driver.",
        ),
        (
            {"table": "THINGS", "password_from": "env:SHOP_NOBODY"},
            "ingest: expected the database's password in the environment variable SHOP_NOBODY; found none. Set it, or change "
            "source.password_from.",
        ),
    ],
)
def test_a_database_that_refuses(
    spark: SparkSession, derby: str, credentials: dict[str, str], options: dict[str, str], expected: str
) -> None:
    with pytest.raises(SourceError) as caught:
        jdbc(derby, **{**credentials, **options}).rows(spark, [derby], DERBY_CONTRACT)
    assert str(caught.value).replace(derby, "URL") == expected
    assert not caught.value.retry


def test_no_database_and_no_driver(spark: SparkSession, tmp_path: Path) -> None:
    contract: TableContract = DERBY_CONTRACT
    with pytest.raises(SourceError) as caught:
        url = "jdbc:nobody://localhost/x"
        jdbc(url, table="t").rows(spark, [url], contract)
    assert message(caught) == (
        "ingest: expected to read t from jdbc:nobody://localhost/x; found java.sql.SQLException: No suitable driver. Put the "
        "driver's jar on Spark's class path (spark.jars), and name its class by source.driver."
    )


@pytest.fixture(scope="module")
def locked(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database that asks for a password."""
    path = tmp_path_factory.mktemp("derby") / "locked"
    jvm = spark.sparkContext._jvm
    jvm.java.lang.Class.forName("org.apache.derby.iapi.jdbc.AutoloadedDriver")
    connection = jvm.java.sql.DriverManager.getConnection(f"jdbc:derby:{path};create=true", "miller", "w4ter-wheel")
    properties = {
        "derby.user.miller": "w4ter-wheel",
        "derby.authentication.provider": "BUILTIN",
        "derby.connection.requireAuthentication": "true",
    }
    run = connection.createStatement()
    run.execute("CREATE TABLE things (id INT)")
    for name, value in properties.items():
        run.execute(f"CALL SYSCS_UTIL.SYSCS_SET_DATABASE_PROPERTY('{name}', '{value}')")
    connection.close()
    with suppress(Py4JJavaError):  # that it has shut down; it asks from its next start on
        jvm.java.sql.DriverManager.getConnection(f"jdbc:derby:{path};shutdown=true", "miller", "w4ter-wheel")
    key = "derby.connection.requireAuthentication"  # Spark sets it to false for the whole process, and a database starts by that
    before = jvm.java.lang.System.clearProperty(key)
    jvm.java.sql.DriverManager.getConnection(f"jdbc:derby:{path}", "miller", "w4ter-wheel").close()
    if before is not None:
        jvm.java.lang.System.setProperty(key, before)
    return f"jdbc:derby:{path}"


@pytest.mark.parametrize(("password", "is_right"), [("w4ter-wheel", True), ("w4ter-whale", False), ("Reason", False)])
def test_a_database_that_asks_for_a_password(
    spark: SparkSession, locked: str, monkeypatch: pytest.MonkeyPatch, password: str, is_right: bool
) -> None:
    monkeypatch.setenv("SHOP_USER", "miller")
    monkeypatch.setenv("SHOP_PASSWORD", password)
    contract = make_contract({"id": {"type": "int"}})
    source = jdbc(locked, table="THINGS", **{"user_from": "env:SHOP_USER", "password_from": "env:SHOP_PASSWORD"})
    source.check([locked], contract)
    if is_right:
        assert source.rows(spark, [locked], contract).collect() == []
        return
    with pytest.raises(SourceError) as caught:
        source.rows(spark, [locked], contract)
    kind, reason = "java.sql.SQLNonTransientConnectionException", "Reason: Invalid authentication.."
    assert str(caught.value).replace(locked, "URL") == (
        f"ingest: expected to read THINGS from URL; found {kind}: Connection authentication failure "
        f"occurred. {reason.replace(password, '***')}. "
        "Check source.user_from and source.password_from."
    )
    assert not caught.value.retry
    assert password not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "driver", "found", "remedy", "retry"),
    [
        (
            "jdbc:derby:DIRECTORY/gone",
            "org.apache.derby.iapi.jdbc.AutoloadedDriver",
            "java.sql.SQLException: Database 'DIRECTORY/gone' not found.",
            "Check source.path, table and query.",
            False,
        ),
        (
            "jdbc:hive2://127.0.0.1:1/shop",
            "org.apache.hive.jdbc.HiveDriver",
            "java.sql.SQLException: Could not open client transport with JDBC Uri: jdbc:hive2://127.0.0.1:1/shop: "
            "java.net.ConnectException: Connection refused",
            "See that the database runs and can be reached from here; then run the night again.",
            True,
        ),
    ],
)
def test_a_database_that_cannot_be_reached(
    spark: SparkSession,
    tmp_path: Path,
    credentials: dict[str, str],
    url: str,
    driver: str,
    found: str,
    remedy: str,
    retry: bool,
) -> None:
    """One that is not there, and one behind a port where nobody listens."""
    url = url.replace("DIRECTORY", str(tmp_path))
    with pytest.raises(SourceError) as caught:
        jdbc(url, table="THINGS", driver=driver, **credentials).rows(spark, [url], DERBY_CONTRACT)
    assert message(caught, tmp_path).replace("PATH", "DIRECTORY") == (
        f"ingest: expected to read THINGS from {url.replace(str(tmp_path), 'DIRECTORY')}; found {found}. {remedy}"
    )
    assert caught.value.retry is retry
    assert "w4ter-wheel" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"path": "jdbc:derby:/x;user=a;password=b"}, "a JDBC URL must not hold a user or password"),
        ({"path": "jdbc:postgresql://u:p@host/db"}, "holds a password or token"),
        ({"path": "jdbc:postgresql://u@host/db"}, "a JDBC URL must not hold a user or password"),
        ({"path": "jdbc:postgresql://host/db?user=u"}, "a JDBC URL must not hold a user or password"),
        ({"path": "jdbc:oracle:thin:scott/tiger@//host/db"}, "a JDBC URL must not hold a user or password"),
        ({"path": "/data/x"}, "path is a JDBC URL"),
        ({"password_from": "hunter2"}, "say env:NAME or file:PATH, never the value itself"),
        ({"query": "SELECT 1"}, "say either table or query"),
        ({"table": "t; DROP TABLE t"}, "String should match pattern"),
        ({"partition": {"column": "id", "lower": 3, "upper": 3, "num_partitions": 2}}, "upper is above lower; 3 is not above 3"),
    ],
)
def test_what_a_section_refuses(options: dict[str, Any], expected: str) -> None:
    values = {"name": "t", "format": "jdbc", "path": "jdbc:derby:/x", "schema": "tiny_raw", "table": "t", **options}
    with pytest.raises(ValidationError, match=expected):
        JdbcSource.model_validate(values)


def test_what_fails_while_spark_reads(spark: SparkSession, tmp_path: Path, derby: str, credentials: dict[str, str]) -> None:
    path = str(tmp_path / "table")
    spark.range(10_000).withColumn("name", F.sha2(F.col("id").cast("string"), 256)).coalesce(1).write.format("delta").save(path)
    (part,) = Path(path).glob("*.parquet")
    content = bytearray(part.read_bytes())
    content[len(content) // 4 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 4)
    part.write_bytes(content)
    (part.parent / f".{part.name}.crc").unlink(missing_ok=True)
    (address,) = delta().find(path)
    delta().check([address], make_contract())
    with pytest.raises(Exception, match="FAILED_READ_FILE") as caught:
        delta().rows(spark, [address], make_contract()).collect()
    error = explain(str(caught.value))
    assert type(error) is SourceError
    assert str(error).replace(f"file:{path}", "PATH").replace(part.name, "PART") == (
        "ingest: expected a whole file at PATH/PART; found that it is damaged. Mend the table, or name another version of it."
    )

    source = jdbc(derby, query="SELECT id, 1 / (id - 2) AS name FROM things", **credentials)
    contract = make_contract({"id": {"type": "int"}, "name": {"type": "int"}})
    with pytest.raises(Exception, match=r"java\.sql") as caught_too:
        source.rows(spark, [derby], contract).collect()
    assert str(explain(str(caught_too.value))) == (
        "ingest: expected the database to give its rows; found Attempt to divide by zero.. "
        "Check the database and source.query; what it stumbles over is said there."
    )
    assert explain("some other error") is None


def test_members_by_spark(spark: SparkSession, tmp_path: Path) -> None:
    """A directory with an archive and pictures in it, as Spark reads them; and what a bad archive says on the driver."""
    write(
        tmp_path,
        {"cat/1.png": png(4, 4, "L", color=7), "cat/2.png": b"none", "a.zip": zipped(("dog/3.png", png(2, 2, "L", color=9)))},
    )
    values = {"name": "t", "format": "images", "path": "/x", "schema": "tiny_raw", "content": "image"}
    source = source_of(ImagesSource.model_validate({**values, "pattern": r"(?P<label>\w+)/(?P<id>\d)\.png"}))
    tensor = {"dtype": "uint8", "shape": [1, 2, 1]}
    contract = make_contract({"label": {"type": "string"}, "id": {"type": "int"}, "image": {"type": "binary", "tensor": tensor}})
    found = source.rows(spark, source.find(str(tmp_path)), contract)
    root = str(tmp_path)
    expected = [
        ("cat", "1", bytearray([7, 7]), f"{root}/cat/1.png", None, None, None),
        (None, None, None, f"{root}/cat/2.png", "not_an_image", "neither JPEG nor PNG, by its first bytes", f"{root}/cat/2.png"),
        ("dog", "3", bytearray([9, 9]), f"{root}/a.zip!/dog/3.png", None, None, None),
    ]
    assertDataFrameEqual(found, spark.createDataFrame(expected, f"label string, id string, image binary, {REJECTS}"))
    write(tmp_path, {"b.tar.gz": gzip.compress(tar(("x", b""), ("../y", b"")))})
    with pytest.raises(Exception, match="millrace-error") as caught:
        source.rows(spark, [f"{root}/b.tar.gz"], contract).collect()
    error = find_in(str(caught.value))
    assert type(error) is SecurityError
    assert str(error).startswith(
        f"ingest: expected names that stay within the archive in {root}/b.tar.gz; found a member called '../y'"
    )


def test_parquet_by_spark(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    nested = pa.array([[{"n": 1}], None], pa.list_(pa.struct([("n", pa.int32())])))
    pq.write_table(pa.table({"id": pa.array([1, 2], pa.int32()), "parts": nested, "more": ["x", None]}), path)
    source = source_of(ParquetSource.model_validate({"name": "t", "format": "parquet", "path": "/x", "schema": "tiny_raw"}))
    columns = {"id": {"type": "int"}, "parts": {"type": "array<struct<n:int>>"}}
    contract = make_contract(columns, evolution={"added": "evolve"})
    assert source.find(str(tmp_path)) == [path]
    source.check([path], contract)
    found = source.rows(spark, [path], contract)
    expected = [(1, [(1,)], {"more": "x"}, path, None, None, None), (2, None, {"more": None}, path, None, None, None)]
    schema = f"id int, parts array<struct<n:int>>, _added map<string,string>, {REJECTS}"
    assertDataFrameEqual(found, spark.createDataFrame(expected, schema))
