"""The command: exit codes and messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import __main__ as command
from bench.report import Bound, Figure, Result
from millrace.errors import MillraceError

ROOT = Path(__file__).resolve().parents[2]


def _result(value: float) -> Result:
    return Result(figures=[Figure("ratio", value, "ratio")], bounds=[Bound("ratio", value, "<=", 4.0)])


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, object]:
    """Two benchmarks that are quick, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    found = {"quick": lambda num_rounds: _result(float(num_rounds)), "slow": lambda num_rounds: _result(9.0 * num_rounds)}
    monkeypatch.setattr(command, "BENCHMARKS", found)
    return found


def test_bounds_that_hold_exit_0_and_write_the_report(benchmarks: object, tmp_path: Path) -> None:
    assert command.main(["quick", "--rounds", "2"]) == 0
    written = json.loads((tmp_path / "build" / "bench" / "quick.json").read_text())
    assert written["figures"] == [{"name": "ratio", "value": 2.0, "unit": "ratio"}]


def test_without_a_name_all_run_and_a_broken_bound_exits_1(benchmarks: object, tmp_path: Path) -> None:
    assert command.main([]) == 1
    assert sorted(found.name for found in (tmp_path / "build" / "bench").iterdir()) == ["quick.json", "slow.json"]


def test_a_failed_benchmark_exits_with_its_code(benchmarks: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    def fails(num_rounds: int) -> Result:
        raise MillraceError("bench", expected="[a]", found="b", remedy="c.", retry=True)

    benchmarks["quick"] = fails
    assert command.main(["quick"]) == 1
    assert capsys.readouterr().err == "bench: expected [a]; found b. c.\n"


def test_an_interrupt_exits_130(benchmarks: dict[str, object]) -> None:
    def interrupted(num_rounds: int) -> Result:
        raise KeyboardInterrupt

    benchmarks["quick"] = interrupted
    assert command.main(["quick"]) == 130


def _bench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_unknown_name_gets_the_nearest_offered() -> None:
    done = _bench("nigth")
    assert (done.returncode, done.stdout) == (2, "")
    known = ", ".join(command.BENCHMARKS)
    assert done.stderr == f"bench: expected a benchmark ({known}); found 'nigth'. Did you mean night?\n"


def test_missing_data_are_named(tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").touch()
    done = _bench("night", MILLRACE_DATA=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"bench night: expected the MNIST idx files in {tmp_path}/mnist; "
        "found no train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-labels-idx1-ubyte there. "
        "Set MILLRACE_DATA to the directory that holds mnist/.\n"
    )


def test_no_rounds_are_refused() -> None:
    done = _bench("night", "--rounds", "0")
    assert done.returncode == 2
    assert done.stderr.endswith("argument --rounds: invalid _positive value: '0'\n")
