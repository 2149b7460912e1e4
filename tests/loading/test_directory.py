"""Directories of plain Parquet files, on disk and on other stores."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from millrace.config.training import LoadingConfig
from millrace.errors import LakeError
from millrace.loading.columns import ColumnSpec
from millrace.loading.directory import build_directory_index
from millrace.loading.index import DatasetIndex, RowGroup
from millrace.loading.pool import Readers

NUMBER = ColumnSpec(name="number", dtype="int64")


def numbers(index: DatasetIndex, loading: LoadingConfig) -> list[int]:
    with Readers([NUMBER], num_threads=2, loading=loading).in_order(index, range(len(index.row_groups))) as groups:
        return [number for _, values in groups for number in values["number"].tolist()]


def test_row_groups_in_the_order_of_paths(numbered_files):
    uri = numbered_files([3, 4], [5])
    for name in ("_SUCCESS", ".hidden.parquet", "_temporary.parquet", "notes.txt"):
        Path(uri, name).write_text("no Parquet")
    index = build_directory_index(uri, partitions={})
    assert index.files == (f"{uri}/part-000.parquet", f"{uri}/part-001.parquet")
    assert index.row_groups == (RowGroup(0, 0, 3), RowGroup(0, 1, 4), RowGroup(1, 0, 5))
    assert index.version is None
    assert build_directory_index(f"file://{uri}/", partitions={}).row_groups == index.row_groups
    assert build_directory_index(f"{uri}/part-001.parquet", partitions={}).row_groups == (RowGroup(0, 0, 5),)
    assert DatasetIndex.from_json(index.to_json()) == index


def test_fingerprint_changes_with_a_file(numbered_files):
    uri = numbered_files([3], [5])
    before = build_directory_index(uri, partitions={}).fingerprint()
    assert build_directory_index(uri, partitions={}).fingerprint() == before
    path = Path(uri, "part-001.parquet")
    path.write_bytes(path.read_bytes())
    assert build_directory_index(uri, partitions={}).fingerprint() != before


def test_partitions_by_directory_names(numbered_files, tmp_path):
    for split, night in (("train", "a b"), ("train", "c"), ("test", "c")):
        folder = tmp_path / "gold" / f"split={split}" / f"_night={night.replace(' ', '%20')}"
        folder.mkdir(parents=True)
        source = Path(numbered_files([len(split)], name=f"{split}-{night}"), "part-000.parquet")
        source.rename(folder / "data.parquet")
    uri = str(tmp_path / "gold")
    assert build_directory_index(uri, partitions={}).num_rows == 14
    assert build_directory_index(uri, partitions={"split": "train"}).num_rows == 10
    assert build_directory_index(uri, partitions={"split": "train", "_night": "a b"}).num_rows == 5
    assert build_directory_index(uri, partitions={"split": "other"}).num_rows == 0
    with pytest.raises(LakeError) as caught:
        build_directory_index(uri, partitions={"fold": "1"})
    assert str(caught.value) == (
        f"index: expected directories of {uri} called after fold; found partition columns ['_night', 'split']. "
        "Ask only for partition columns, or write the files partitioned by them."
    )


@pytest.mark.parametrize("address", ["nothing", "empty", "unknown://x/y"])
def test_nothing_there_is_refused(tmp_path, address):
    (tmp_path / "empty").mkdir()
    uri = address if "://" in address else str(tmp_path / address)
    with pytest.raises(LakeError) as caught:
        build_directory_index(uri, partitions={})
    assert caught.value.expected == f"a Delta table, a Parquet file or a directory of Parquet files at {uri}"
    assert (
        caught.value.remedy
        == "Check the address; Parquet files end with .parquet, and those that begin with _ or . are passed over."
    )


def test_damaged_file_is_named(numbered_files):
    uri = numbered_files([3])
    Path(uri, "part-001.parquet").write_bytes(b"no Parquet at all")
    with pytest.raises(LakeError, match=rf"expected the Parquet file {uri}/part-001.parquet that was listed; found "):
        build_directory_index(uri, partitions={})


def test_threads_read_a_store_in_memory(numbered_files):
    store = fsspec.filesystem("memory")
    store.put(numbered_files([3, 4], [5]), "/gold", recursive=True)
    try:
        index = build_directory_index("memory://gold", partitions={})
        assert index.files[0] == "memory://gold/part-000.parquet"
        assert numbers(index, LoadingConfig()) == list(range(12))
    finally:
        store.rm("/gold", recursive=True)


def test_processes_read_a_store_through_fsspec(numbered_files):
    """local:// is fsspec's own protocol for a disk: not opened by path, unlike file://."""
    index = build_directory_index(f"local://{numbered_files([3, 4], [5])}", partitions={})
    assert index.files[0].startswith("local:///")
    assert numbers(index, LoadingConfig(pool="processes", num_readers=1)) == list(range(12))
