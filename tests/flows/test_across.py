"""Rules of a contract that look at other rows and other tables, in the flow."""

from __future__ import annotations

from collections import Counter

import pytest
import yaml

from millrace.lake import log
from millrace.lake.ledger import Ledger
from tests.flows.nights import ROOT
from tests.flows.pipelines import FIRST, SECOND, Pipelines


def rejected(pipelines: Pipelines) -> dict[str, Counter[str]]:
    """rule -> what of the raw row tells which one it was."""
    table = "quarantine/pipelines/digits"
    rows = log.read_rows(pipelines.lake.path(table), version=Ledger.read(pipelines.lake).version_of(table)).to_pylist()
    found: dict[str, Counter[str]] = {}
    for row in rows:
        assert row["action"] == "quarantined"
        found.setdefault(row["rule"], Counter())[yaml.safe_load(row["record"])["index"]] += 1
    return found


def test_values_that_stand_twice_also_of_another_night(pipelines: Pipelines) -> None:
    columns = yaml.safe_load((ROOT / "schemas" / "digits_raw.yaml").read_text())["columns"]
    pipelines.contract(columns={**columns, "digit": {**columns["digit"], "unique": True}})
    pipelines.define("digits", {"clean": [], "quality": {"max_reject_ratio": 1.0}})
    pipelines.write("a.csv", 1, 2, digit=1)
    pipelines.write("b.csv", 3, digit=2)
    assert pipelines.call(FIRST) == [0, 0]
    pipelines.write("c.csv", 4, digit=2)
    pipelines.write("d.csv", 5, digit=3)
    assert pipelines.call(SECOND) == [0, 0]
    assert rejected(pipelines) == {"digit_not_unique": Counter({"2": 1, "4": 1})}
    assert pipelines.rows("silver/digits") == Counter({(FIRST, 1): 1, (FIRST, 3): 1, (SECOND, 5): 1})


def test_keys_of_another_table(pipelines: Pipelines, capsys: pytest.CaptureFixture[str]) -> None:
    pipelines.contract(references=[{"column": ["digit"], "table": "bronze/known", "key": ["digit"]}])
    pipelines.define("digits", {"quality": {"max_reject_ratio": 1.0}})
    pipelines.write("a.csv", 1, digit=1)
    pipelines.write("b.csv", 2, digit=2)
    assert pipelines.call(FIRST) == [0, 2]
    assert "preprocess: expected rows in bronze/known; found none. digits_raw refers to it: run what fills it first." in (
        capsys.readouterr().err
    )
    pipelines.define("known", name="known", path=str(pipelines.raw / "a.csv"))
    assert pipelines.call(FIRST, pipeline="known", steps=("ingest",)) == [0]
    assert pipelines.call(FIRST) == [0, 0]
    assert rejected(pipelines) == {"digit_not_in_known": Counter({"2": 1})}
    assert pipelines.rows("silver/digits") == Counter({(FIRST, 1): 1})
    pipelines.define("known", name="known", path=str(pipelines.raw))
    assert pipelines.call(SECOND, pipeline="known", steps=("ingest",)) == [0]
    pipelines.write("c.csv", 3, digit=1)
    capsys.readouterr()
    assert pipelines.call(SECOND) == [0, 0]
    assert (
        "preprocess: 1 rows of other nights are in quarantine for want of a row in bronze/known, which has changed since; "
        f"preprocess with --force --night {FIRST} looks at them again"
    ) in capsys.readouterr().err
    assert pipelines.call(FIRST, "--force", steps=("preprocess",)) == [0]
    assert pipelines.rows("silver/digits") == Counter({(FIRST, 1): 1, (FIRST, 2): 1, (SECOND, 3): 1})


def test_a_first_night_without_a_row(pipelines: Pipelines, capsys: pytest.CaptureFixture[str]) -> None:
    """All are in quarantine before bronze; the next night goes on."""
    pipelines.define("digits", {"quality": {"max_reject_ratio": 1.0}})
    (pipelines.raw / "a.csv").write_text("index,image,digit\n1,2\n")
    assert pipelines.call(FIRST) == [0, 2]
    assert (
        "preprocess: expected a row of digits that can be read; found none. "
        "`millrace quarantine` shows what was taken out, and why."
    ) in capsys.readouterr().err
    pipelines.write("b.csv", 1, digit=1)
    assert pipelines.call(SECOND) == [0, 0]
    assert pipelines.rows("silver/digits") == Counter({(SECOND, 1): 1})


def test_a_row_that_is_quarantined_late_has_its_raw_text(pipelines: Pipelines) -> None:
    names = {"train": ["1"], "validation": [], "test": []}
    sections = {"clean": [], "split": {"method": "given", "column": "digit", "names": names}}
    pipelines.define("digits", {**sections, "quality": {"max_reject_ratio": 1.0}})
    pipelines.write("a.csv", 1, 2, digit=1)
    pipelines.write("b.csv", 3, digit=2)
    assert pipelines.call(FIRST) == [0, 0]
    assert rejected(pipelines) == {"split_is_unknown": Counter({"3": 1})}


def test_a_row_without_a_class_takes_no_place_and_one_of_an_unseen_class_is_stored_whole(pipelines: Pipelines) -> None:
    """Of two rows with one key the first has no label, so that the second is kept."""
    columns = {"index": {"type": "int", "nullable": False}, "image": {"type": "string"}, "digit": {"type": "int"}}
    pipelines.contract(columns=columns, key=["index"])
    names = {"train": ["a"], "validation": [], "test": ["b"]}
    pipelines.define(
        "digits",
        {
            "clean": [],
            "split": {"method": "given", "column": "image", "names": names},
            "features": [{"column": "index", "encode": "zscore"}],
            "label": {"column": "digit", "kind": "class"},
            "quality": {"max_reject_ratio": 1.0},
        },
    )
    (pipelines.raw / "a.csv").write_text("index,image,digit\n1,a,\n")
    (pipelines.raw / "b.csv").write_text("index,image,digit\n1,a,5\n2,b,7\n")
    assert pipelines.call(FIRST) == [0, 0]
    assert pipelines.rows("silver/digits") == Counter({(FIRST, 1): 1})
    table = "quarantine/pipelines/digits"
    rows = log.read_rows(pipelines.lake.path(table), version=Ledger.read(pipelines.lake).version_of(table)).to_pylist()
    assert {row["rule"]: (row["reason"], row["record"]) for row in rows} == {
        "digit_is_no_label": ("the label has no value", '{"image":"a","index":"1"}'),
        "digit_unseen_in_train": ("no row of the train split has this label", '{"digit":7,"image":"b","index":2}'),
    }
