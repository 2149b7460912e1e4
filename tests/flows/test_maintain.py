"""Maintenance of a whole lake: nights go on after it, pinned versions stay readable, and a dry run changes nothing."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyspark.sql import DataFrame, SparkSession
from pyspark.testing import assertDataFrameEqual

from millrace.errors import ConfigError, LakeError
from millrace.flows.maintain import Options, maintain
from millrace.flows.maintain_job import run
from millrace.lake import locks, log, small
from millrace.lake.layout import EPOCHS, MODELS, RUNS, Lake
from millrace.lake.ledger import Inputs, Ledger, TableVersion
from millrace.lake.protocol import run_step
from millrace.lake.read import read_version
from millrace.lake.views import visible_tables
from millrace.lake.write import PLAIN, write_nights
from tests.factories import NIGHT, make_attempt, make_run, make_step, succeed

SILVER, GOLD = "silver/tiny", "gold/tiny"
NOW = Options(retention=timedelta(0), night=NIGHT)


def add(lake: Lake, table: str, *numbers: int, mode: str = "append") -> TableVersion:
    write_deltalake(lake.path(table), pa.table({"a": list(numbers), "_night": [NIGHT] * len(numbers)}), mode=mode)
    version = log.latest_version(lake.path(table))
    assert version is not None
    return TableVersion(table, version)


def rows(lake: Lake, table: str, version: int | None = None) -> list[int]:
    return sorted(log.read_rows(lake.path(table), version=version).column("a").to_pylist())


def epochs(run_id: str) -> dict[str, object]:
    base = {"pipeline": "tiny", "run_id": run_id, "_night": NIGHT, "step": 1, "split": "train", "metric": "loss"}
    return {**base, "epoch": 1, "value": 0.5, "learning_rate": 0.1, "rows_per_second": None}


@pytest.fixture
def lived_in(lake: Lake) -> Lake:
    """Silver of four small files; gold written three times, of which a model was trained on the first, and a killed training
    reads the second; metrics of several runs; artifacts that nobody needs."""
    for number in range(4):
        silver = add(lake, SILVER, number)
    golds = [add(lake, GOLD, number, mode="overwrite") for number in range(3)]
    succeed(lake, silver, golds[2], name="preprocess")
    run_step(lake, make_run(config="killed00"), make_step("train", inputs=Inputs((golds[1],))))
    spoil_the_last_entry(lake)
    model = {"pipeline": "tiny", "version": 1, "run_id": "r", "stage": "candidate", "artifact": "x"}
    lineage = {"dataset": GOLD, "dataset_version": "0"}
    small.append(lake, MODELS, [{**model, "lineage": lineage, "registered_at": datetime.now(UTC)}], metadata={})
    for run_id in "abc":
        small.append(lake, EPOCHS, [epochs(run_id)], metadata={})
    left = Path(lake.artifacts("tiny", "run", "result.json.0a.tmp"))
    left.parent.mkdir(parents=True)
    left.write_text("half")
    return lake


def spoil_the_last_entry(lake: Lake) -> None:
    """As if the last step had been killed before it could say that it had succeeded."""
    entries = log.read_rows(lake.path(RUNS))
    shutil.rmtree(lake.path(RUNS))
    kept = [row for row in entries.to_pylist() if not (row["step"] == "train" and row["status"] == "succeeded")]
    small.append(lake, RUNS, kept, metadata={})


def content(lake: Lake) -> dict[str, str]:
    files = (path for path in Path(lake.uri).rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_pinned_versions_outlive_a_retention_of_nothing(lived_in: Lake) -> None:
    lake = lived_in
    add(lake, GOLD, 9, mode="overwrite")  # an unfinished try, which its next run will undo
    add(lake, "bronze/tiny", 1)
    add(lake, "bronze/tiny", 2)
    report = maintain(lake, NOW)
    assert [rows(lake, GOLD, version) for version in (0, 1, 2)] == [[0], [1], [2]]
    assert rows(lake, GOLD) == [9]
    assert rows(lake, "bronze/tiny") == [1, 2]
    assert len(log.open_table(lake.path("bronze/tiny")).file_uris()) == 2  # its files are its nights' names
    silver = Ledger.read(lake).version_of(SILVER)
    assert (silver, rows(lake, SILVER, silver)) == (4, [0, 1, 2, 3])
    assert len(log.open_table(lake.path(SILVER)).file_uris()) == 1
    assert rows(lake, SILVER, 3) == [0, 1, 2, 3]  # the version that newest gold was made of: a publish may still read it
    removed = {found.table: len(found.paths) for found in report.removed}
    assert SILVER not in removed
    assert removed["artifacts/tiny"] == 1
    assert GOLD not in removed
    assert sorted(log.read_rows(lake.path(EPOCHS)).column("run_id").to_pylist()) == ["a", "b", "c"]


def test_what_no_one_names_goes_when_its_time_has_come(lived_in: Lake) -> None:
    lake = lived_in
    succeed(lake, add(lake, GOLD, 7, mode="overwrite"), name="preprocess")
    maintain(lake, Options(night=NIGHT))
    assert rows(lake, GOLD, 2) == [2]  # no step names it any more, but it is young
    maintain(lake, NOW)
    assert [rows(lake, GOLD, version) for version in (0, 1, 3)] == [[0], [1], [7]]
    succeed(lake, TableVersion(SILVER, 4), TableVersion(GOLD, 3), name="preprocess")
    maintain(lake, NOW)
    with pytest.raises(FileNotFoundError):
        rows(lake, SILVER, 3)
    with pytest.raises(FileNotFoundError):
        rows(lake, GOLD, 2)


def test_it_is_a_step_of_the_ledger_and_done_once(lived_in: Lake) -> None:
    lake = lived_in
    maintain(lake, NOW)
    entry = Ledger.read(lake).succeeded(step="maintain")
    assert entry is not None
    assert (entry.run.pipeline, entry.run.run_id) == ("tiny", f"tiny-{NIGHT}-maintain")
    assert (entry.inputs.tables, entry.outputs) == ((TableVersion(SILVER, 3),), (TableVersion(SILVER, 4),))
    assert [(visible.table, visible.parts[0].version) for visible in visible_tables(lake) if "silver" in visible.table] == [
        (SILVER, 4)
    ]
    maintain(lake, NOW)
    assert Ledger.read(lake).attempts(step="maintain", run_id=entry.run.run_id) == 1


def test_what_an_unfinished_try_has_written_is_not_made_official(lived_in: Lake) -> None:
    lake = lived_in
    add(lake, SILVER, 666)
    maintain(lake, NOW)
    version = Ledger.read(lake).version_of(SILVER)
    assert (version, rows(lake, SILVER, version)) == (3, [0, 1, 2, 3])


def test_a_dry_run_changes_nothing_and_says_what_would_go(lived_in: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    lake = lived_in
    succeed(lake, add(lake, GOLD, 7, mode="overwrite"), name="preprocess")
    before = content(lake)
    report = maintain(lake, Options(retention=timedelta(0), night=NIGHT, dry_run=True))
    assert content(lake) == before
    sizes = {found.table: (len(found.paths), found.num_bytes) for found in report.removed}
    gone = Path(log.open_table(lake.path(GOLD), 2).file_uris()[0])
    assert sizes[GOLD] == (1, gone.stat().st_size)
    assert report.small_files[SILVER] == 4
    assert run("", ["--lake", lake.uri, "--dry-run", "--retention-days", "0"]) == 0
    assert content(lake) == before
    assert "would be removed" in capsys.readouterr().out


def test_a_pipeline_that_is_at_work_is_not_touched(lived_in: Lake) -> None:
    held = Path(lived_in.uri, "_locks", "pipeline-tiny.lock")
    held.parent.mkdir(exist_ok=True)
    with held.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(LakeError, match="expected the lock pipeline-tiny"):
            maintain(lived_in, NOW)
    assert Ledger.read(lived_in).version_of(SILVER) == 3
    with locks.exclusive(lived_in, "pipeline-tiny", run_id="x"):  # free again
        pass


def test_options_that_do_not_fit(lived_in: Lake) -> None:
    with pytest.raises(ConfigError) as caught:
        maintain(lived_in, Options(night=NIGHT, zorder=("aa",)))
    assert str(caught.value) == "maintain: expected --zorder a column of silver; found 'aa'. Did you mean 'a'?"
    assert run("", ["--lake", lived_in.uri, "--zorder", "aa"]) == 2


def test_a_night_after_maintenance(spark: SparkSession, lake: Lake) -> None:
    """Silver as Spark writes it, with constraints: compacted without Spark, then the next night, then time travel."""

    def frame(*values: tuple[int, str]) -> DataFrame:
        return spark.createDataFrame(list(values), "a int, _night string").coalesce(1)

    nights = ["2026-11-20", "2026-11-21", "2026-11-22"]
    strict = {**PLAIN, "delta.constraints.a_small": "a < 100"}
    for number, night in enumerate(nights[:2]):
        attempt = make_attempt(lake, key=f"k{number}")
        written = write_nights(attempt, SILVER, frame((number, night)), [night], properties=strict)
        succeed(lake, written, name="preprocess", run=make_run(night=night))
    maintain(lake, Options(night=nights[1], zorder=("a",)))
    compacted = Ledger.read(lake).version_of(SILVER)
    assert compacted == 2
    third = write_nights(make_attempt(lake, key="k3"), SILVER, frame((2, nights[2])), [nights[2]])
    assert third == TableVersion(SILVER, 3)
    succeed(lake, third, name="preprocess", run=make_run(night=nights[2]))
    everything = frame(*enumerate(nights))
    for version, expected in ((1, everything.filter("a < 2")), (2, everything.filter("a < 2")), (3, everything)):
        found = read_version(spark, lake, SILVER, version).orderBy("a")
        assertDataFrameEqual(found, expected.orderBy("a"), checkRowOrder=True)
    # killed in the middle of the fourth night: what it wrote is undone, also after maintenance has been
    write_nights(make_attempt(lake, key="killed"), SILVER, frame((66, nights[2])), [nights[2]])
    maintain(lake, NOW)
    again = write_nights(make_attempt(lake, key="k4"), SILVER, frame((3, nights[2])), [nights[2]])
    found = read_version(spark, lake, SILVER, again.version).orderBy("a")
    assertDataFrameEqual(found, frame((0, nights[0]), (1, nights[1]), (3, nights[2])), checkRowOrder=True)
    with pytest.raises(Exception, match="a_small"):
        write_nights(make_attempt(lake, key="k5"), SILVER, frame((500, nights[2])), [nights[2]])


def test_the_command_needs_a_lake(tmp_path: Path) -> None:
    assert run("", ["--lake", str(tmp_path / "none")]) == 2
    with pytest.raises(SystemExit):
        run("", ["--retention-days", "-1"])
