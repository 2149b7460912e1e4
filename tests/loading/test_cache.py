"""The cache: what it gives is what was put in, it keeps to its bound, and damage counts as absence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from millrace.config.training import LoadingConfig
from millrace.errors import ConfigError, LakeError, SecurityError
from millrace.loading.cache import RowGroupCache
from millrace.loading.columns import ColumnSpec
from millrace.loading.opening import open_index
from millrace.loading.pool import Readers

NUMBER = ColumnSpec(name="number", dtype="int64")


def entries(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.rows"))


def fill(cache: RowGroupCache, key: str, value: int, *, size: int = 1000) -> int:
    return int(cache.get(key, lambda: {"a": np.full(size, value, dtype=np.uint8)})["a"][0])


def test_second_time_nothing_is_made(tmp_path):
    cache = RowGroupCache(str(tmp_path), 10**6)
    assert [fill(cache, "a", 1), fill(cache, "b", 2), fill(cache, "a", 3)] == [1, 2, 1]
    assert fill(RowGroupCache(str(tmp_path), 10**6), "b", 4) == 2


def test_bound_is_kept_and_the_longest_unused_goes(tmp_path):
    cache = RowGroupCache(str(tmp_path), 5000)
    for number in range(20):
        fill(cache, str(number), number)
        assert fill(cache, "0", 99) == 0  # used again and again, and so kept
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 5000
    assert len(entries(tmp_path)) >= 2
    fill(cache, "too big", 1, size=6000)
    assert fill(cache, "too big", 2, size=6000) == 2


@pytest.mark.parametrize("damage", ["torn", "empty", "one bit", "another format"])
def test_damaged_entry_is_made_again(tmp_path, damage):
    cache = RowGroupCache(str(tmp_path), 10**6)
    fill(cache, "a", 1)
    (path,) = entries(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "torn":
        content = content[:-100]
    elif damage == "empty":
        content = bytearray()
    elif damage == "one bit":
        content[-70] ^= 1
    else:
        content[:3] = b"old"
    path.write_bytes(content)
    assert [fill(cache, "a", 2), fill(cache, "a", 3)] == [2, 2]


def test_full_disk_keeps_nothing_and_goes_on(tmp_path, monkeypatch):
    cache = RowGroupCache(str(tmp_path), 10**6)
    (tmp_path / "partial").mkdir()  # the file cannot be written
    (tmp_path / "partial" / "x").touch()
    assert [fill(cache, "a", 1), fill(cache, "a", 2)] == [1, 2]


def test_directory_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        RowGroupCache(str(tmp_path / "file"), 1)
    assert caught.value.expected == f"cache_directory {tmp_path / 'file'} to be a local directory that can be written to"
    assert caught.value.remedy == "Name another directory, or leave cache_directory out."


@pytest.mark.parametrize(("mode", "owner"), [(0o770, 0), (0o707, 0), (0o700, 1)])
def test_directory_of_others_is_refused(tmp_path, monkeypatch, mode, owner):
    """Whoever can write there could put rows into a training."""
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + owner)
    directory = tmp_path / "rows"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(SecurityError) as caught:
        RowGroupCache(str(directory), 1)
    assert str(caught.value) == (
        f"load: expected cache_directory {directory} to be this user's own, and nobody else's to write to; "
        f"found mode {mode:o}, owner {user} where this user is {user + owner}. "
        "Name a directory that is not there yet, which is made with mode 700; or chmod go-w one of your own."
    )
    assert list(directory.iterdir()) == []


def test_directory_is_made_for_this_user_alone(tmp_path):
    RowGroupCache(str(tmp_path / "rows"), 1)
    assert (tmp_path / "rows").stat().st_mode & 0o777 == 0o700


def test_processes_share_a_directory(tmp_path):
    """Four processes fill and read the same small cache at once; each gets what belongs to its key, and the bound holds."""
    program = (
        "import sys, numpy as np; from millrace.loading.cache import RowGroupCache\n"
        "cache = RowGroupCache(sys.argv[1], 20_000)\n"
        "for turn in range(150):\n"
        "    key = turn * int(sys.argv[2]) % 31\n"
        "    got = cache.get(str(key), lambda: {'a': np.full(1000, key, dtype=np.uint8)})['a']\n"
        "    assert got.shape == (1000,) and (got == key).all()\n"
    )
    commands = [[sys.executable, "-c", program, str(tmp_path), str(step)] for step in (1, 3, 5, 7)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    assert [process.communicate()[1] for process in running] == [""] * 4
    assert 0 < sum(path.stat().st_size for path in entries(tmp_path)) <= 20_000


def read(uri: str, directory: Path, *columns: ColumnSpec) -> list[int]:
    index = open_index(uri, partitions={})
    loading = LoadingConfig(cache_directory=str(directory))
    order = range(len(index.row_groups))
    with Readers(columns, num_threads=2, loading=loading).in_order(index, order) as groups:
        return [number for _, values in groups for number in values[columns[0].name].tolist()]


def test_row_groups_are_read_from_the_cache(numbered_files, tmp_path):
    """The file's content is gone, only its size and time are left: all rows come from the cache."""
    uri = numbered_files([5, 6], [7])
    cache = tmp_path / "cache"
    assert read(uri, cache, NUMBER) == list(range(18))
    index = open_index(uri, partitions={})
    for file in index.files:
        Path(file).write_bytes(b"")
    loading = LoadingConfig(cache_directory=str(cache))
    with Readers([NUMBER], num_threads=1, loading=loading).in_order(index, [0, 1, 2]) as groups:
        assert [number for _, values in groups for number in values["number"].tolist()] == list(range(18))
    with (
        Readers([ColumnSpec(name="half", dtype="float32")], num_threads=1, loading=loading).in_order(index, [0]) as groups,
        pytest.raises(LakeError, match="The table was vacuumed, rewritten or damaged under the run"),
    ):
        next(groups)  # another column has a key of its own


def test_file_that_was_written_again_is_read_again(numbered_files, tmp_path):
    uri, other = numbered_files([5]), numbered_files([2, 3], name="other")
    assert read(uri, tmp_path / "cache", NUMBER) == [0, 1, 2, 3, 4]
    again = Path(other, "part-000.parquet").read_bytes()
    Path(uri, "part-000.parquet").write_bytes(again)
    assert read(uri, tmp_path / "cache", NUMBER) == [0, 1, 2, 3, 4]
    assert len(entries(tmp_path / "cache")) == 3
