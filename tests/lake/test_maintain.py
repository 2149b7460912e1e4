"""What maintenance keeps and removes, on real Delta tables written without Spark."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from millrace.errors import LakeError
from millrace.lake import log, maintain, small
from millrace.lake.layout import MODELS, Lake
from millrace.lake.ledger import Inputs, Ledger, TableVersion
from millrace.lake.protocol import run_step
from millrace.lake.versions import no_session, versions_of
from tests.factories import make_run, make_step, succeed

GOLD = "gold/tiny"


def write(lake: Lake, table: str, *numbers: int, mode: str = "overwrite") -> int:
    write_deltalake(
        lake.path(table), pa.table({"a": list(numbers), "split": ["train"] * len(numbers)}), mode=mode, partition_by=["split"]
    )
    version = log.latest_version(lake.path(table))
    assert version is not None
    return version


def rows(lake: Lake, table: str, version: int) -> list[int]:
    return sorted(log.read_rows(lake.path(table), version=version).column("a").to_pylist())


def unneeded(lake: Lake, table: str, *pinned: int, days: float = 0.0) -> maintain.Unneeded:
    return maintain.unneeded_files(lake, table, pinned, since=datetime.now(UTC) - timedelta(days=days))


def register(lake: Lake, dataset_version: int) -> None:
    row = {
        "pipeline": "tiny",
        "version": 1,
        "run_id": "r",
        "stage": "archived",
        "artifact": "x",
        "sha256": None,
        "signature": None,
        "lineage": {"dataset": GOLD, "dataset_version": str(dataset_version)},
        "metrics": None,
        "registered_at": datetime.now(UTC),
    }
    small.append(lake, MODELS, [row], metadata={})


def test_only_files_of_kept_versions_stay(lake: Lake) -> None:
    for number in range(4):
        write(lake, GOLD, number)
    stray = Path(lake.path(GOLD), "part-00000-of-a-killed-job.parquet")
    stray.write_bytes(b"PAR1")
    found = unneeded(lake, GOLD, 1)
    assert len(found.paths) == 3  # of versions 0 and 2, and the stray
    assert str(stray) in found.paths
    assert found.num_bytes == sum(Path(path).stat().st_size for path in found.paths)
    maintain.remove(found)
    assert [rows(lake, GOLD, version) for version in (1, 3)] == [[1], [3]]
    with pytest.raises(FileNotFoundError):
        rows(lake, GOLD, 0)
    assert unneeded(lake, GOLD, 1).paths == ()


def test_a_path_that_repeats_the_tables_name(tmp_path: Path) -> None:
    lake = Lake.at(str(tmp_path / GOLD / "a lake ü%20"))
    write(lake, GOLD, 1)
    write(lake, GOLD, 2)
    assert len(unneeded(lake, GOLD).paths) == 1
    maintain.remove(unneeded(lake, GOLD))
    assert rows(lake, GOLD, 1) == [2]


def test_versions_within_the_retention_stay(lake: Lake) -> None:
    for number in range(3):
        write(lake, GOLD, number)
    assert unneeded(lake, GOLD, days=1.0).paths == ()
    since = datetime.now(UTC)
    time.sleep(0.01)
    write(lake, GOLD, 9)
    table = versions_of(lake, GOLD, no_session)
    assert maintain.kept_versions(table, [0], since=since) == {0, 2, 3}  # 2 was the newest until just now
    assert maintain.kept_versions(table, [77], since=datetime.now(UTC)) == {3}  # of a table that was there before


def test_young_files_stay_whoever_wrote_them(lake: Lake) -> None:
    write(lake, GOLD, 1)
    stray = Path(lake.path(GOLD), "part-00000-being-written.parquet")
    stray.write_bytes(b"PAR1")
    assert unneeded(lake, GOLD, days=1.0).paths == ()
    os.utime(stray, (0, 0))
    assert unneeded(lake, GOLD, days=1.0).paths == (str(stray),)


def test_nothing_goes_where_a_pinned_version_cannot_be_read(lake: Lake) -> None:
    for number in range(3):
        write(lake, GOLD, number)
    Path(lake.path(GOLD), "_delta_log", f"{1:020d}.json").write_text("{broken")
    with pytest.raises(LakeError) as caught:
        unneeded(lake, GOLD, 1)
    assert caught.value.expected == "a log that tells the files of every version of gold/tiny that is still needed"
    assert len(list(Path(lake.path(GOLD)).rglob("split=train/*.parquet"))) == 3


def test_log_change_data_and_deletion_vectors_are_left_alone(lake: Lake) -> None:
    write(lake, GOLD, 1)
    others = ["_change_data/cdc-0.parquet", "deletion_vector_1.bin", "_delta_log/x.checkpoint.parquet", ".hidden.parquet"]
    for name in others:
        path = Path(lake.path(GOLD), name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert unneeded(lake, GOLD).paths == ()


def test_what_is_pinned(lake: Lake) -> None:
    used = [TableVersion(GOLD, version) for version in range(6)]
    succeed(lake, used[0], name="preprocess")
    succeed(lake, used[5], name="preprocess")
    run_step(lake, make_run(), make_step("train", sections=["old"], inputs=Inputs((used[1],))))
    run_step(lake, make_run(), make_step("train", sections=["new"], inputs=Inputs((used[2],))))
    with pytest.raises(RuntimeError):
        run_step(lake, make_run(), make_step("publish", inputs=Inputs((used[3],)), error=RuntimeError("no")))
    register(lake, 4)
    assert maintain.pinned_versions(lake, Ledger.read(lake)) == {used[2], used[4], used[5]}
    ledger = Ledger.read(lake)
    killed = Ledger(lake, tuple(entry for entry in ledger.entries if entry.status != "failed"))
    assert maintain.pinned_versions(lake, killed) == {used[2], used[3], used[4], used[5]}


def test_small_files_are_put_together_and_old_versions_stay(lake: Lake) -> None:
    for number in range(5):
        write(lake, "silver/tiny", number, mode="append")
    assert maintain.num_small_files(lake, "silver/tiny") == 5
    assert maintain.compact(lake, "silver/tiny", metadata={"run_id": "r"}) == 5
    assert maintain.num_small_files(lake, "silver/tiny") == 1
    assert [rows(lake, "silver/tiny", version) for version in (2, 5)] == [[0, 1, 2], [0, 1, 2, 3, 4]]
    assert log.user_metadata(lake.path("silver/tiny"), 5) == {"run_id": "r"}
    assert maintain.compact(lake, "silver/tiny", metadata={"run_id": "r"}) == 5  # nothing is left to do
    assert maintain.compact(lake, "silver/none", metadata={}) is None


def test_zorder_sorts_by_the_columns(lake: Lake) -> None:
    for numbers in ((3, 1), (2, 9), (0, 5)):
        write(lake, "silver/tiny", *numbers, mode="append")
    version = maintain.compact(lake, "silver/tiny", zorder=["a"], metadata={})
    assert log.read_rows(lake.path("silver/tiny"), version=version).column("a").to_pylist() == [0, 1, 2, 3, 5, 9]


def test_unfinished_and_superseded_artifacts(lake: Lake) -> None:
    names = ["run/model.ckpt", "run/model.ckpt.0a.tmp", "indexes/gold-id-1-train.json", "indexes/gold-id-2-train.json"]
    for name in [*names, "run/indexes/gold-id-1-train.json"]:
        path = Path(lake.artifacts("tiny", name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    now = datetime.now(UTC)
    found = maintain.unneeded_artifacts(lake, "tiny", {("id", 2)}, since=now)
    assert [path.removeprefix(lake.uri) for path in found.paths] == [
        "/artifacts/tiny/indexes/gold-id-1-train.json",
        "/artifacts/tiny/run/model.ckpt.0a.tmp",
    ]
    assert maintain.unneeded_artifacts(lake, "tiny", set(), since=now - timedelta(days=1)).paths == ()
