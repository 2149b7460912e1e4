"""What goes to the screen and to the log file, and what never does."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace import observe


@pytest.fixture(autouse=True)
def _own_handlers() -> Iterator[None]:
    before = list(observe.LOG.handlers), observe.LOG.level, observe.LOG.propagate
    yield
    observe.LOG.handlers[:], observe.LOG.level, observe.LOG.propagate = before


def logged(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("jdbc:postgresql://me:hunter2@host/db", "jdbc:postgresql://me:***@host/db"),
        ("s3a://key:sec+ret@bucket/path and more", "s3a://key:***@bucket/path and more"),
        ("s3a://key:sec/ret@bucket/path", "s3a://key:***@bucket/path"),
        ("hdfs://host:8020/me@home and http://[::1]:80/a@b", "hdfs://host:8020/me@home and http://[::1]:80/a@b"),
        ('{"a": "s3://host:name", "b": "me@home"}', '{"a": "s3://host:name", "b": "me@home"}'),
        ("password=hunter2, next", "password=***, next"),
        ("DB_PASSWORD: hunter2", "DB_PASSWORD: ***"),
        ('{"api_key": "abc", "epochs": 5}', '{"api_key": "***", "epochs": 5}'),
        ("?sig=abc%3D&se=2026", "?sig=***&se=2026"),
        ("fs.s3a.access.key", "fs.s3a.access.key"),
        ("http://host:8080/path", "http://host:8080/path"),  # a port is no password
        ("it has 5 rows", "it has 5 rows"),
    ],
)
def test_mask(text: str, masked: str) -> None:
    assert observe.mask(text) == masked


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("s3://key:hunter2@bucket/lake", True),
        ("simplecache::s3://key:hunter2@bucket", True),
        ("https://host/path?sv=1&sig=abc", True),
        ("https://host/path?X-Amz-Signature=abc", True),
        ("https://host/path?token=abc", True),
        ("https://host/path?page=2", False),
        ("abfss://container@account.dfs.core.windows.net/lake", False),
        ("hdfs://host:8020/user/me@home", False),
        ("s3://bucket/token=abc/part", False),  # a partition of a table
        ("/data/a:b@c?token=1", False),
    ],
)
def test_addresses_with_credentials(address: str, expected: bool) -> None:
    assert observe.has_credentials(address) is expected


def test_values_of_secret_environment_variables_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKE_SECRET", "tr0ub4dor")
    monkeypatch.setenv("LAKE_TOKEN", "short")  # shorter than 6: would blot out ordinary words
    monkeypatch.setenv("LAKE_NAME", "ordinary")
    assert observe.mask("tr0ub4dor short ordinary") == "*** short ordinary"


def test_log_file_holds_a_json_object_a_record(tmp_path: Path) -> None:
    observe.configure()
    path = tmp_path / "run" / "log.jsonl"
    with observe.log_file(path):
        observe.say("ingested", num_rows=3, path=tmp_path)
        observe.warn("odd")
        observe.note("timing", name="session", seconds=1.5)
        assert len(logged(path)) == 3  # written at once, for a run that is killed
    observe.say("afterwards")
    first, second, third = logged(path)
    assert first.pop("time").endswith("+00:00")
    assert first == {"level": "info", "event": "message", "message": "ingested", "num_rows": 3, "path": str(tmp_path)}
    assert (second["level"], second["message"]) == ("warning", "odd")
    assert (third["event"], third["name"], third["seconds"]) == ("timing", "session", 1.5)


def test_log_file_masks_before_it_escapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = 'pä"ss\\wörd'  # noqa: S105
    monkeypatch.setenv("DB_PASSWORD", secret)
    observe.configure()
    with observe.log_file(tmp_path / "log.jsonl"):
        observe.say(f"login with {secret}", nested=[{"url": "s3://a:b@c", "token": secret}], error='password: "abc"')
    (record,) = logged(tmp_path / "log.jsonl")
    assert record["message"] == "login with ***"
    assert record["nested"] == [{"url": "s3://a:***@c", "token": "***"}]
    assert record["error"] == 'password: "***"'


def test_plain_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    observe.configure()
    observe.configure()  # twice is once
    observe.say("password=hunter2 [red]and[/red] more")
    observe.note("timing", name="unseen", seconds=1)
    observe.LOG.debug("unseen")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["info    password=*** [red]and[/red] more"]


def test_progress_is_a_line_every_few_seconds_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    observe.configure()
    screen = next(handler for handler in observe.LOG.handlers if isinstance(handler, observe.Screen))
    screen._said_at = float("-inf")
    for step in range(5):
        screen.progress(f"step {step}", every_seconds=60)
    assert [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()] == ["info    step 0"]


def test_quiet_progress_ends_with_its_block() -> None:
    assert not observe.is_quiet()
    with pytest.raises(ValueError, match="inside"), observe.quiet_progress():
        assert observe.is_quiet()
        raise ValueError("inside")
    assert not observe.is_quiet()


def test_timed_notes_seconds_also_of_what_fails(tmp_path: Path) -> None:
    observe.configure()
    with observe.log_file(tmp_path / "log.jsonl"), pytest.raises(ValueError, match="inside"), observe.timed("step/x"):
        raise ValueError("inside")
    (record,) = logged(tmp_path / "log.jsonl")
    assert (record["event"], record["name"]) == ("timing", "step/x")
    assert record["seconds"] >= 0.0


def test_py4j_is_silent() -> None:
    observe.configure()
    assert logging.getLogger("py4j").level == logging.CRITICAL
