"""Executors in processes of their own, as on a cluster, with conf/spark/gpu.conf: GPUs, secrets, executors that go away.

One call of spark-submit.sh serves all tests of a group, because a session and its workers take half a minute.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyspark
import pytest

from millrace.loading.index import DatasetIndex
from millrace.training.request import TrainResult
from tests.training.conftest import digits_request
from tests.training.faults import happened_at, plant, plant_recorder

ROOT = Path(__file__).resolve().parents[2]
# The fake: these machines have no GPU. The first who asks is told of GPU 0, the second of GPU 1, as nodes would be.
PRETEND = """#!/bin/bash
for gpu in 0 1 2; do mkdir "{directory}/gpu-$gpu" 2>/dev/null && break; done
echo "{{\\"name\\": \\"gpu\\", \\"addresses\\": [\\"$gpu\\"]}}"
"""
CANARIES = ("canary-in-the-environment", "canary-called-a-secret", "canary-in-the-settings", "canary-in-the-address")


@dataclass
class Session:
    """What a driver on the cluster has done and left."""

    directory: Path
    outcomes: list[dict[str, Any]]
    stdout: str
    stderr: str


def submit(directory: Path, runs: list[dict[str, Any]], *, executors: int = 2) -> Session:
    """Runs cluster_script.py by spark-submit.sh, on executors with one slot and one pretend GPU each."""
    discovery = directory / "discovery.sh"
    discovery.write_text(PRETEND.format(directory=directory))
    discovery.chmod(0o755)
    events = directory / "events"
    events.mkdir()
    plan = directory / "plan.json"
    plan.write_text(json.dumps({"out": str(directory / "out.json"), "runs": runs}))
    settings = {
        "spark.executor.resource.gpu.discoveryScript": discovery,  # there is no nvidia-smi
        "spark.worker.resource.gpu.amount": 1,  # a standalone worker finds its GPUs itself
        "spark.worker.resource.gpu.discoveryScript": discovery,
        "spark.pyspark.python": ROOT / ".venv/bin/python",  # instead of the packed environment's
        "spark.executor.memory": "512m",
        "spark.ui.enabled": "false",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": f"file:{events}",
        "spark.eventLog.compress": "false",  # to be searched
        "spark.eventLog.rolling.enabled": "false",
        "spark.hadoop.fs.s3a.secret.key": CANARIES[2],
    }
    options = [part for key, value in settings.items() for part in ("--conf", f"{key}={value}")]
    script = str(Path(__file__).with_name("cluster_script.py"))
    environment = {
        **os.environ,
        "MILLRACE_TEST_CANARY": CANARIES[0],
        "AWS_SECRET_ACCESS_KEY": CANARIES[1],
        "TF_VAR_canary": CANARIES[0],
        "MILLRACE_SPARK_LOG": "info",
    }
    done = subprocess.run(
        [
            str(ROOT / "spark-submit.sh"),
            "--profile",
            "gpu",
            "--master",
            f"local-cluster[{executors},1,1024]",
            *options,
            script,
            str(plan),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    out = directory / "out.json"
    assert done.returncode == 0, done.stderr[-3000:]
    for log in events.iterdir():  # what the executors have printed lies where Spark is, by the application's name
        shutil.move(Path(pyspark.__file__).parent / "work" / log.name.partition(".")[0], directory / "work")
    return Session(directory, json.loads(out.read_text()), done.stdout, done.stderr)


def run_of(request, planted: Path, **more: Any) -> dict[str, Any]:
    return {"request": json.loads(request.to_json()), "planted": str(planted), **more}


def with_password(index: DatasetIndex) -> DatasetIndex:
    """The same files by addresses that hold a password, which readers of local files ignore."""
    files = tuple(f"file://reader:{CANARIES[3]}@localhost{file}" for file in index.files)
    return replace(index, uri=f"file://reader:{CANARIES[3]}@localhost{index.uri}", files=files)


@pytest.fixture(scope="module")
def secret_run(digits_uri, tmp_path_factory):
    """A training on pretend GPUs with a canary wherever a secret may be, and one that fails on its first file."""
    directory = tmp_path_factory.mktemp("cluster")
    plant_recorder(directory / "planted")
    request = digits_request(digits_uri, directory / "checkpoints", num_workers="auto", epochs=1)
    request = replace(request, train=with_password(request.train), validation=None)
    missing = tuple(f"{file}.gone" for file in request.train.files)
    failing = replace(
        request,
        train=replace(request.train, files=missing),
        checkpoints=str(directory / "none"),
        training=request.training.model_copy(update={"num_workers": 1}),
    )
    plant_recorder(directory / "planted again")
    return submit(directory, [run_of(request, directory / "planted"), run_of(failing, directory / "planted again")])


def seen_by_ranks(session: Session) -> list[dict[str, Any]]:
    """Of the first training."""
    files = sorted((session.directory / "planted").glob("rank-*.json"))
    assert len(files) == 2
    return [json.loads(file.read_text()) for file in files]


def test_each_worker_sees_its_own_gpu_before_tensorflow_is_imported(secret_run):
    """Also: training.num_workers auto gives as many workers as GPUs, by the settings of gpu.conf."""
    assert TrainResult.from_json(secret_run.outcomes[0]["result"]).num_workers == 2
    assert sorted(seen["environment"]["CUDA_VISIBLE_DEVICES"] for seen in seen_by_ranks(secret_run)) == ["0", "1"]


def test_canary_is_found_nowhere(secret_run):
    """Neither in what workers and their children see, nor in what is logged or said."""
    places: dict[str, str] = {"stdout": secret_run.stdout, "stderr": secret_run.stderr}
    for rank, seen in enumerate(seen_by_ranks(secret_run)):
        assert "HOROVOD_RANK" in seen["child"]
        places |= {f"rank {rank}: {name}": str(value) for name, value in seen.items()}
    for outcome in secret_run.outcomes:
        places |= {f"environ at the start of worker {number}": text for number, text in enumerate(outcome["environments"])}
    assert "expected 100 rows in row group" in secret_run.outcomes[1]["error"]
    places["error"] = secret_run.outcomes[1]["error"]
    kept = [
        file for part in ("events", "work", "checkpoints") for file in (secret_run.directory / part).rglob("*") if file.is_file()
    ]
    kept = [file for file in kept if file.suffix not in (".jar", ".zip")]
    assert any(file.name == "stderr" for file in kept)
    assert any("SparkListenerEnvironmentUpdate" in file.read_text() for file in kept if file.parent.name == "events")
    for file in (*kept, secret_run.directory / "log.jsonl"):
        places[str(file)] = file.read_bytes().decode(errors="replace")
    assert {place: canary for place, text in places.items() for canary in CANARIES if canary in text} == {}


@pytest.mark.full
def test_executor_that_is_killed_or_taken_away(digits_uri, tmp_path):
    """Killed, its place is filled and two workers go on; taken away for good, one worker goes on."""
    plant(tmp_path / "fault", rank=1, what="kill executor", step=40)
    plant_recorder(tmp_path / "planted")
    whole, killed, taken = (
        digits_request(digits_uri, tmp_path / name, num_workers=2, epochs=epochs)
        for name, epochs in (("whole", 2), ("killed", 2), ("taken", 100))  # Spark takes its time to take an executor away
    )
    session = submit(
        tmp_path,
        [
            run_of(whole, tmp_path / "planted"),
            run_of(killed, tmp_path / "fault"),
            run_of(taken, tmp_path / "planted", take_executor=40),
        ],
    )
    results = [TrainResult.from_json(outcome["result"]) for outcome in session.outcomes]
    assert [result.num_workers for result in results] == [2, 2, 1]
    assert [result.num_rows_seen for result in results] == [3000, 3000, 100 * 1500]
    assert results[1].weight_hash == results[0].weight_hash
    assert [result.first_epoch for result in results[:2]] == [1, 2]
    assert 2 <= results[2].first_epoch <= 100
    assert [(outcome["left"], outcome["clean"], outcome["ctrl_c"]) for outcome in session.outcomes] == [([], True, True)] * 3
    moments = [happened_at(tmp_path / "fault"), session.outcomes[2]["taken"][0]]
    for outcome, moment in zip(session.outcomes[1:], moments, strict=True):
        assert min(hello for hello in outcome["hellos"] if hello > moment) - moment < 60
    assert "Training goes on with 2 workers (attempt 2 of 3)" in session.stderr
    assert "Training goes on with 1 worker (attempt 2 of 3)" in session.stderr


@pytest.mark.full
def test_executor_that_is_killed_among_three(digits_uri, tmp_path):
    """Its place is filled, and three workers go on to the weights of a run without a fault."""
    plant(tmp_path / "fault", rank=1, what="kill executor", step=40)
    plant_recorder(tmp_path / "planted")
    whole, killed = (digits_request(digits_uri, tmp_path / name, num_workers=3, epochs=2) for name in ("whole", "killed"))
    session = submit(tmp_path, [run_of(whole, tmp_path / "planted"), run_of(killed, tmp_path / "fault")], executors=3)
    results = [TrainResult.from_json(outcome["result"]) for outcome in session.outcomes]
    assert [(result.num_workers, result.num_rows_seen) for result in results] == [(3, 3000)] * 2
    assert results[1].weight_hash == results[0].weight_hash
    assert [(outcome["left"], outcome["clean"], outcome["ctrl_c"]) for outcome in session.outcomes] == [([], True, True)] * 2
    moment = happened_at(tmp_path / "fault")
    assert min(hello for hello in session.outcomes[1]["hellos"] if hello > moment) - moment < 60
    assert "Training goes on with 3 workers (attempt 2 of 3)" in session.stderr
