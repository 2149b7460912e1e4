"""The fitted state of a pipeline's preprocessing: frozen, JSON, found again by the step key that made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from millrace.lake import artifacts
from millrace.lake.layout import Lake


@dataclass(frozen=True)
class FittedState:
    """`classes`: the label's values in the order of their indices. `nights`: each night seen, with the hash of its files."""

    sections_hash: str
    nights: Mapping[str, str]
    classes: tuple[str, ...] = ()
    num_rows: Mapping[str, int] | None = None
    """Rows of each split in gold."""

    def save(self, lake: Lake, pipeline: str, run_id: str, step_key: str) -> None:
        """Writes it beside the run's other files."""
        artifacts.write_json(_address(lake, pipeline, run_id, step_key), asdict(self))

    @classmethod
    def load(cls, lake: Lake, pipeline: str, run_id: str, step_key: str) -> FittedState:
        """The state that a step saved. Raises LakeError where it is gone."""
        found: dict[str, Any] = artifacts.read_json(_address(lake, pipeline, run_id, step_key))
        return cls(**{**found, "classes": tuple(found["classes"])})


def merge_classes(standing: Sequence[str], found: Sequence[Any]) -> tuple[str, ...]:
    """The classes of a label: those that stand and those found in the train split; numbers by size, texts by code point."""
    values = {*standing, *(str(value) for value in found)}
    try:
        return tuple(sorted(values, key=lambda value: (int(value), value)))
    except ValueError:
        return tuple(sorted(values))


def _address(lake: Lake, pipeline: str, run_id: str, step_key: str) -> str:
    return lake.artifacts(pipeline, run_id, f"fitted-{step_key[:16]}.json")
