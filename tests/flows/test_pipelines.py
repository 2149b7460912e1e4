"""The pipelines that ship, on the real data: every row is accounted for, and the same night again changes nothing."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from millrace.config.load import DEFAULTS, load_pipeline
from millrace.config.places import Places
from millrace.flows import ingest, preprocess
from millrace.flows.job import run
from millrace.flows.nightly import NIGHT, only
from millrace.lake import log
from millrace.lake.layout import RUNS, Lake
from millrace.lake.ledger import Ledger
from millrace.lake.maintain import tables_of
from millrace.loading.index import build_index
from millrace.transforms.split import SPLITS
from tests.flows.encoded import Encoded
from tests.flows.parity import check_encoded

DATA = Path(os.environ.get("MILLRACE_DATA", DEFAULTS["MILLRACE_DATA"]))
FULL = pytest.mark.full
RAW_ROWS = {
    "titanic": 891,
    "sms_spam": 5_574,
    "adult": 48_842,
    "kddcup99": 494_021,
    "penguins": 344,
    "imdb": 15_000,
    "ag_news": 7_600,
    "waimai_10k": 11_987,
    "online_shopping": 62_774,
    "clothing_small": 461,
    "basic_motions": 80,
    "beijing_pm25": 43_824,
    "mnist": 70_000,
    "digits": 1_797 + 5,
    "tiny_shakespeare": 7_222,
    "zh_classic_novels": 5_965,
    "webcrawl": 93,
}
"""What INDEX.md says of the raw data; of digits with those damaged on purpose; paragraphs, and lines that are not empty, as
plain Python counts them."""
ROW_GROUP_BYTES = 8 * 1024**2
"""parquet.block.size in conf/spark."""
NIGHT_OF_TESTS = "2026-11-22"
IN_EVERY_RUN = ("titanic", "sms_spam")


def data_or_skip(name: str) -> None:
    path = load_pipeline(name, Places.standard()).source.path
    if path.startswith("{lake}"):  # written by the first night
        return
    folder = Path(path.replace("*", "").rpartition("/")[0] if "*" in path or Path(path).suffix else path)
    if not folder.exists():
        pytest.skip(f"the data of {name} is not at {folder}: set MILLRACE_DATA")


class Tables:
    """What stands in a lake after a pipeline's preprocess."""

    def __init__(self, lake: Lake, pipeline: str) -> None:
        self.lake, self.pipeline, self.ledger = lake, pipeline, Ledger.read(lake)

    def rows(self, table: str, *columns: str) -> list[dict[str, object]]:
        uri = self.lake.path(table)
        if not log.exists(uri):
            return []
        return log.read_rows(uri, version=self.ledger.version_of(table), columns=list(columns) or None).to_pylist()

    def num_rows(self, table: str) -> int:
        return len(self.rows(table, "_night"))

    def rejected(self, table: str) -> Counter[tuple[str, str]]:
        return Counter((row["rule"], row["action"]) for row in self.rows(table, "rule", "action"))


def check_counting_law(tables: Tables) -> None:
    """Rows in = rows kept + quarantined + dropped, for each step and rule, from the tables alone; the ledger says the same."""
    name = tables.pipeline
    steps = {entry.step: entry for entry in tables.ledger.entries if entry.status == "succeeded"}
    bronze, silver = tables.num_rows(f"bronze/{name}"), tables.num_rows(f"silver/{name}")
    of_source, of_pipeline = (tables.rejected(f"quarantine/{kind}/{name}") for kind in ("sources", "pipelines"))
    assert bronze + of_source.total() == RAW_ROWS[name]
    assert silver + of_pipeline.total() == bronze
    taken = steps["ingest"].counts
    assert taken is not None
    assert (taken.num_rows_in, taken.num_rows_kept) == (bronze + of_source.total(), bronze)
    check_quality(tables, f"bronze/{name}", of_source, num_checked=bronze + of_source.total())
    counts = steps["preprocess"].counts
    assert counts is not None
    assert (counts.num_rows_in, counts.num_rows_kept) == (bronze, silver)
    by_action = Counter({"quarantined": counts.num_rows_quarantined, "dropped": counts.num_rows_dropped})
    for (_, action), number in of_pipeline.items():
        by_action[action] -= number
    assert not any(by_action.values())
    check_quality(tables, f"silver/{name}", of_pipeline, num_checked=bronze)


def check_quality(tables: Tables, table: str, rejected: Counter[tuple[str, str]], *, num_checked: int) -> None:
    """metrics/data_quality has of each rule as many as were rejected by it. Rules of files count files."""
    quality = [row for row in tables.rows("metrics/data_quality") if row["table"] == table]
    failed = {row["rule"]: row["num_failed"] for row in quality if row["num_failed"]}
    assert failed == {rule: number for (rule, _), number in rejected.items()}
    of_rows = [row for row in quality if row["rule"] not in (ingest.CHANGED, ingest.LATE)]
    assert of_rows or (table, tables.pipeline) == ("bronze/mnist", "mnist")  # idx files: no rule that a row may break
    assert {row["num_checked"] for row in of_rows} <= {num_checked}


def check_gold(tables: Tables) -> None:
    """Each row of silver once in gold, in the same split; splits share neither a row nor a key."""
    name = tables.pipeline
    key = load_pipeline(name, Places.standard()).split.key
    if key:
        splits: dict[tuple[object, ...], set[object]] = {}
        for row in tables.rows(f"silver/{name}", *key, "split"):
            splits.setdefault(tuple(map(row.__getitem__, key)), set()).add(row["split"])
        assert {len(found) for found in splits.values()} == {1}
    gold = tables.rows(f"gold/{name}", "row_id", "split")
    assert len({row["row_id"] for row in gold}) == len(gold) > 0
    assert {"train"} < {row["split"] for row in gold} <= {"train", "validation", "test"}
    if load_pipeline(name, Places.standard()).changes_grain:
        rejected = tables.rejected(f"quarantine/gold/{name}")
        check_quality(tables, f"gold/{name}", rejected, num_checked=len(gold) + rejected.total())
        return
    silver = tables.rows(f"silver/{name}", "row_id", "split")
    assert {row["row_id"]: row["split"] for row in gold} == {row["row_id"]: row["split"] for row in silver}


def check_row_groups(lake: Lake, name: str) -> None:
    """Those of gold's files are of the size that the session sets, in bytes as they are encoded, whatever the table's size."""
    for uri in log.open_table(lake.path(f"gold/{name}"), Ledger.read(lake).version_of(f"gold/{name}")).file_uris():
        footer = pq.ParquetFile(uri.removeprefix("file://")).metadata
        sizes = [footer.row_group(number).total_byte_size for number in range(footer.num_row_groups)]
        assert max(sizes) <= 2 * ROW_GROUP_BYTES, (uri, sizes)  # the writer looks at it now and then


def newest_versions(lake: Lake) -> dict[str, int | None]:
    """Of each table in the lake but the ledger, whatever the ledger says."""
    return {table: log.latest_version(lake.path(table)) for table in tables_of(lake) if table != RUNS}


def test_no_pipeline_that_ships_is_left_out() -> None:
    assert set(RAW_ROWS) == set(Places.standard().pipelines())


@pytest.mark.parametrize("name", [name if name in IN_EVERY_RUN else pytest.param(name, marks=FULL) for name in RAW_ROWS])
def test_every_row_is_accounted_for(name: str, spark: SparkSession, lake: Lake, tmp_path: Path) -> None:
    """Up to gold, which is encoded as the exported graph and the saved tokenizers encode it, and as scikit-learn, Keras and plain
    counts do. With `make test-full` it takes longer than 20 s for kddcup99, imdb and online_shopping, which are large."""
    data_or_skip(name)

    def call(night: str) -> list[int]:
        options = ["--pipeline", name, "--lake", lake.uri, "--night", night]
        return [run(only(step), "", options, spark=spark) for step in (ingest.step, preprocess.step)]

    assert call(NIGHT_OF_TESTS) == [0, 0]
    tables = Tables(lake, name)
    check_counting_law(tables)
    check_gold(tables)
    check_row_groups(lake, name)
    check_encoded(Encoded(lake, name, spark, NIGHT_OF_TESTS), tmp_path)
    before = newest_versions(lake)
    assert call(NIGHT_OF_TESTS) == [0, 0]
    assert call("2026-11-23") == [0, 0]
    assert newest_versions(lake) == before


@FULL
def test_equal_connections_never_straddle_a_split(spark: SparkSession, lake: Lake) -> None:
    """kddcup99 without dropping its 348,435 duplicates: they share their split. Takes a minute: half a million rows."""
    data_or_skip("kddcup99")
    options = ["--pipeline", "kddcup99", "--lake", lake.uri, "--night", "2026-11-22", "--set", "clean=[]"]
    assert [run(only(step), "", options, spark=spark) for step in (ingest.step, preprocess.step)] == [0, 0]
    rows = Tables(lake, "kddcup99").rows("silver/kddcup99", "_content", "split")
    splits: dict[object, set[object]] = {}
    for row in rows:
        splits.setdefault(row["_content"], set()).add(row["split"])
    assert len(rows) - len(splits) > 340_000
    assert {len(found) for found in splits.values()} == {1}


@FULL
@pytest.mark.parametrize("name", ["titanic", "sms_spam", "kddcup99"])
def test_gold_alone_is_the_gold_of_the_long_way(name: str, spark: SparkSession, tmp_path: Path) -> None:
    """All columns in the loader's order, and the same rows in quarantine; the last two keep their duplicates. Takes some minutes:
    half a million rows, which are told by their texts."""
    data_or_skip(name)
    clean = [] if name == "titanic" else ["--set", "clean=[]"]
    tables: list[pa.Table] = []
    for way in ("[gold]", "[bronze, silver, gold]"):
        lake = Lake.at(str(tmp_path / f"lake-{len(tables)}"))
        options = ["--pipeline", name, "--lake", lake.uri, "--night", "2026-11-22", "--set", f"materialize={way}", *clean]
        assert [run(only(step), "", options, spark=spark) for step in (ingest.step, preprocess.step)] == [0, 0]
        version = Ledger.read(lake).version_of(f"gold/{name}")
        parts = [build_index(lake.path(f"gold/{name}"), version=version, partitions={"split": split}) for split in SPLITS]
        tables.append(pa.concat_tables([pq.ParquetFile(file).read() for part in parts for file in part.files]))
    assert tables[0].num_rows > 800
    assert tables[0].equals(tables[1])


@FULL
def test_a_whole_night_with_gold_alone_learns(spark: SparkSession, lake: Lake) -> None:
    """Training, evaluation on the raw test rows, publishing. With a Horovod worker, which takes some ten seconds to start."""
    data_or_skip("titanic")
    options = ["--pipeline", "titanic", "--lake", lake.uri, "--night", "2026-11-22", "--set", "materialize=[gold]"]
    assert run(NIGHT, "", options, spark=spark) == 0
    rows = log.read_rows(lake.path("metrics/evaluation")).to_pylist()
    found = [row["value"] for row in rows if (row["metric"], row["label"], row["average"]) == ("accuracy", None, None)]
    assert found and min(found) >= 0.75


@FULL
@pytest.mark.parametrize(
    ("name", "metric", "least"),
    [
        ("kddcup99", "accuracy", 0.99),
        ("adult", "accuracy", 0.84),
        ("titanic", "accuracy", 0.75),
        ("penguins", "accuracy", 0.9),
        ("beijing_pm25", "r2", 0.3),
    ],
)
def test_a_whole_night_learns(name: str, metric: str, least: float, spark: SparkSession, lake: Lake) -> None:
    """With Horovod workers, which take some ten seconds to start."""
    data_or_skip(name)
    options = ["--pipeline", name, "--lake", lake.uri, "--night", "2026-11-22"]
    assert run(NIGHT, "", options, spark=spark) == 0
    rows = log.read_rows(lake.path("metrics/evaluation")).to_pylist()
    found = [row["value"] for row in rows if (row["metric"], row["label"], row["average"]) == (metric, None, None)]
    assert found and min(found) >= least
