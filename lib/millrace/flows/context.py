"""What every flow is given: the session, the lake, the pipeline and the night."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from importlib import resources
from pathlib import Path

from pyspark.sql import SparkSession

from millrace.config.load import hash_of
from millrace.config.models import PipelineConfig
from millrace.contracts.table import TableContract
from millrace.errors import ConfigError
from millrace.flows.check import silver_contract
from millrace.lake.layout import Lake
from millrace.lake.ledger import Run


@dataclass(frozen=True)
class Context:
    """One pipeline's night. `spark` opens the session at the first call, so that what needs none does not wait for one."""

    spark: Callable[[], SparkSession]
    lake: Lake
    config: PipelineConfig
    contract: TableContract
    run: Run
    force: bool = False

    @property
    def pipeline_lock(self) -> str:
        """The lock of every step but ingest."""
        return f"pipeline-{self.config.name}"

    @cached_property
    def silver(self) -> TableContract:
        """The contract of the columns that silver has of a row: the raw ones, and those that cleaning and splitting add."""
        return silver_contract(self.config, self.contract)

    @property
    def source_path(self) -> str:
        """Where tonight's raw files are."""
        return self.config.source.path.replace("{night}", self.run.night).replace("{lake}", self.lake.uri)


@dataclass(frozen=True)
class Flow:
    """What a job does: `check` finds a user's mistakes before anything is changed, `plan` prints what `run` would do."""

    check: Callable[[Context], None]
    plan: Callable[[Context], None]
    run: Callable[[Context], None]


def make_run(config: PipelineConfig, contract: TableContract, night: str) -> Run:
    """The run of a pipeline's night: its id is PIPELINE-NIGHT- and 8 hex digits of the hash of config and contract."""
    config_hash = hash_of(config, contract)
    return Run(config.name, night, f"{config.name}-{night}-{config_hash[:8]}", config_hash, code_revision())


def check_night(text: str) -> str:
    """A date as YYYY-MM-DD. Raises ConfigError for anything else."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ConfigError("config", expected="--night YYYY-MM-DD", found=text, remedy="For example --night 2026-11-22.") from None


def code_revision() -> str:
    """The revision that the package was built from, else that of the checkout it runs in."""
    built = resources.files("millrace").joinpath("_builtin", "REVISION")
    if built.is_file():
        return built.read_text().strip()
    root = Path(__file__).resolve().parents[3]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=+changed", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
