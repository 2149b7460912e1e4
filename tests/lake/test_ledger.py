"""The ledger: what is done, what is done again, and what stands in metrics/runs afterwards."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from millrace.errors import SourceError, WireError
from millrace.lake import log, small
from millrace.lake.layout import EPOCHS, RUNS, Lake
from millrace.lake.ledger import Counts, Entry, Inputs, Ledger, TableVersion
from millrace.lake.protocol import Plan, Step, plan_step, record_night, run_step, step_key
from tests.factories import make_run, make_step, raw_file

RUN = make_run()
GOLD = TableVersion("gold/tiny", 3)


def plan(lake: Lake, step: Step, *, run: object = None, force: bool = False) -> Plan:
    return plan_step(Ledger.read(lake), run or RUN, step, force=force)  # type: ignore[arg-type]


def test_an_entry_comes_back_as_it_was(lake: Lake) -> None:
    inputs = Inputs((TableVersion("bronze/tiny", 1),), (raw_file(),))
    step = make_step(inputs=inputs, outputs=[GOLD], counts=Counts(10, 7, 2, 1))
    entry, now = run_step(lake, RUN, step)
    assert now
    started, succeeded = Ledger.read(lake).entries
    assert (started.status, started.inputs, started.ended_at, started.counts) == ("started", inputs, None, None)
    assert succeeded == entry
    assert succeeded.output("gold/tiny") == 3
    assert succeeded.output("gold/other") is None
    assert Ledger.read(lake).version_of("gold/tiny") == 3
    assert Ledger.read(lake).version_of("gold/other") is None


def test_a_done_step_is_not_done_again_by_any_run(lake: Lake) -> None:
    first, _ = run_step(lake, RUN, make_step(sections=[{"a": 1}]))
    other = make_run(config="deadbeef")
    assert run_step(lake, other, make_step(sections=[{"a": 1}])) == (first, False)
    found = plan(lake, make_step(sections=[{"a": 1}]), run=other)
    assert (found.done_by, found.reason) == (first, f"nothing it depends on has changed since {RUN.run_id}")
    assert plan(lake, make_step(sections=[{"a": 1}]), force=True).reason == "--force"
    assert plan(lake, make_step(sections=[{"a": 2}])).reason == "its inputs or config have changed"
    assert plan(lake, make_step("train")).reason == "not done yet"
    assert len(Ledger.read(lake).entries) == 2  # planning and passing over write nothing


def test_a_killed_try_keeps_its_inputs_where_the_step_only_reads_them(lake: Lake) -> None:
    """`started` and nothing after it, while the source has moved on."""
    old, new = Inputs((TableVersion("gold/tiny", 1),)), Inputs((TableVersion("gold/tiny", 2),))
    step = make_step("train", inputs=old)
    killed = Entry(RUN, "train", step_key(step, old), "started", 1, datetime.now(UTC), inputs=old)
    small.append(lake, RUNS, [killed.to_row()], metadata={})
    again = make_step("train", inputs=new)
    assert plan(lake, again).inputs == new
    again = replace(again, keeps_inputs=True)
    assert plan(lake, again).inputs == old
    assert plan(lake, again).reason == "its last try was killed"
    assert plan(lake, again, force=True).inputs == new
    entry, _ = run_step(lake, RUN, again)
    assert (entry.inputs, entry.attempt) == (old, 2)


def test_a_failed_try_looks_at_its_inputs_anew(lake: Lake) -> None:
    for name, old, new in (
        ("ingest", Inputs(files=(raw_file(sha256="old"),)), Inputs(files=(raw_file(sha256="new"),))),
        ("train", Inputs((TableVersion("gold/tiny", 1),)), Inputs((TableVersion("gold/tiny", 2),))),
    ):
        with pytest.raises(RuntimeError):
            run_step(lake, RUN, make_step(name, inputs=old, error=RuntimeError("no")))
        found = plan(lake, replace(make_step(name, inputs=new), keeps_inputs=True))
        assert (found.inputs, found.reason) == (new, "its last try failed")


def test_what_no_longer_stands_is_done_again(lake: Lake) -> None:
    step = make_step(outputs=[GOLD])
    run_step(lake, RUN, step)
    assert plan(lake, step).done_by is not None
    superseded = replace(step, stands=lambda ledger, entry: entry.output("gold/tiny") == ledger.version_of("gold/other"))
    assert plan(lake, superseded).done_by is None


def test_a_night_is_finished_until_something_of_it_starts_again(lake: Lake) -> None:
    run_step(lake, RUN, make_step())
    assert not Ledger.read(lake).is_finished(RUN.run_id)
    record_night(lake, RUN, datetime.now(UTC))
    assert Ledger.read(lake).is_finished(RUN.run_id)
    with pytest.raises(RuntimeError):
        run_step(lake, RUN, make_step(error=RuntimeError("no")), force=True)
    assert not Ledger.read(lake).is_finished(RUN.run_id)


def test_step_keys_depend_on_content_not_on_where_files_lie() -> None:
    step = make_step()
    here, there = Inputs(files=(raw_file("/a/x.csv"),)), Inputs(files=(raw_file("/b/x.csv"),))
    changed = Inputs(files=(raw_file("/a/x.csv", "bb"),))
    assert step_key(step, here) == step_key(step, there) != step_key(step, changed)
    assert step_key(make_step("train"), here) != step_key(step, here)


@pytest.mark.parametrize(
    ("error", "recorded"),
    [
        (RuntimeError("password=hunter2 is wrong"), "RuntimeError: password=*** is wrong"),
        (KeyboardInterrupt(), "interrupted"),
        (
            SourceError("ingest", expected="a file", found="none", remedy="Fetch it."),
            "ingest: expected a file; found none. Fetch it.",
        ),
        (
            RuntimeError(
                "Job aborted\n"
                + str(WireError(SourceError("ingest", expected="a file", found="none", remedy="Fetch it.")))
                + "\n\tat org.apache.spark"
            ),
            "ingest: expected a file; found none. Fetch it.",
        ),
    ],
)
def test_failures_are_recorded_and_raised(lake: Lake, error: BaseException, recorded: str) -> None:
    with pytest.raises(type(error)) as caught:
        run_step(lake, RUN, make_step(error=error))
    assert caught.value is error
    started, failed = Ledger.read(lake).entries
    assert (started.status, failed.status, failed.error) == ("started", "failed", recorded)
    assert failed.outputs == ()
    assert Ledger.read(lake).succeeded(run_id=RUN.run_id) is None


def test_attempts_are_counted(lake: Lake) -> None:
    with pytest.raises(RuntimeError):
        run_step(lake, RUN, make_step(error=RuntimeError("no")))
    assert run_step(lake, RUN, make_step())[0].attempt == 2
    assert run_step(lake, RUN, make_step(), force=True)[0].attempt == 3
    assert run_step(lake, make_run(config="deadbeef"), make_step(), force=True)[0].attempt == 1


def test_a_mistake_before_started_writes_nothing(lake: Lake) -> None:
    def no_files(_: Ledger) -> Inputs:
        raise SourceError("ingest", expected="files", found="none", remedy="Fetch them.")

    with pytest.raises(SourceError):
        run_step(lake, RUN, Step("ingest", "source-tiny", [], no_files, make_step().work))
    assert not log.exists(lake.path(RUNS))


def test_a_finished_night_is_named(lake: Lake) -> None:
    record_night(lake, RUN, datetime.now(UTC))
    entry = Ledger.read(lake).succeeded(step="nightly", run_id=RUN.run_id)
    assert entry is not None
    assert (entry.counts, entry.outputs) == (None, ())


def test_the_counting_law() -> None:
    assert Counts(3, 1, 1, 1)
    with pytest.raises(AssertionError, match="the counting law is broken"):
        Counts(3, 1, 1, 0)


def test_metrics_names_of_a_lake_without_runs(lake: Lake) -> None:
    assert Ledger.read(lake).entries == ()
    assert log.nights_of(lake.path(EPOCHS)) == frozenset()
    assert log.latest_version(lake.path(EPOCHS)) is None
