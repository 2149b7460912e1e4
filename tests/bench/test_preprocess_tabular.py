"""The tabular benchmark: its rows, its comparison, its figures, and a real run at a small size."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import preprocess_tabular as benchmark
from bench import tabular_data as data
from bench.tabular_check import Contents, check_same, contents_of_peer, contents_of_udf
from bench.tabular_peers import vocabulary
from millrace.config.load import load_pipeline
from millrace.config.places import Places
from millrace.contracts.table import load_contract
from millrace.errors import MillraceError
from millrace.flows.check import check_pipeline

LINE = ",".join(["0", "tcp", "http", "SF", *["1"] * 20, *["0.50"] * 7, *["2"] * 2, *["0.25"] * 8, "normal."])


def test_rows_are_numbered_and_some_are_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "_BROKEN_EVERY", 4)
    (tmp_path / "kddcup99_10pct").mkdir()
    with gzip.open(tmp_path / "kddcup99_10pct" / "kddcup.data_10_percent.gz", "wt") as stream:
        stream.write(f"{LINE}\n" * 3)
    num_bytes = data.write_rows(tmp_path, tmp_path / "rows", 20)
    files = sorted((tmp_path / "rows").iterdir())
    assert len(files) == data.NUM_FILES
    assert sum(path.stat().st_size for path in files) == num_bytes
    lines = [line for path in files for line in path.read_text().splitlines()[1:]]
    assert [line.partition(",")[0] for line in lines] == [str(number) for number in range(20)]
    broken = [number for number, line in enumerate(lines) if line != f"{number},{LINE}"]
    assert broken == [3, 7, 11, 15, 19]
    assert data.rates()[0] == files[0].read_text().splitlines()[0].split(",")[25]
    assert lines[3].split(",")[25] == "1.50"


def test_the_pipeline_is_a_legal_one(tmp_path: Path) -> None:
    data.write_conf(tmp_path, "/somewhere")
    places = Places.standard(str(tmp_path))
    config = load_pipeline(data.NAME, places, overrides=["materialize=[gold]"])
    check_pipeline(config, load_contract(config.source.contract, places))
    assert config.only_gold
    assert len(data.numbers()) == 38


def test_missing_data_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MillraceError, match=r"bench: expected kddcup99 under MILLRACE_DATA; found .*kddcup.data_10_percent"):
        data.write_rows(tmp_path, tmp_path / "rows", 20)


def test_ids_are_in_the_order_of_counts() -> None:
    assert vocabulary({"b": 3, "a": 3, "c": 9}) == {"c": 2, "a": 3, "b": 4}


def test_tables_are_compared_whatever_their_columns(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    keys = np.arange(0, 5) * 99_991
    numbers, ids, label = rng.normal(size=(5, 38)), rng.integers(0, 9, (5, 3)), rng.integers(0, 3, 5)
    wide = {name: numbers[:, place].astype(np.float32) for place, name in enumerate(data.numbers())}
    wide |= {name: ids[:, place].astype(np.int32) for place, name in enumerate(data.TEXTS)}
    tables = {
        "wide": pa.table({**wide, data.LABEL: label.astype(np.int32), data.KEY: keys}),
        "lists": pa.table(
            {
                data.KEY: keys,
                "features": pa.array(numbers.astype(np.float32).tolist(), pa.list_(pa.float32())),
                "ids": pa.array(ids.tolist(), pa.list_(pa.int32())),
                "label": label.astype(np.int32),
            }
        ),
    }
    for name, table in tables.items():
        for split, rows in (("train", table.slice(0, 3)), ("test", table.slice(3))):
            (tmp_path / name / f"split={split}").mkdir(parents=True)
            pq.write_table(rows, tmp_path / name / f"split={split}" / "part.parquet")
    found = contents_of_peer(tmp_path / "wide")
    assert found.num_rows == {"train": 3, "test": 2}
    assert len(found.rows) == 5
    check_same(found, contents_of_udf(tmp_path / "lists"), side="lists")
    other = contents_of_udf(tmp_path / "lists")
    other.sums["test"] = other.sums["test"] + np.eye(42)[4]
    other.num_rows["train"] = 4
    with pytest.raises(MillraceError, match=r"x to make the same table; found other rows .*; other sums of the columns \[4"):
        check_same(found, other, side="x")
    with pytest.raises(MillraceError, match="other sampled rows"):
        check_same(found, Contents(found.num_rows, found.sums, found.sizes, {}), side="x")


def test_ratios_are_to_the_night_with_gold_alone() -> None:
    def side(seconds: float) -> dict[str, object]:
        return {"seconds": seconds, "peak_bytes": 2**30, "stages": {"survey": seconds / 2}, "start_seconds": 1.0}

    seconds = {
        "gold": 40.0,
        "polars": 12.0,
        "polars_unordered": 8.0,
        "pandas": 60.0,
        "udf": 400.0,
        "all": 100.0,
        "profiled": 60.0,
    }
    sides = {name: [side(each)] for name, each in seconds.items()}
    sides |= {"start": [side(4.0)], "first": [side(9.0), side(5.0)], "account": [side(0.0)]}
    sides["gold"].append(side(20.0))
    sides["polars"].append(side(4.0))
    result = benchmark.summarise(sides, 100, 5_000_000)
    figures = {figure.name: figure.value for figure in result.figures}
    assert figures["tabular_vs_polars"] == pytest.approx(0.25)
    assert figures["tabular_vs_python_udf"] == pytest.approx(400 / 30)
    assert figures["stages/survey"] == 15.0
    assert result.holds


@pytest.mark.full
def test_all_sides_make_the_same_table() -> None:
    """On 30,000 rows, in a Spark session of its own and the peers' environment, which takes minutes to make."""
    result = benchmark.measure(1, 30_000)
    names = {figure.name for figure in result.figures}
    assert {"tabular_vs_polars", "tabular_vs_python_udf", "stages/survey", "alone/parse", "peak_memory/gold"} <= names
    assert json.dumps([figure.value for figure in result.figures])
