"""The index: the files of a pinned version, in an order that does not depend on their names."""

from __future__ import annotations

import json
import shutil
import time
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from millrace.errors import LakeError
from millrace.loading.directory import build_directory_index
from millrace.loading.index import DatasetIndex, RowGroup, _file_order, build_index


def test_rows_of_the_pinned_version_only(digits_table):
    uri = digits_table(10, 20, 30, max_rows=16)
    index = build_index(uri, version=1, partitions={"split": "train"})
    assert index.row_groups == (RowGroup(0, 0, 10), RowGroup(1, 0, 16), RowGroup(1, 1, 4))
    assert [Path(file).is_file() for file in index.files] == [True, True]
    assert index.num_rows == 30
    assert build_index(uri, version=2, partitions={"split": "train"}).num_rows == 60


def test_only_the_partition_that_was_asked_for(digits_table, make_rows):
    uri = digits_table(10)
    write_deltalake(uri, make_rows(100, 5, split="validation"), mode="append", partition_by=["split"])
    assert build_index(uri, version=1, partitions={"split": "validation"}).num_rows == 5
    assert build_index(uri, version=1, partitions={}).num_rows == 15
    assert build_index(uri, version=1, partitions={"split": "test"}).num_rows == 0


def test_rewritten_night_keeps_its_place(digits_table, make_rows):
    """The second of three nights is written again; its file is the newest now and stays the second."""
    uri = digits_table(10, 20, 30)
    before = build_index(uri, version=2, partitions={"split": "train"})
    again = make_rows(10, 20, night="2026-11-02")
    write_deltalake(uri, again, mode="overwrite", predicate="_night = '2026-11-02'", partition_by=["split"])
    after = build_index(uri, version=3, partitions={"split": "train"})
    assert [group.num_rows for group in after.row_groups] == [10, 20, 30]
    assert (after.files[0], after.files[2]) == (before.files[0], before.files[2])
    assert after.files[1] != before.files[1]
    assert after.fingerprint() != before.fingerprint()


def test_files_are_ordered_by_night_part_and_counter():
    name = "split=train/part-{part:05d}-{uuid}.c{counter:03d}.snappy.parquet"
    adds = [
        {
            "min._night": night,
            "path": name.format(part=part, counter=counter, uuid=uuid),
            "modification_time": datetime(2026, 1, 1),
        }
        for night, part, counter, uuid in [
            ("2026-11-02", 0, 0, "aaaaaaaa-0000-0000-0000-000000000000"),
            ("2026-11-01", 10, 0, "bbbbbbbb-0000-0000-0000-000000000000"),
            ("2026-11-01", 2, 1, "cccccccc-0000-0000-0000-c00900000000"),
            ("2026-11-01", 2, 0, "dddddddd-0000-0000-0000-000000000000"),
        ]
    ]
    assert [_file_order(add)[:3] for add in sorted(adds, key=_file_order)] == [
        ("2026-11-01", 2, 0),
        ("2026-11-01", 2, 1),
        ("2026-11-01", 10, 0),
        ("2026-11-02", 0, 0),
    ]


def test_files_without_nights_are_in_the_order_of_their_time(tmp_path):
    """The log alone says it: as written, from a checkpoint of the log, and whatever the files' names are."""
    uri = str(tmp_path / "table")
    for number in range(8):
        write_deltalake(uri, pa.table({"number": [number]}), mode="append")
        time.sleep(0.002)
    before = build_index(uri, version=7, partitions={})
    assert [pq.read_table(file)["number"].to_pylist() for file in before.files] == [[number] for number in range(8)]
    DeltaTable(uri).create_checkpoint()
    for number in range(7):
        Path(uri, "_delta_log", f"{number:020d}.json").unlink()
    assert build_index(uri, version=7, partitions={}) == before


def test_partitions_come_before_the_time():
    """A night that is written again keeps its place in each partition, whichever of them is written first."""
    path = "split={split}/part-00000-aaaaaaaa-0000-0000-0000-000000000000.c000.snappy.parquet"
    times = {"validation": datetime(2026, 1, 1), "train": datetime(2026, 1, 2)}
    adds = [
        {"min._night": "2026-11-01", "partition.split": split, "path": path.format(split=split), "modification_time": at}
        for split, at in times.items()
    ]
    assert [add["partition.split"] for add in sorted(adds, key=_file_order)] == ["train", "validation"]


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        (pa.array([2024, 2025], pa.int32()), 2024, "2024"),
        (pa.array([True, False]), True, "true"),
        (pa.array([date(2026, 1, 1), date(2026, 1, 2)]), date(2026, 1, 1), "2026-01-01"),
        (
            pa.array([datetime(2026, 1, 1, 5, 0, 0, 123456), None], pa.timestamp("us", "UTC")),
            datetime(2026, 1, 1, 5, 0, 0, 123456, tzinfo=UTC),
            "2026-01-01 05:00:00.123456",
        ),
        (pa.array([None, "a"]), None, "__HIVE_DEFAULT_PARTITION__"),
    ],
    ids=["number", "truth", "date", "time", "null"],
)
def test_partition_values_are_asked_for_as_directories_spell_them(tmp_path, column, value, text):
    """As text or as themselves, of a Delta table and of plain files the same."""
    uri = str(tmp_path / "table")
    write_deltalake(uri, pa.table({"y": column, "number": [1, 2]}), partition_by=["y"])
    indexes = [build_index(uri, version=0, partitions={"y": asked}) for asked in (value, text)]
    assert [index.num_rows for index in indexes] == [1, 1]
    assert indexes[0].fingerprint() == indexes[1].fingerprint()
    assert DatasetIndex.from_json(indexes[0].to_json()) == indexes[0]
    shutil.rmtree(Path(uri, "_delta_log"))
    assert [build_directory_index(uri, partitions={"y": asked}).num_rows for asked in (value, text)] == [1, 1]


def test_index_survives_json(digits_table):
    index = build_index(digits_table(10, 20), version=1, partitions={"split": "train"})
    assert DatasetIndex.from_json(index.to_json()) == index


def test_other_json_is_refused():
    with pytest.raises(LakeError) as caught:
        DatasetIndex.from_json('{"format": 9}')
    assert str(caught.value) == (
        "index: expected a dataset index of format 1; found ValueError: format 9. "
        "Build the index again with this version of Millrace."
    )


def test_missing_table_is_refused(tmp_path):
    with pytest.raises(LakeError, match=r"found no Delta table .* Check the address, and run the step that writes it\."):
        build_index(str(tmp_path / "nothing"), version=0, partitions={})


def test_missing_version_is_refused(digits_table):
    with pytest.raises(LakeError, match=r"version 7, of plain Parquet files; found .* take one that DESCRIBE HISTORY lists"):
        build_index(digits_table(10), version=7, partitions={})


def test_unknown_partition_column_is_refused(digits_table):
    uri = digits_table(10)
    with pytest.raises(LakeError) as caught:
        build_index(uri, version=0, partitions={"fold": "1"})
    assert str(caught.value) == (
        f"index: expected a Delta table at {uri}, version 0, of plain Parquet files; "
        "found partition columns ['split'], not fold. Ask only for partition columns, or write the table partitioned by them."
    )


@pytest.mark.parametrize(
    ("feature", "remedy"),
    [
        ("deletionVectors", r"REORG TABLE \.\.\. APPLY \(PURGE\), then ALTER TABLE \.\.\. DROP FEATURE deletionVectors"),
        ("typeWidening", r"Drop the feature with ALTER TABLE \.\.\. DROP FEATURE"),
    ],
)
def test_reader_features_that_hide_rows_are_refused(digits_table, feature, remedy):
    uri = digits_table(10)
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [feature], "writerFeatures": [feature]}
    (Path(uri) / "_delta_log" / f"{1:020d}.json").write_text(json.dumps({"protocol": protocol}) + "\n")
    with pytest.raises(LakeError, match=rf"found .*{feature}.* {remedy}"):
        build_index(uri, version=1, partitions={})


def test_vacuumed_file_is_named(digits_table):
    uri = digits_table(10)
    file = Path(DeltaTable(uri).file_uris()[0])
    file.unlink()
    with pytest.raises(LakeError) as caught:
        build_index(uri, version=0, partitions={})
    assert caught.value.expected == f"the Parquet file {file} that the Delta log names"
    assert caught.value.remedy == "The version may have been vacuumed or the file damaged: write the table again."


def test_file_scheme_reads_the_same(digits_table):
    uri = digits_table(10)
    with_scheme = build_index(f"file://{uri}", version=0, partitions={})
    assert with_scheme.row_groups == build_index(uri, version=0, partitions={}).row_groups
    assert with_scheme.files[0].startswith("file://")
