"""The index: the files of a pinned version, in an order that does not depend on their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake

from millrace.errors import LakeError
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
        {"min._night": night, "path": name.format(part=part, counter=counter, uuid=uuid)}
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
