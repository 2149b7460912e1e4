"""Ingest and preprocess over several nights, pipelines and configs, on the tests' session: what stands in the lake in the end."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml

from millrace.lake import log
from millrace.lake.ledger import Ledger
from millrace.lake.read import read_version
from tests.flows.law import check_law, rows_of
from tests.flows.nights import ROOT
from tests.flows.pipelines import FIRST, SECOND, Pipelines

THIRD, FOURTH = "2026-11-23", "2026-11-24"


def test_an_older_night_that_comes_again_leaves_newer_nights_whole(pipelines: Pipelines) -> None:
    """Night 1 is killed after its ingest, night 2 goes on, night 1 comes again."""
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    pipelines.forget_success("preprocess")
    pipelines.write("b.csv", 3, 4)
    assert pipelines.call(SECOND) == [0, 0]
    assert pipelines.call(FIRST) == [0, 0]
    expected = Counter({(FIRST, 1): 1, (FIRST, 2): 1, (SECOND, 3): 1, (SECOND, 4): 1})
    assert pipelines.rows("bronze/digits") == pipelines.rows("silver/digits") == expected


def test_files_of_a_killed_ingest_are_taken_once(pipelines: Pipelines) -> None:
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST, steps=("ingest",)) == [0]
    pipelines.forget_success("ingest")
    assert pipelines.call(SECOND) == [0, 0]
    assert pipelines.call(FIRST) == [0, 0]
    assert pipelines.rows("bronze/digits") == Counter({(SECOND, 1): 1, (SECOND, 2): 1})


def test_two_pipelines_on_one_source_have_tables_of_their_own(pipelines: Pipelines) -> None:
    pipelines.define("other")
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    assert pipelines.call(FIRST, pipeline="other") == [0, 0]
    assert pipelines.rows("silver/other") == pipelines.rows("silver/digits")
    assert pipelines.rows("gold/other") == pipelines.rows("gold/digits")


def test_two_pipelines_that_mean_different_things_by_a_source(pipelines: Pipelines, capsys: pytest.CaptureFixture[str]) -> None:
    pipelines.define("other", path=str(pipelines.raw / "elsewhere"))
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    assert pipelines.call(FIRST, pipeline="other", steps=("ingest",)) == [2]
    assert "expected digits and other to mean the same by the source digits; found another path." in capsys.readouterr().err


def test_a_config_that_comes_back_is_done_again(pipelines: Pipelines) -> None:
    pipelines.write("a.csv", *range(50))
    assert pipelines.call(FIRST) == [0, 0]
    first = splits(pipelines)
    assert pipelines.call(FIRST, "--set", "split.seed=8") == [0, 0]
    assert splits(pipelines) != first
    assert pipelines.call(FIRST) == [0, 0]
    assert splits(pipelines) == first


def splits(pipelines: Pipelines) -> dict[str, str]:
    rows = log.read_rows(pipelines.lake.path("gold/digits"), version=Ledger.read(pipelines.lake).version_of("gold/digits"))
    return {row["row_id"]: row["split"] for row in rows.to_pylist()}


def test_a_mended_source_is_looked_at_again(pipelines: Pipelines) -> None:
    pipelines.write("a.csv", 1, 2, digit=77)
    assert pipelines.call(FIRST) == [0, 2]
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    assert pipelines.rows("gold/digits").total() == 2


def test_rejects_of_a_night_that_failed_go_with_it(pipelines: Pipelines) -> None:
    """They can be looked at until a night succeeds. Of all nights, where the config made all anew; and of files, which the next
    night takes."""
    pipelines.write("a.csv", 1, 2, digit=1)
    assert pipelines.call(FIRST) == [0, 0]
    pipelines.write("b.csv", 3, 4, digit=7)
    columns = yaml.safe_load((ROOT / "schemas" / "digits_raw.yaml").read_text())["columns"]
    pipelines.contract(columns={**columns, "digit": {**columns["digit"], "range": [8, 9]}})
    assert pipelines.call(SECOND) == [0, 2]
    newest = log.read_rows(pipelines.lake.path("quarantine/pipelines/digits")).to_pylist()
    assert Counter(row["_night"] for row in newest) == {FIRST: 2, SECOND: 2}
    pipelines.contract()
    (pipelines.raw / "c.csv").write_text("index,image,digit\n5\n")
    assert pipelines.call(THIRD, steps=("ingest",)) == [2]
    assert log.read_rows(pipelines.lake.path("quarantine/sources/digits")).num_rows == 1
    assert pipelines.call(FOURTH, "--set", "quality.max_reject_ratio=1.0") == [0, 0]
    rejected = rows_of(pipelines.lake, "quarantine/sources/digits")
    assert [(row["_night"], row["rule"]) for row in rejected] == [(FOURTH, "too_few_fields")]
    assert rows_of(pipelines.lake, "quarantine/pipelines/digits") == []
    check_law(pipelines.lake, "digits", num_raw=5)


def test_a_source_that_was_moved_is_not_taken_again(pipelines: Pipelines, capsys: pytest.CaptureFixture[str]) -> None:
    """One that was copied is: both may be meant."""
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    elsewhere = pipelines.raw.rename(pipelines.raw.with_name("elsewhere"))
    pipelines.raw = elsewhere
    pipelines.define("digits")
    pipelines.write("b.csv", 3)
    assert pipelines.call(SECOND) == [0, 0]
    said = "ingest: 1 files (a.csv) were taken by other nights from elsewhere, and not again"
    assert said in capsys.readouterr().err
    assert pipelines.rows("silver/digits") == Counter({(FIRST, 1): 1, (FIRST, 2): 1, (SECOND, 3): 1})
    pipelines.raw = Path(shutil.copytree(elsewhere, elsewhere.with_name("copy")))
    pipelines.define("digits")
    assert pipelines.call(THIRD, steps=("ingest",)) == [0]
    assert pipelines.rows("bronze/digits")[THIRD, 3] == 1


@pytest.mark.parametrize("on_missing", ["fail", "skip"])
def test_files_that_are_gone_leave_the_night_as_it_was(pipelines: Pipelines, on_missing: str) -> None:
    pipelines.define("digits", on_missing=on_missing)
    path = pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    path.unlink()
    assert pipelines.call(FIRST, "--set", "split.seed=8") == [0, 0]
    assert pipelines.call(FIRST, "--force", steps=("ingest",)) == [2]
    assert pipelines.rows("bronze/digits").total() == pipelines.rows("gold/digits").total() == 2


def test_a_column_that_comes_to_a_source_is_null_in_older_nights(pipelines: Pipelines) -> None:
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    columns = yaml.safe_load((ROOT / "schemas" / "digits_raw.yaml").read_text())["columns"]
    pipelines.contract(columns={**columns, "writer": {"type": "string"}})
    (pipelines.raw / "b.csv").write_text(f"index,image,digit,writer\n3,{' '.join(['0'] * 64)},1,ann\n")
    assert pipelines.call(SECOND) == [0, 0]
    version = Ledger.read(pipelines.lake).version_of("silver/digits")
    rows = log.read_rows(pipelines.lake.path("silver/digits"), version=version).to_pylist()
    assert {row["index"]: row["writer"] for row in rows} == {1: None, 2: None, 3: "ann"}


def test_a_first_night_of_a_source_that_is_skipped_ends_in_peace(pipelines: Pipelines) -> None:
    pipelines.define("digits", on_missing="skip")
    assert pipelines.call(FIRST, steps=("night",)) == [0]
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST, steps=("night",)) == [0]
    assert pipelines.rows("gold/digits").total() == 2


def test_a_file_with_new_content_under_an_old_name_is_new(pipelines: Pipelines) -> None:
    pipelines.write("latest.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    pipelines.write("latest.csv", 3)
    assert pipelines.call(SECOND) == [0, 0]
    expected = Counter({(FIRST, 1): 1, (FIRST, 2): 1, (SECOND, 3): 1})
    assert pipelines.rows("silver/digits") == expected
    assert pipelines.call(FIRST, "--set", "split.seed=8") == [0, 0]  # its own content is gone, and its rows stand
    assert pipelines.rows("bronze/digits") == pipelines.rows("silver/digits") == expected
    assert pipelines.call(FIRST, "--force", steps=("ingest",)) == [2]


@pytest.mark.parametrize("upsert", [False, True])
def test_a_row_that_is_dropped_for_itself_takes_no_others_place(pipelines: Pipelines, upsert: bool) -> None:
    """Neither of a later row with its key nor, with upsert, of an older one: night by night, and both nights again together."""
    pipelines.contract(upsert=upsert)
    pipelines.define("digits", {"clean": [{"filter": {"where": "digit < 5", "rule": "small"}}]})
    first, second = (1, 7) if upsert else (7, 1)
    pipelines.write("a.csv", 1, digit=first)
    pipelines.write("b.csv", 2, digit=1)
    assert pipelines.call(FIRST) == [0, 0]
    pipelines.write("c.csv", 1, digit=second)
    assert pipelines.call(SECOND) == [0, 0]
    kept = Counter({(FIRST if upsert else SECOND, 1): 1, (FIRST, 2): 1})

    def silver() -> Counter[tuple[str, object]]:
        version = Ledger.read(pipelines.lake).version_of("silver/digits")
        rows = read_version(pipelines.spark, pipelines.lake, "silver/digits", version).select("_night", "index").collect()
        return Counter((row["_night"], row["index"]) for row in rows)

    assert silver() == kept
    assert pipelines.call(FIRST, "--set", "split.seed=8") == [0, 0]
    assert silver() == kept


@pytest.mark.parametrize("method", [{"method": "group", "group": ["digit"]}, {"key": ["digit"]}])
def test_a_rule_that_puts_equal_rows_on_two_sides_is_refused(
    pipelines: Pipelines, capsys: pytest.CaptureFixture[str], method: dict[str, object]
) -> None:
    """Seen in all rows of silver, those of older nights too; nothing that stood changes."""
    split = {**method, "fractions": {"train": 0.9, "validation": 0.1}, "seed": 7}
    pipelines.define("digits", {"split": {**split, "test": {"where": "index > 2"}}, "clean": []})
    pipelines.write("a.csv", 1, 2, digit=3)
    assert pipelines.call(FIRST) == [0, 0]
    pipelines.write("b.csv", 4, digit=3)
    assert pipelines.call(SECOND) == [0, 2]
    assert (
        "preprocess: expected each digit in one split; found 1 in more than one (digit=3 in test and train). "
        "Drop duplicates of it in clean, split by something else, or mend the rules of split.test and split.validation."
    ) in capsys.readouterr().err
    assert pipelines.rows("silver/digits") == Counter({(FIRST, 1): 1, (FIRST, 2): 1})
    pipelines.write("b.csv", 4, digit=5)
    assert pipelines.call(SECOND) == [0, 0]


def test_a_forced_night_without_rows_of_its_own(pipelines: Pipelines) -> None:
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    assert pipelines.call(SECOND, "--force") == [0, 0]
    assert pipelines.rows("gold/digits").total() == 2


def test_rows_dropped_for_a_night_that_changes_come_back(pipelines: Pipelines) -> None:
    pipelines.write("a.csv", 1, 2)
    assert pipelines.call(FIRST) == [0, 0]
    pipelines.write("b.csv", 2, 3)
    assert pipelines.call(SECOND) == [0, 0]
    assert (SECOND, 2) not in pipelines.rows("silver/digits")
    pipelines.write("a.csv", 1)
    assert pipelines.call(FIRST, "--force") == [0, 0]
    assert pipelines.rows("silver/digits") == Counter({(FIRST, 1): 1, (SECOND, 2): 1, (SECOND, 3): 1})


def test_changed_and_late_files_are_reported(pipelines: Pipelines, capsys: pytest.CaptureFixture[str]) -> None:
    pipelines.write("a.csv", 1)
    assert pipelines.call(SECOND, steps=("ingest",)) == [0]
    assert "late" not in capsys.readouterr().err
    pipelines.write("a.csv", 2)
    pipelines.write("b.csv", 3)
    assert pipelines.call(FIRST, steps=("ingest",)) == [0]
    said = capsys.readouterr().err
    assert "ingest: 1 files (a.csv) have changed since another night took them; their rows come again" in said
    assert f"ingest: 2 files (a.csv, b.csv) come late: {SECOND} has been ingested already" in said
    rows = log.read_rows(pipelines.lake.path("metrics/data_quality")).to_pylist()
    found = {(row["_night"], row["rule"]): (row["num_failed"], row["num_checked"]) for row in rows if "file_" in row["rule"]}
    assert found == {
        (SECOND, "file_changed"): (0, 1),
        (SECOND, "file_late"): (0, 1),
        (FIRST, "file_changed"): (1, 2),
        (FIRST, "file_late"): (2, 2),
    }
