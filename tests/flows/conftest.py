"""A finished night of the digits, made once by the command that users call, and copies of it to go on from."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.flows.nights import NIGHT, Night
from tests.flows.pipelines import Pipelines


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """One night of the digits with two workers and three epochs. Do not write into it: take a copy."""
    night = Night(tmp_path_factory.mktemp("finished"))
    done = night.submit("nightly", "--night", NIGHT)
    assert done.returncode == 0, done.stderr
    night.first_output = done
    yield night


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Night], Night]:
    """A copy of a night's lake, which reads the same raw files."""

    def copy(night: Night) -> Night:
        shutil.copytree(night.lake, tmp_path / "lake")
        return Night(tmp_path, raw=night.raw)

    return copy


@pytest.fixture
def pipelines(tmp_path: Path, spark: SparkSession) -> Pipelines:
    """A lake, raw files and a configuration of their own."""
    return Pipelines(tmp_path, spark)
