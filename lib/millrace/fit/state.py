"""The fitted state of a pipeline's preprocessing: frozen, JSON, found again by the step key that made it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millrace.contracts.features import FittedFeatures
from millrace.contracts.tokenizer import SavedTokenizer
from millrace.fit.statistics import Statistics
from millrace.lake import artifacts
from millrace.lake.layout import Lake


@dataclass(frozen=True)
class FittedState:
    """What is kept from night to night. Fitted on the train split; profiles alone are of all rows."""

    sections_hash: str
    nights: Mapping[str, str]
    """Each night seen, with the hash of its files."""
    classes: tuple[str, ...] = ()
    """The label's values in the order of their indices."""
    num_rows: Mapping[str, int] | None = None
    """Rows of each split in gold."""
    num_silver_rows: int = 0
    features: FittedFeatures | None = None
    """How numbers and categories are encoded; None where no feature is one."""
    tokenizers: Mapping[str, SavedTokenizer] = field(default_factory=dict)
    """By column of text."""
    statistics: Statistics | None = None
    """Of the features' columns, over the train rows of all nights: what the next fit starts from."""
    cleaning: Statistics | None = None
    """What the steps of `clean` that look at the train split have taken from it."""
    profile: Mapping[str, Any] | None = None
    """Of silver as it stands, as JSON; None where the pipeline does without."""
    reference: Mapping[str, Any] | None = None
    """The profile that silver had when the state was fitted: what drift is measured against."""

    def save(self, lake: Lake, pipeline: str, run_id: str, step_key: str) -> None:
        """Writes it beside the run's other files."""
        artifacts.write_json(_address(lake, pipeline, run_id, step_key), self.to_plain())

    @classmethod
    def load(cls, lake: Lake, pipeline: str, run_id: str, step_key: str) -> FittedState:
        """The state that a step saved. Raises LakeError where it is gone."""
        return cls.from_plain(artifacts.read_json(_address(lake, pipeline, run_id, step_key)))

    def to_plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "sections_hash": self.sections_hash,
            "nights": dict(self.nights),
            "classes": list(self.classes),
            "num_rows": None if self.num_rows is None else dict(self.num_rows),
            "num_silver_rows": self.num_silver_rows,
            "features": None if self.features is None else json.loads(self.features.to_json()),
            "tokenizers": {column: saved.to_json() for column, saved in self.tokenizers.items()},
            "statistics": None if self.statistics is None else json.loads(self.statistics.to_json()),
            "cleaning": None if self.cleaning is None else json.loads(self.cleaning.to_json()),
            "profile": self.profile,
            "reference": self.reference,
        }

    @classmethod
    def from_plain(cls, found: Mapping[str, Any]) -> FittedState:
        """What `to_plain` gave; older states lack what came later."""

        def read(kind: Any, name: str) -> Any:
            return None if found.get(name) is None else kind.from_json(json.dumps(found[name]))

        return cls(
            sections_hash=found["sections_hash"],
            nights=found["nights"],
            classes=tuple(found["classes"]),
            num_rows=found["num_rows"],
            num_silver_rows=found.get("num_silver_rows", 0),
            features=read(FittedFeatures, "features"),
            tokenizers={name: SavedTokenizer.from_json(saved) for name, saved in found.get("tokenizers", {}).items()},
            statistics=read(Statistics, "statistics"),
            cleaning=read(Statistics, "cleaning"),
            profile=found.get("profile"),
            reference=found.get("reference"),
        )


def merge_classes(standing: Sequence[str], found: Sequence[Any]) -> tuple[str, ...]:
    """The classes of a label: those that stand and those found in the train split; numbers by size, texts by code point."""
    values = {*standing, *(str(value) for value in found)}
    try:
        return tuple(sorted(values, key=lambda value: (int(value), value)))
    except ValueError:
        return tuple(sorted(values))


def _address(lake: Lake, pipeline: str, run_id: str, step_key: str) -> str:
    return lake.artifacts(pipeline, run_id, f"fitted-{step_key[:16]}.json")
