"""Directories of plain Parquet files, on disk and on other stores."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from deltalake import write_deltalake
from fsspec.implementations.memory import MemoryFileSystem

from millrace.config.training import LoadingConfig
from millrace.errors import LakeError
from millrace.loading.columns import ColumnSpec
from millrace.loading.directory import build_directory_index
from millrace.loading.index import DatasetIndex, RowGroup
from millrace.loading.opening import open_index
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
    assert (
        build_directory_index(uri, partitions={}).num_rows == build_directory_index(f"file://{uri}", partitions={}).num_rows == 14
    )
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


@pytest.fixture
def overwritten(digits_table, make_rows) -> str:
    """A Delta table of 5 rows, which were 10 others before; all files are still there."""
    uri = digits_table(10)
    write_deltalake(uri, make_rows(10, 5), mode="overwrite", partition_by=["split"])
    return uri


@pytest.mark.parametrize("place", ["/split=train", "/split=train/", "/..", "/../link", "/FILE"])
def test_files_of_a_delta_table_are_no_plain_files(overwritten, tmp_path, place):
    """Its partition, the directory around it, a link into it, one of its files: its log says that 10 of the 15 rows are gone."""
    assert open_index(overwritten, partitions={"split": "train"}).num_rows == 5
    (tmp_path / "link").symlink_to(f"{overwritten}/split=train")
    file = next(Path(overwritten).glob("split=train/*.parquet")).relative_to(overwritten)
    uri = overwritten + place.replace("FILE", str(file))
    table = f"{uri}/gold" if place == "/.." else overwritten
    with pytest.raises(LakeError) as caught:
        open_index(uri, partitions={})
    assert str(caught.value) == (
        f"index: expected Parquet files at {uri} that belong to no Delta table, or a Delta table's own address; "
        f"found files of the Delta table {table}, perhaps with rows that were removed from it. "
        f'dataset("{table}") reads its rows; partitions={{"split": "train"}} chooses among them.'
    )


def test_several_delta_tables_are_counted(overwritten, tmp_path):
    shutil.copytree(overwritten, tmp_path / "silver")
    with pytest.raises(LakeError, match=rf"found files of the Delta table {tmp_path}/gold and 1 more, perhaps"):
        open_index(str(tmp_path), partitions={})


def test_delta_table_is_found_above_in_a_store(overwritten):
    with pytest.raises(LakeError, match=rf"found files of the Delta table file://{overwritten}, perhaps"):
        open_index(f"local://{overwritten}/split=train", partitions={})


class _Store(MemoryFileSystem):
    """Answers with `error` where a path ends like `silent`."""

    protocol = "refusing"
    store: ClassVar = {}
    error: ClassVar[Exception] = OSError()
    silent = ""

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("refusing://", "memory://"))

    def info(self, path, **options):
        if path.endswith(self.silent):
            raise self.error
        return super().info(path, **options)


@pytest.fixture
def store_of_files(numbered_files, monkeypatch) -> str:
    fsspec.register_implementation("refusing", _Store, clobber=True)
    monkeypatch.setattr(_Store, "store", {})
    _Store().put(numbered_files([3]), "/lake/gold", recursive=True)
    return "refusing://lake/gold"


@pytest.mark.parametrize(("error", "retry"), [(TimeoutError("slow"), True), (OSError("denied"), False), (KeyError("own"), False)])
def test_store_that_does_not_answer_is_not_a_store_without_a_delta_log(store_of_files, monkeypatch, error, retry):
    monkeypatch.setattr(_Store, "error", error)
    monkeypatch.setattr(_Store, "silent", "/gold/_delta_log")
    with pytest.raises(LakeError) as caught:
        open_index(store_of_files, partitions={})
    assert str(caught.value) == (
        f"index: expected to see whether refusing://lake/gold/_delta_log is there; found {type(error).__name__}: {error}. "
        "Check the address, the permission to list it, and that the store answers."
    )
    assert caught.value.retry is retry


def test_directory_above_that_may_not_be_looked_at_is_said(store_of_files, monkeypatch, caplog):
    monkeypatch.setattr(_Store, "error", PermissionError("403"))
    monkeypatch.setattr(_Store, "silent", "/lake/_delta_log")
    assert open_index(store_of_files, partitions={}).num_rows == 3
    assert caplog.messages == [
        "refusing://lake/gold is read as plain files: whether refusing:///lake is a Delta table may not be looked at"
    ]
