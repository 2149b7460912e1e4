"""Addresses, the layout's mark, and lakes that cannot be read or written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from millrace.errors import LakeError
from millrace.lake import artifacts
from millrace.lake.layout import LAYOUT_VERSION, Lake


def refusal(lake: Lake) -> str:
    with pytest.raises(LakeError) as caught:
        lake.open_for_writing()
    assert caught.value.exit_code == 2
    return str(caught.value).replace(lake.uri, "LAKE")


def test_address_with_a_password_is_refused_without_saying_it() -> None:
    with pytest.raises(LakeError) as caught:
        Lake.at("s3a://key:hunter2@bucket/lake")
    assert str(caught.value) == (
        "lake: expected an address without a password or token, because it is kept in tables and logs; "
        "found s3a://key:***@bucket/lake. "
        "Leave it to the store's own environment or files, such as ~/.aws/credentials, or to Spark's settings."
    )


@pytest.mark.parametrize(
    ("address", "uri", "spark_path"),
    [
        ("/data/lake", "/data/lake", "file:///data/lake/silver/x"),
        ("/data/my lake/", "/data/my lake", "file:///data/my lake/silver/x"),
        ("file:///data/my%20lake", "/data/my lake", "file:///data/my lake/silver/x"),
        ("/data/a%20b", "/data/a%20b", "file:///data/a%20b/silver/x"),
        ("s3a://bucket/lake/", "s3a://bucket/lake", "s3a://bucket/lake/silver/x"),
        ("hdfs://name:8020/lake", "hdfs://name:8020/lake", "hdfs://name:8020/lake/silver/x"),
    ],
)
def test_addresses(address: str, uri: str, spark_path: str) -> None:
    lake = Lake.at(address)
    assert (lake.uri, lake.is_local) == (uri, uri.startswith("/"))
    assert lake.path("silver/x") == f"{uri}/silver/x"
    assert lake.spark_path("silver/x") == spark_path
    assert lake.artifacts("p", "r", "log.jsonl") == f"{uri}/artifacts/p/r/log.jsonl"


def test_relative_paths_start_at_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Lake.at("lake").uri == str(tmp_path / "lake")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("  ", "lake: expected --lake PATH or URI; found nothing. For example --lake ./lake."),
        ("/a#b", "lake: expected a path without # and ?; found /a#b. The Delta readers take them for a URI's."),
    ],
)
def test_addresses_that_are_none(address: str, message: str) -> None:
    with pytest.raises(LakeError) as caught:
        Lake.at(address)
    assert str(caught.value) == message


def test_a_lake_is_made_once(lake: Lake) -> None:
    lake.check()  # not there yet, which is fine
    assert not Path(lake.uri).exists()
    lake.open_for_writing()
    lake.open_for_writing()
    assert json.loads(Path(lake.path("_millrace.json")).read_text()) == {"layout_version": LAYOUT_VERSION}
    assert [path.name for path in Path(lake.uri).iterdir()] == ["_millrace.json"]


def test_a_newer_layout_is_refused(lake: Lake) -> None:
    artifacts.write_json(lake.path("_millrace.json"), {"layout_version": 2})
    assert refusal(lake) == (
        "lake: expected a lake of layout version 1 or older at LAKE; found version 2. "
        "A newer Millrace has made it: use that one, or another --lake."
    )


@pytest.mark.parametrize("text", ["", "[]", '{"layout_version": "x"}', "{}"])
def test_a_broken_mark_is_refused(lake: Lake, text: str) -> None:
    artifacts.write_text(lake.path("_millrace.json"), text)
    assert refusal(lake) == "lake: expected a readable _millrace.json; found something else. Restore it from a backup."


def test_a_file_in_the_place_of_the_lake(lake: Lake) -> None:
    Path(lake.uri).write_text("a file")
    assert refusal(lake) == (
        "lake: expected to read LAKE; found that the system refuses it (not a directory). Check the path and its permissions."
    )


def test_a_file_above_the_lake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    assert refusal(Lake.at(str(tmp_path / "file" / "lake"))) == (
        "lake: expected to read LAKE; found that the system refuses it (not a directory). Check the path and its permissions."
    )


def test_a_file_system_that_takes_no_writes() -> None:
    """/proc refuses new directories to root as well, which permissions do not."""
    assert refusal(Lake.at("/proc/millrace/lake")) == (
        "lake: expected to write LAKE; found that the system refuses it (no such file or directory). "
        "Check the path and its permissions."
    )


def test_what_a_store_has_kept_half_gets_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that says it has fewer bytes than it was given: what stood before stays."""
    artifacts.write_text("memory://torn/x.json", "before")
    monkeypatch.setattr(MemoryFileSystem, "size", lambda *_: 3)
    with pytest.raises(OSError, match=r"^/torn/x\.json\.[0-9a-f]{32}\.tmp has 3 bytes of 5 that were written$"):
        artifacts.write_text("memory://torn/x.json", "after")
    assert artifacts.read_text("memory://torn/x.json") == "before"


def test_artifacts_are_whole_or_not_there(lake: Lake) -> None:
    uri = lake.artifacts("p", "r", "x.json")
    artifacts.write_json(uri, {"b": [1], "a": "ü"})
    assert artifacts.read_json(uri) == {"a": "ü", "b": [1]}
    artifacts.write_text(uri, "{")
    with pytest.raises(LakeError) as caught:
        artifacts.read_json(uri)
    assert str(caught.value).startswith(f"artifacts: expected JSON in {uri}; found Expecting property name")
    with pytest.raises(TypeError):
        artifacts.write_json(uri, {"x": object()})
    assert artifacts.read_text(uri) == "{"  # a failed write leaves what was there, and nothing beside it
    assert [path.name for path in Path(uri).parent.iterdir()] == ["x.json"]


def test_a_missing_artifact(lake: Lake) -> None:
    with pytest.raises(LakeError) as caught:
        artifacts.read_text(lake.path("x"))
    assert str(caught.value) == (
        f"artifacts: expected the file {lake.path('x')}; found none. Run the step that writes it, with --force."
    )
