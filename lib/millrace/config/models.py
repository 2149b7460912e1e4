"""The sections of a pipeline file. Frozen; unknown keys are refused; units stand in the names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from millrace.config.cleaning import CleanStep
from millrace.config.network import CnnConfig, ModelConfig
from millrace.config.section import Column, Fraction, Named, Section
from millrace.config.sources import SourceConfig
from millrace.config.splitting import SplitConfig
from millrace.config.training import TrainingConfig


class QualityConfig(Section):
    """How much may be wrong."""

    max_reject_ratio: Fraction = 0.0
    """Quarantined rows over rows in, for each step. Above it the step fails."""


<<<<<<< HEAD
class CleanStep(Section):
    """One cleaning step; exactly one key is set."""

    drop_duplicates: tuple[Column, ...] = Field(min_length=1)
    """Of rows that are equal in these columns the earliest (file, row_id) stays."""
=======
class SplitConfig(Section):
    """Which rows train, validate and test."""

    method: Literal["hash"] = "hash"
    key: tuple[Column, ...] = Field(min_length=1)
    """Rows that are equal in these columns always fall into the same split."""
    seed: int = Field(default=0, ge=0)
    fractions: dict[Literal["train", "validation", "test"], Fraction]
    """Of the rows that no `where` has taken; they add up to 1."""
    test: SplitRule | None = None
    validation: SplitRule | None = None

    @model_validator(mode="after")
    def _fractions_add_up(self) -> SplitConfig:
        total = sum(self.fractions.values())
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"fractions add up to {total:g}, and must add up to 1")
        if self.fractions.get("train", 0.0) <= 0.0:
            raise ValueError("fractions.train must be above 0")
        for name, rule in (("test", self.test), ("validation", self.validation)):
            if rule is not None and name in self.fractions:
                raise ValueError(f"{name} has both a rule and a fraction; keep one of them")
        return self


class SplitRule(Section):
    """Rows that belong to a split by what they say."""

    where: str = Field(min_length=1)
    """A Spark SQL condition over the contract's columns."""
>>>>>>> text


class FeatureConfig(Section):
    """One input of the model."""

    column: Column
    encode: Literal["scale", "vector"]
    """scale: x / divisor, inside the model, so that the export takes the raw column. vector: float32 numbers as they are."""
    divisor: float = Field(default=1.0, gt=0.0)
    shape: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=1)


class ClassLabelConfig(Section):
    """The model predicts which class a row is of."""

    column: Column
    kind: Literal["class"]


class NumberLabelConfig(Section):
    """The model predicts a number."""

    column: Column
    kind: Literal["number"]
    standardize: bool = True
    """Train on (y - mean) / deviation of the train split; the model that leaves the pipeline gives y all the same."""


LabelConfig = Annotated[ClassLabelConfig | NumberLabelConfig, Field(discriminator="kind")]
"""What the model predicts, by its kind."""


class PublishConfig(Section):
    """What leaves the pipeline."""

    exports: tuple[Literal["keras", "h5", "saved_model"], ...] = ("keras",)


class PipelineConfig(Named):
    """A pipeline file. Without model and label the night ends at gold."""

    source: SourceConfig
    quality: QualityConfig = QualityConfig()
    clean: tuple[CleanStep, ...] = ()
    split: SplitConfig
    features: tuple[FeatureConfig, ...] = Field(min_length=1, max_length=1)
    label: LabelConfig | None = None
    model: ModelConfig | None = None
    training: TrainingConfig = TrainingConfig()
    publish: PublishConfig = PublishConfig()

    @model_validator(mode="after")
    def _model_has_label(self) -> PipelineConfig:
        if (self.model is None) != (self.label is None):
            raise ValueError("model and label go together: give both, or neither (the night then ends at gold)")
        shape = self.features[0].shape
        if isinstance(self.model, CnnConfig) and len(shape) != 3:
            raise ValueError(f"a cnn takes images of shape [height, width, channel], and the feature's is {list(shape)}")
        return self

    @property
    def trains(self) -> bool:
        """Whether there is a model to train."""
        return self.model is not None
