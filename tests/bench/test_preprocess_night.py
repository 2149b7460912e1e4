"""The benchmark of nights: its rows, its figures, and real nights at a small size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from bench import preprocess_night as benchmark
from bench.preprocess_night import Measured, Night
from millrace.errors import MillraceError, SourceError

KEPT = {"bronze": (1, 0), "silver": (1, 0), "gold": (3, 0)}
LINE = b"0,tcp,http,SF,%d,5,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,8,8,0,0,0,0,1,0,0,9,9,1,0,0.1,0,0,0,0,0,%s\n"


def night(seconds: float, num_rows: int, files: Mapping[str, tuple[int, int]] = KEPT) -> Night:
    taken: dict[str, float] = {"ingest": seconds, "preprocess": 3 * seconds}
    taken |= {f"{step}/cpu_seconds": taken[step] + 10.0 for step in ("ingest", "preprocess")}
    taken |= {"ingest/num_jobs": 2, "preprocess/num_jobs": 5}
    return Night(taken, num_rows, num_rows, files)


def measured(*new: Night) -> Measured:
    return Measured(night(50.0, 1000), new, night(60.0, 250, {"bronze": (1, 0), "gold": (3, 0)}), night(30.0, 3), 2.0, 2**30)


def test_every_id_has_its_row_and_another_shift_other_values() -> None:
    lines = [b"%d\n" % number for number in range(10)]
    base = list(benchmark.rows(lines, range(100)))
    assert [line.split(b",")[0] for line in base] == [b"%d" % number for number in range(100)]
    assert {line.split(b",")[1] for line in base} == set(lines)
    assert list(benchmark.rows(lines, range(7, 9))) == base[7:9]
    for updated, number in zip(benchmark.rows(lines, range(0, 100, 10), shift=1), range(0, 100, 10), strict=True):
        assert updated.split(b",")[0] == b"%d" % number and updated != base[number]


def test_ratios_and_bounds() -> None:
    found = measured(night(9.0, 10), night(5.0, 10), night(6.0, 10))
    benchmark.check(found, 1000)
    result = benchmark.summarise(found)
    figures = {figure.name: figure.value for figure in (*result.figures, *result.details)}
    assert figures["one_percent_night"] == 24.0 / 200.0
    assert figures["one_percent_night_cpu"] == 44.0 / 220.0
    assert figures["one_percent_updated_night"] == 0.5
    assert figures["one_percent_new/ingest/num_jobs"] == 2.0
    assert figures["one_percent_new/preprocess"] == 18.0
    assert (figures["full_rebuild/gold/files_added"], figures["one_percent_new/gold/files_removed"]) == (3.0, 0.0)
    assert {(bound.name, bound.value, bound.holds) for bound in result.bounds} == {
        ("one_percent_night", 0.12, True),
        ("full_rebuild_seconds", 200.0, True),
    }


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (night(1.0, 9), "expected night 1 of new rows to keep 10 rows; found 9 of 9"),
        (
            night(1.0, 10, {**KEPT, "gold": (4, 1)}),
            r"expected a night of new rows to add files, and take none away; found \{'gold': 1\}",
        ),
    ],
)
def test_a_night_that_does_something_else_is_refused(new: Night, message: str) -> None:
    with pytest.raises(MillraceError, match=message):
        benchmark.check(measured(new), 1000)


def test_missing_data_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"bench: expected connections in .*kddcup.data_10_percent.gz; found"):
        benchmark.connections(tmp_path)


@pytest.mark.full
def test_nights_are_measured() -> None:
    """Starts a Spark session of its own, with which six nights run: a minute."""
    lines = [LINE % (number, name) for number in range(500) for name in (b"normal.", b"smurf.")]
    result = benchmark.measure(1, lines=lines, num_rows=2_000, warm_up=4)
    figures = {figure.name: figure.value for figure in result.details}
    assert figures["one_percent_new/bronze/files_added"] == figures["one_percent_new/silver/files_added"] == 1
    assert figures["one_percent_updated/bronze/files_removed"] == 0
