"""What a benchmark measured: figures and the bounds that they must keep, as a table and as build/bench/NAME.json."""

from __future__ import annotations

import json
import operator
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
}

OUTPUT = Path("build") / "bench"
"""Where reports go."""

PACKAGES = (
    "millrace",
    "pyspark",
    "delta-spark",
    "petastorm",
    "pyarrow",
    "numpy",
    "tensorflow-cpu",
    "tensorflow",
    "keras",
    "horovod",
    "tokenizers",
)
"""Whose versions a report names, where they are installed."""


@dataclass(frozen=True)
class Figure:
    """A number with its unit: "s", "rows/s", "ratio", "share", ..."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True)
class Bound:
    """A figure that must keep to a limit: `value op bound`."""

    name: str
    value: float
    op: str
    bound: float

    def __post_init__(self) -> None:
        if self.op not in _OPERATORS:
            raise ValueError(f"op must be one of {', '.join(_OPERATORS)}, and is {self.op!r}")

    @property
    def holds(self) -> bool:
        """Whether the value keeps to the limit. NaN keeps to none."""
        return _OPERATORS[self.op](self.value, self.bound)


@dataclass(frozen=True)
class Result:
    """What a benchmark gives. `details` are figures that explain others and are left out of the table."""

    figures: Sequence[Figure]
    bounds: Sequence[Bound] = ()
    details: Sequence[Figure] = ()

    @property
    def holds(self) -> bool:
        """Whether every bound holds."""
        return all(bound.holds for bound in self.bounds)


def as_json(name: str, result: Result) -> dict[str, Any]:
    """The report's content: name, measured_at, figures, bounds, machine, versions."""
    return {
        "name": name,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "figures": [asdict(figure) for figure in (*result.figures, *result.details)],
        "bounds": [{**asdict(bound), "holds": bound.holds} for bound in result.bounds],
        "machine": machine(),
        "versions": versions(),
    }


def write_json(name: str, result: Result, directory: Path) -> Path:
    """Write `directory`/NAME.json, whole or not at all, and give its path. Raises OSError where it cannot be written."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    partial = directory / f".partial-{os.getpid()}-{name}.json"
    try:
        # allow_nan=False: NaN is no JSON, and whoever reads the file would stumble over it.
        partial.write_text(json.dumps(as_json(name, result), indent=2, allow_nan=False) + "\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def print_table(name: str, result: Result, console: Console) -> None:
    """Print figures and bounds."""
    table = Table(title=name, title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("unit")
    for figure in result.figures:
        table.add_row(figure.name, f"{figure.value:,.4g}" if abs(figure.value) < 1000 else f"{figure.value:,.0f}", figure.unit)
    console.print(table)
    for bound in result.bounds:
        verdict = "[green]holds[/green]" if bound.holds else "[bold red]does not hold[/bold red]"
        console.print(f"{bound.name}: {bound.value:.4g} {bound.op} {bound.bound:g} {verdict}", highlight=False)


def machine() -> dict[str, Any]:
    """What it was measured on: CPU model, cores, memory in GiB, system. Not its name."""
    return {
        "cpu_model": _cpu_model(),
        "num_cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the speed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
