"""conf/spark: plain lines, nothing of one machine, and gpu.conf is cluster.conf with GPUs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from millrace.flows.batches import BATCH_BYTES, KEY

ROOT = Path(__file__).parents[2]


def settings(name: str) -> dict[str, str]:
    lines = (ROOT / "conf" / "spark" / f"{name}.conf").read_text().splitlines()
    pairs = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs)
    assert len({key for key, _ in pairs}) == len(pairs)
    return dict(tuple(pair) for pair in pairs)


@pytest.mark.parametrize("name", ["local", "cluster", "gpu"])
def test_each_profile_has_delta_utc_and_no_machine_in_it(name: str) -> None:
    found = settings(name)
    assert found["spark.sql.extensions"] == "io.delta.sql.DeltaSparkSessionExtension"
    assert found["spark.sql.catalog.spark_catalog"] == "org.apache.spark.sql.delta.catalog.DeltaCatalog"
    assert found["spark.sql.session.timeZone"] == "UTC"
    assert found["spark.sql.codegen.hugeMethodLimit"] == "8000"
    assert int(found[KEY]) == BATCH_BYTES
    assert "spark.sql.ansi.enabled" not in found
    assert [value for value in found.values() if re.match(r"(file:)?/", value)] == []


def test_gpu_is_cluster_and_one_gpu_a_rank() -> None:
    cluster, gpu = settings("cluster"), settings("gpu")
    assert {key: value for key, value in gpu.items() if key not in cluster} == {
        "spark.executor.resource.gpu.amount": "1",
        "spark.task.resource.gpu.amount": "1",
        "spark.executor.resource.gpu.discoveryScript": "./gpu_discovery.sh",
    }
    assert {key: gpu[key] for key in cluster} == cluster


@pytest.mark.parametrize(("listed", "addresses"), [("0\\n1\\n", '"0", "1"'), ("0\\n", '"0"'), ("", "")])
def test_gpu_discovery_prints_what_spark_reads(tmp_path: Path, listed: str, addresses: str) -> None:
    """nvidia-smi is stood in for: the machines that run this have no GPU."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/bash\n[ \"$*\" = '--query-gpu=index --format=csv,noheader' ] && printf '{listed}'\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([ROOT / "scripts" / "gpu_discovery.sh"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f'{{"name": "gpu", "addresses": [{addresses}]}}\n'
