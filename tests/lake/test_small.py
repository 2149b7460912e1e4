"""Small tables: appended and replaced without Spark, by several processes at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from millrace.errors import LakeError
from millrace.lake import log, small
from millrace.lake.layout import EPOCHS, Lake
from tests.factories import NIGHT

WRITE = """
import sys
from millrace.lake import small
from millrace.lake.layout import Lake
lake, run_id = Lake.at(sys.argv[1]), sys.argv[2]
row = dict(pipeline="tiny", run_id=run_id, _night="2026-11-22", step=1, split="train", metric="loss", value=0.5)
row["learning_rate"] = 0.1
for epoch in range(8):
    small.append(lake, "metrics/epochs", [{**row, "epoch": epoch}], metadata={"run_id": run_id})
    other = {**row, "epoch": epoch, "run_id": run_id * 2}
    small.replace(lake, "metrics/epochs", [other], where={"run_id": run_id * 2}, metadata={})
"""


def epoch_row(epoch: int, run_id: str = "r1", value: float = 0.5) -> dict[str, object]:
    return {
        "pipeline": "tiny",
        "run_id": run_id,
        "_night": NIGHT,
        "epoch": epoch,
        "step": 10 * epoch,
        "split": "train",
        "metric": "loss",
        "value": value,
        "learning_rate": 0.1,
        "rows_per_second": None,
    }


def rows_of(lake: Lake) -> list[dict[str, object]]:
    return sorted(log.read_rows(lake.path(EPOCHS)).to_pylist(), key=lambda row: (row["run_id"], row["epoch"]))


def test_replacing_twice_changes_nothing(lake: Lake) -> None:
    one, two, other = epoch_row(1), epoch_row(2), epoch_row(1, "it's")
    assert small.append(lake, EPOCHS, [other], metadata={"run_id": "it's"}) == 0
    for _ in range(2):
        small.replace(lake, EPOCHS, [one, two], where={"run_id": "r1"}, metadata={"run_id": "r1"})
        assert rows_of(lake) == [other, one, two]
    version = small.replace(lake, EPOCHS, [], where={"run_id": "it's"}, metadata={"run_id": "it's"})
    assert rows_of(lake) == [one, two]
    assert log.user_metadata(lake.path(EPOCHS), version) == {"run_id": "it's"}
    assert log.read_rows(lake.path(EPOCHS), version=0).to_pylist() == [other]


def test_rows_may_come_as_an_arrow_table_in_another_order_of_columns(lake: Lake) -> None:
    schema = small.schema_of(EPOCHS)
    table = log.pa.Table.from_pylist([epoch_row(1)], schema=schema)
    small.append(lake, EPOCHS, table.select(list(reversed(schema.names))), metadata={})
    assert rows_of(lake) == [epoch_row(1)]


def test_writers_in_two_processes_lose_nothing(lake: Lake) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, lake.uri, run_id]) for run_id in ("a", "b")]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    found = [(row["run_id"], row["epoch"]) for row in rows_of(lake)]
    appended = [(run_id, epoch) for run_id in ("a", "b") for epoch in range(8)]
    assert found == sorted([*appended, ("aa", 7), ("bb", 7)])


def test_what_is_no_table(lake: Lake) -> None:
    with pytest.raises(LakeError) as caught:
        log.read_rows(lake.path(EPOCHS))
    assert str(caught.value) == (f"lake: expected a Delta table at {lake.path(EPOCHS)}; found none. Run the step that writes it.")
    small.append(lake, EPOCHS, [epoch_row(1)], metadata={})
    with pytest.raises(LakeError, match="--force"):
        log.open_table(lake.path(EPOCHS), 7)
