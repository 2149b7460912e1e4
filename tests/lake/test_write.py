"""Big tables by Spark: a night is replaced, never doubled, and what an unfinished try wrote is undone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.testing import assertDataFrameEqual

from millrace.lake import log
from millrace.lake.layout import Lake
from millrace.lake.ledger import Ledger, TableVersion
from millrace.lake.read import read_version
from millrace.lake.write import PLAIN, write_nights
from tests.factories import make_attempt, succeed

TABLE = "silver/tiny"
FIRST, SECOND = "2026-11-21", "2026-11-22"


@pytest.fixture
def frame(spark: SparkSession) -> Callable[..., DataFrame]:
    def make(*rows: tuple[int, str]) -> DataFrame:
        return spark.createDataFrame(list(rows), "a int, _night string").coalesce(1)

    return make


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """In a path with blanks, letters that are not ASCII, and what looks like an escaped blank."""
    return Lake.at(str(tmp_path / "a lake ü%20"))


def written(spark: SparkSession, lake: Lake, version: int) -> DataFrame:
    return read_version(spark, lake, TABLE, version).orderBy("_night", "a")


def test_a_night_is_replaced_and_others_stand(spark: SparkSession, lake: Lake, frame: Callable[..., DataFrame]) -> None:
    second = write_nights(make_attempt(lake), TABLE, frame((1, SECOND), (2, SECOND)), [SECOND])
    assert second == TableVersion(TABLE, 0)
    succeed(lake, second)
    backfill = write_nights(make_attempt(lake, key="k2"), TABLE, frame((9, FIRST)), [FIRST])
    assert backfill == TableVersion(TABLE, 1)
    succeed(lake, backfill)
    again = write_nights(make_attempt(lake, key="k3"), TABLE, frame((3, SECOND)), [SECOND])
    assertDataFrameEqual(written(spark, lake, again.version), frame((9, FIRST), (3, SECOND)), checkRowOrder=True)
    assertDataFrameEqual(written(spark, lake, 1), frame((9, FIRST), (1, SECOND), (2, SECOND)), checkRowOrder=True)
    assert log.nights_of(lake.path(TABLE)) == {FIRST, SECOND}
    assert log.nights_of(lake.path(TABLE), 0) == {SECOND}
    assert log.num_rows(lake.path(TABLE), again.version) == 2
    assert log.num_rows(lake.path(TABLE), again.version, [FIRST]) == 1


def test_rows_keep_their_order_in_each_file(spark: SparkSession, lake: Lake) -> None:
    rows = spark.range(20_000, numPartitions=1).selectExpr(
        "cast(pmod(hash(id), 20000) AS int) AS a",
        "element_at(array('x', 'y', 'z'), cast(id % 3 AS int) + 1) AS split",
        f"'{FIRST}' AS _night",
    )
    given = [(row["a"], row["split"]) for row in rows.collect()]
    for rebuild in (False, True):  # a table that is made, and one that is made anew
        made = write_nights(make_attempt(lake), TABLE, rows, [FIRST], partition_by=["split"], rebuild=rebuild)
        for split in ("x", "y", "z"):
            (path,) = [uri for uri in log.open_table(lake.path(TABLE), made.version).file_uris() if f"split={split}" in uri]
            found = pq.read_table(unquote(path), columns=["a"]).column("a").to_pylist()
            assert found == [number for number, its in given if its == split]


def test_a_night_that_has_become_empty_leaves_no_rows(spark: SparkSession, lake: Lake, frame: Callable[..., DataFrame]) -> None:
    succeed(lake, write_nights(make_attempt(lake), TABLE, frame((1, FIRST), (2, SECOND)), [FIRST, SECOND]))
    empty = write_nights(make_attempt(lake, key="k2"), TABLE, frame((1, FIRST)).filter("a > 5"), [FIRST])
    assertDataFrameEqual(written(spark, lake, empty.version), frame((2, SECOND)), checkRowOrder=True)


def test_commits_carry_the_mark_of_their_try(lake: Lake, frame: Callable[..., DataFrame]) -> None:
    attempt = make_attempt(lake)
    succeed(lake, write_nights(attempt, TABLE, frame((1, FIRST)), [FIRST]))
    assert log.user_metadata(lake.path(TABLE), 0) == {"run_id": attempt.run.run_id, "step_key": "k1"}
    rebuilt = write_nights(make_attempt(lake, key="k2"), TABLE, frame((1, FIRST)), [FIRST], rebuild=True)
    assert log.user_metadata(lake.path(TABLE), rebuilt.version)["step_key"] == "k2"
    assert log.version_of(lake.path(TABLE), attempt.mark, newer_than=-1) == 0
    assert log.version_of(lake.path(TABLE), attempt.mark, newer_than=0) == 0  # none above it
    assert log.user_metadata(lake.path(TABLE), 77) == {}


def test_what_was_committed_and_never_named_is_undone(spark: SparkSession, lake: Lake, frame: Callable[..., DataFrame]) -> None:
    """A kill between a table's commit and its ledger row, then the same night, then another night."""
    succeed(lake, write_nights(make_attempt(lake), TABLE, frame((1, FIRST)), [FIRST]))
    write_nights(make_attempt(lake, key="killed"), TABLE, frame((666, SECOND), (667, FIRST)), [FIRST, SECOND])
    assert Ledger.read(lake).version_of(TABLE) == 0
    other = write_nights(make_attempt(lake, key="k2"), TABLE, frame((2, "2026-11-23")), ["2026-11-23"])
    assertDataFrameEqual(written(spark, lake, other.version), frame((1, FIRST), (2, "2026-11-23")), checkRowOrder=True)
    assert log.user_metadata(lake.path(TABLE), other.version)["step_key"] == "k2"


def test_killed_first_try_is_replaced_whole(spark: SparkSession, lake: Lake, frame: Callable[..., DataFrame]) -> None:
    """Nothing of it stays: neither rows nor constraints."""
    strict = {**PLAIN, "delta.constraints.a_small": "a < 10"}
    write_nights(make_attempt(lake), TABLE, frame((1, FIRST)), [FIRST], properties=strict)
    again = write_nights(make_attempt(lake, key="k2"), TABLE, frame((50, SECOND)), [SECOND])
    assertDataFrameEqual(written(spark, lake, again.version), frame((50, SECOND)), checkRowOrder=True)


def test_files_without_a_log_do_not_hinder(spark: SparkSession, lake: Lake, frame: Callable[..., DataFrame]) -> None:
    Path(lake.path(TABLE)).mkdir(parents=True)
    Path(lake.path(TABLE), "part-00000-half.snappy.parquet").write_bytes(b"PAR1 and no more")
    done = write_nights(make_attempt(lake), TABLE, frame((1, FIRST)), [FIRST])
    assertDataFrameEqual(written(spark, lake, done.version), frame((1, FIRST)), checkRowOrder=True)


def test_rebuild_takes_all_that_is_new(spark: SparkSession, lake: Lake, frame: Callable[..., DataFrame]) -> None:
    """With the history kept: the version before stays readable, and numbers go on."""
    small = {**PLAIN, "delta.constraints.a_small": "`a` BETWEEN 0 AND 9", "delta.constraints.a_is_null": "`a` IS NOT NULL"}
    succeed(lake, write_nights(make_attempt(lake), TABLE, frame((1, FIRST)), [FIRST], properties=small))
    wide = spark.createDataFrame([(100, "x", FIRST), (None, "y", FIRST)], "a bigint, split string, _night string")
    large = {**PLAIN, "delta.constraints.a_large": "`a` IS NULL OR `a` BETWEEN 50 AND 500"}
    rebuilt = write_nights(
        make_attempt(lake, key="k2"), TABLE, wide, [FIRST], properties=large, partition_by=["split"], rebuild=True
    )
    assert rebuilt == TableVersion(TABLE, 1)
    assertDataFrameEqual(read_version(spark, lake, TABLE, 1).orderBy("split"), wide, checkRowOrder=True)
    assertDataFrameEqual(written(spark, lake, 0), frame((1, FIRST)), checkRowOrder=True)
    metadata = log.open_table(lake.path(TABLE)).metadata()
    assert metadata.partition_columns == ["split"]
    assert {key for key in metadata.configuration if "constraints" in key} == {"delta.constraints.a_large"}
    succeed(lake, rebuilt)
    bad = spark.createDataFrame([(7, "x", FIRST)], wide.schema)
    with pytest.raises(Exception, match="a_large"):
        write_nights(make_attempt(lake, key="k3"), TABLE, bad, [FIRST])
    assert log.latest_version(lake.path(TABLE)) == 1


def test_a_killed_rebuild_is_undone_with_its_schema(spark: SparkSession, lake: Lake, frame: Callable[..., DataFrame]) -> None:
    tight = {**PLAIN, "delta.constraints.a_small": "a < 10"}
    succeed(lake, write_nights(make_attempt(lake), TABLE, frame((1, FIRST)), [FIRST], properties=tight))
    other = spark.createDataFrame([("x", FIRST)], "b string, _night string")
    write_nights(make_attempt(lake, key="killed"), TABLE, other, [FIRST], rebuild=True)
    done = write_nights(make_attempt(lake, key="k2"), TABLE, frame((2, SECOND)), [SECOND])
    assertDataFrameEqual(written(spark, lake, done.version), frame((1, FIRST), (2, SECOND)), checkRowOrder=True)
    with pytest.raises(Exception, match="a_small"):
        write_nights(make_attempt(lake, key="k3"), TABLE, frame((99, SECOND)), [SECOND])


def test_tables_are_written_as_plain_readers_can_read_them(lake: Lake, frame: Callable[..., DataFrame]) -> None:
    write_nights(make_attempt(lake), TABLE, frame((1, FIRST)), [FIRST])
    protocol = log.open_table(lake.path(TABLE)).protocol()
    assert (protocol.min_reader_version, protocol.reader_features) == (1, None)
    assert log.read_rows(lake.path(TABLE), columns=["a"]).to_pydict() == {"a": [1]}


def test_old_versions_stay_in_the_log(spark: SparkSession, lake: Lake, frame: Callable[..., DataFrame]) -> None:
    """Delta's checkpoints take entries of more than 30 days out of the log, and with them the versions that models name."""
    quick = {**PLAIN, "delta.checkpointInterval": "2"}
    for number in range(5):
        night = f"2026-11-{number + 1:02d}"
        succeed(
            lake, write_nights(make_attempt(lake, key=f"k{number}"), TABLE, frame((number, night)), [night], properties=quick)
        )
        for entry in Path(lake.path(TABLE), "_delta_log").iterdir():
            os.utime(entry, (1.6e9 + number, 1.6e9 + number))
    assert log.read_rows(lake.path(TABLE), version=0, columns=["a"]).to_pydict() == {"a": [0]}


def test_nights_of_a_wide_table_are_known(spark: SparkSession, lake: Lake) -> None:
    """Delta's log has statistics of 32 columns where nothing else is said, and `_night` is the last."""
    columns = {f"c{number}": number for number in range(60)}
    wide = spark.createDataFrame([{**columns, "_night": FIRST}]).select(*columns, "_night")
    write_nights(make_attempt(lake), TABLE, wide, [FIRST])
    assert log.nights_of(lake.path(TABLE)) == {FIRST}
    assert log.num_rows(lake.path(TABLE), 0, [SECOND]) == 0
