"""Real Horovod runs on a real Spark session, and what happens when a part of them fails."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from millrace.errors import ContractError, PlanError, TrainingError
from millrace.flows.job import take_signals
from millrace.training.checkpoint import read_checkpoint
from millrace.training.launch import train_on_spark
from millrace.training.listener import HeartbeatServer
from tests.training.conftest import checkpoint_of, digits_request
from tests.training.faults import Watcher, ctrl_c_works, handlers, happened_at, no_process_is_left


def first_epoch_over(event) -> bool:
    return event["kind"] == "epoch" and event["rank"] == 0


@pytest.fixture(scope="module")
def whole_run(spark, digits_uri, tmp_path_factory):
    """Two workers, nothing goes wrong: what the runs below are compared with."""
    request = digits_request(digits_uri, tmp_path_factory.mktemp("whole"), num_workers=2)
    os.environ["MILLRACE_TEST_CANARY"] = "not for workers"
    before = handlers()
    watcher = Watcher()
    result = train_on_spark(spark, request, on_event=watcher)
    assert handlers() == before
    return request, result, watcher


def test_two_workers_train_on_every_row(whole_run):
    _, result, watcher = whole_run
    assert (result.num_workers, result.num_steps, result.num_rows_seen) == (2, 4 * 32, 4 * 1500)
    assert watcher.all_gone()
    kinds = [(event["kind"], event["rank"]) for event in watcher.events]
    assert kinds.count(("step", 0)) == 4 * 32
    assert sorted(kind for kind in kinds if kind[0] == "done") == [("done", 0), ("done", 1)]
    epochs = [event for event in watcher.events if first_epoch_over(event)]
    assert [row for event in epochs for row in event["metrics"]] == list(result.rows)


def test_workers_do_not_get_the_drivers_environment(whole_run):
    _, _, watcher = whole_run
    assert sorted(watcher.environments) == [0, 1]
    for environment in watcher.environments.values():
        assert "HOROVOD_RANK" in environment
        assert "MILLRACE_TEST_CANARY" not in environment


def test_one_worker_ends_with_the_same_weights(spark, whole_run, make_request):
    _, two, _ = whole_run
    one = train_on_spark(spark, make_request())
    theirs = read_checkpoint(two.weights).weights
    for mine, other in zip(read_checkpoint(one.weights).weights, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-5)
    assert one.num_workers == 1


def test_run_goes_on_by_itself_when_a_rank_is_killed_and_ends_with_the_same_weights(spark, whole_run, make_request, inject, log):
    _, whole, _ = whole_run
    request = make_request(num_workers=2)
    fault = inject(rank=1, what="kill", step=40)
    before = handlers()
    watcher = Watcher()
    result = train_on_spark(spark, request, on_event=watcher)
    assert log.times[0] - happened_at(fault) < 60
    assert log.lines == [
        "rank 1 ended without a word, after step 40 in epoch 2. Training goes on with 2 workers (attempt 2 of 3)"
    ]
    assert watcher.remarks == [f"going on from {checkpoint_of(request, 1)}"]
    assert (result.weight_hash, result.num_rows_seen, result.first_epoch) == (whole.weight_hash, whole.num_rows_seen, 2)
    assert watcher.all_gone()
    assert no_process_is_left()
    assert handlers() == before
    assert ctrl_c_works()


@pytest.mark.full
def test_when_no_restart_is_left_the_user_gets_the_error(spark, make_request, inject, log):
    inject(rank=1, what="kill", step=40)
    with pytest.raises(TrainingError) as caught:
        train_on_spark(spark, make_request(num_workers=2, max_restarts=0))
    assert "expected every rank to take part in every step; found rank 1 ended without a word, after step 40" in str(caught.value)
    assert str(caught.value).endswith("Run again; training goes on from its last checkpoint.")
    assert caught.value.retry
    assert log.lines == []


def test_error_of_ours_in_a_rank_comes_as_itself(spark, make_request, capfd, log):
    with pytest.raises(ContractError) as caught:
        train_on_spark(spark, make_request(label="no_digit", num_workers=2))
    assert "expected column no_digit with no nulls; found 1 nulls in 100 rows, in row group 7 of" in str(caught.value)
    assert log.lines == []  # a restart would not help
    assert "Traceback" not in str(caught.value)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, pytest.param(signal.SIGTERM, marks=pytest.mark.full)])
def test_signal_while_training_ends_it(spark, make_request, log, number):
    """With the handlers that a job has, as when its terminal is closed."""
    before = handlers()
    watcher = Watcher(first_epoch_over, lambda _: os.kill(os.getpid(), number))
    take_signals()
    try:
        with pytest.raises(KeyboardInterrupt):
            train_on_spark(spark, make_request(num_workers=2, epochs=200), on_event=watcher)
        assert handlers() == [signal.default_int_handler] * 3
    finally:
        for each, handler in zip((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), before, strict=True):
            signal.signal(each, handler)
    assert watcher.all_gone()
    assert no_process_is_left()
    assert log.lines == []  # no other attempt was begun


@pytest.mark.full
def test_ignored_hangup_stays_ignored(spark, make_request):
    usual = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        hangs_up = Watcher(first_epoch_over, lambda _: os.kill(os.getpid(), signal.SIGHUP))
        assert train_on_spark(spark, make_request(num_workers=1, epochs=2), on_event=hangs_up).epoch == 2
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, usual)


def test_interrupt_inside_of_a_run_is_not_tried_again(spark, make_request, monkeypatch, log):
    calls = []

    def interrupted(*_arguments, **_options):
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr("horovod.spark.run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_on_spark(spark, make_request())
    assert (calls, log.lines) == ([1], [])


@pytest.mark.full
def test_driver_that_workers_cannot_reach(spark, make_request, monkeypatch):
    """Two attempts, until no restart is left."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nowhere = closed.getsockname()[:2]
    monkeypatch.setattr(HeartbeatServer, "address", property(lambda _: nowhere, lambda *_: None), raising=False)
    with pytest.raises(TrainingError) as caught:
        train_on_spark(spark, make_request(num_workers=2, max_restarts=1))
    assert caught.value.expected == f"to reach the driver at 127.0.0.1:{nowhere[1]}"
    assert caught.value.retry


def test_workers_that_give_no_result(spark, make_request, monkeypatch, log):
    monkeypatch.setattr("horovod.spark.run", lambda *_arguments, **_options: [None, None])
    with pytest.raises(TrainingError) as caught:
        train_on_spark(spark, make_request(num_workers=2, max_restarts=1))
    assert re.fullmatch(
        r"training: expected a result from rank 0; found none; 0 of 2 workers had reached the driver at 127\.0\.0\.1:\d+\. "
        r"See that executors can connect to the driver there, and run again; training goes on from its last checkpoint\.",
        str(caught.value),
    )
    assert caught.value.retry
    assert len(log.lines) == 1


def test_more_workers_than_slots_are_refused_at_once(spark, make_request):
    started = time.monotonic()
    with pytest.raises(PlanError) as caught:
        train_on_spark(spark, make_request(num_workers=5))
    assert str(caught.value) == (
        "training: expected at most 4 workers, because Spark has 4 task slots; found training.num_workers = 5. "
        "Lower training.num_workers, or give Spark more cores (--master local[N], or more executors)."
    )
    assert time.monotonic() - started < 5


def test_more_workers_than_shards_are_refused_at_once(spark, make_request):
    with pytest.raises(PlanError, match=r"expected num_workers or world_size from 1 to 2 \(virtual_shards\); found 3\."):
        train_on_spark(spark, make_request(num_workers=3, virtual_shards=2))


@pytest.mark.parametrize("victim", ["driver", pytest.param("jvm", marks=pytest.mark.full)])
def test_no_worker_outlives_the_driver_or_its_jvm(victim, make_request, tmp_path):
    """Takes a Spark session of its own, because that is what gets killed."""
    request = tmp_path / "request.json"
    request.write_text(make_request(num_workers=2, epochs=10_000).to_json())
    script = Path(__file__).with_name("driver_script.py")
    noise = tmp_path / "stderr"
    with (
        noise.open("w") as stderr,
        subprocess.Popen([sys.executable, str(script), str(request)], stdout=subprocess.PIPE, stderr=stderr, text=True) as driver,
    ):
        pids = {"driver": [driver.pid], "jvm": [], "worker": []}
        for line in driver.stdout:
            kind, *pid = line.split()
            if kind == "training":
                break
            pids[kind].append(int(pid[0]))
        assert len(pids["worker"]) == 2, noise.read_text()
        everybody = psutil.Process(driver.pid).children(recursive=True)
        os.kill(pids[victim][0], signal.SIGKILL)
        driver.wait(timeout=30)
    _, alive = psutil.wait_procs(everybody, timeout=30)
    assert [" ".join(process.cmdline()) for process in alive] == []


@pytest.mark.full
def test_exception_in_a_rank_comes_whole_and_once(spark, make_request):
    with pytest.raises(TrainingError) as caught:
        train_on_spark(spark, make_request(label="wrong_digit", num_workers=2))
    text = str(caught.value)
    assert "Received a label value of 10 which is outside the valid range of [0, 10)" in text
    assert text.count("Traceback (most recent call last):") == 1


@pytest.mark.full
def test_callback_that_fails_ends_the_run(spark, make_request):
    def fail(_pids):
        raise ValueError("broken display")

    watcher = Watcher(first_epoch_over, fail)
    with pytest.raises(ValueError, match="broken display"):
        train_on_spark(spark, make_request(num_workers=2, epochs=200), on_event=watcher)
    assert watcher.all_gone()
