"""The sections of a pipeline file. Frozen; unknown keys are refused; units stand in the names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from millrace.config.cleaning import CleanStep
from millrace.config.drift import DriftConfig
from millrace.config.encoding import CrossFeature, FittableFeature, HashFeature, IndexFeature, ScaleFeature
from millrace.config.network import CnnConfig, ModelConfig
from millrace.config.section import Column, Fraction, Named, Section
from millrace.config.sources import SourceConfig
from millrace.config.splitting import SplitConfig
from millrace.config.tokens import BlocksConfig, Tokens, WindowsConfig
from millrace.config.training import TrainingConfig

FeatureConfig = Annotated[ScaleFeature | FittableFeature | Tokens, Field(discriminator="encode")]
"""One line of the `features` section, by its `encode`."""


class QualityConfig(Section):
    """How much may be wrong."""

    max_reject_ratio: Fraction = 0.0
    """Quarantined rows over rows in, for each step. Above it the step fails."""
    profile: bool = True
    """Whether metrics/profiles gets counts, quantiles and top values of each version of silver."""
    drift: DriftConfig | None = None
    """Compares tonight's rows with those that the standing fitted state was fitted on. None: nothing is compared."""


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


class FitConfig(Section):
    """When what was fitted on the train split is fitted anew. Until then new rows are encoded as the old ones were."""

    refit: Literal["on_drift", "always"] = "on_drift"
    """on_drift: where quality.drift.on_drift is refit and a column has drifted; always: each night that brings rows. Either way
    gold is then written anew, and silver where steps of `clean` are fitted. A change of the config that decides about rows always
    fits anew; one of `quality` does not."""


Materialized = Literal["bronze", "silver", "gold"]
_LISTS: tuple[tuple[Materialized, ...], ...] = (("bronze", "silver", "gold"), ("gold",))


class PipelineConfig(Named):
    """A pipeline file. Without a model the night ends at gold."""

    source: SourceConfig
    materialize: tuple[Materialized, ...] = _LISTS[0]
    """The tables that are written: [bronze, silver, gold], or [gold]: raw files go to gold in two passes over them (two
    more for each BPE or WordPiece that is trained, one for a vocabulary of words or characters, one where keys are equal), and
    what compares rows with those of other nights is not to be had. Both give the same gold."""
    quality: QualityConfig = QualityConfig()
    clean: tuple[CleanStep, ...] = ()
    split: SplitConfig
    features: tuple[FeatureConfig, ...] = ()
    """What gold has of each row."""
    blocks: BlocksConfig | None = None
    """Gold has blocks of the only feature's tokens, and not rows."""
    windows: WindowsConfig | None = None
    """Gold has windows over a series, and not rows."""
    fit: FitConfig = FitConfig()
    label: LabelConfig | None = None
    model: ModelConfig | None = None
    training: TrainingConfig = TrainingConfig()
    publish: PublishConfig = PublishConfig()

    @field_validator("materialize")
    @classmethod
    def _lists_that_there_are(cls, tables: tuple[Materialized, ...]) -> tuple[Materialized, ...]:
        if tables not in _LISTS:
            raise ValueError(f"it is [bronze, silver, gold] or [gold], not [{', '.join(tables)}]")
        return tables

    @model_validator(mode="after")
    def _gold_has_something(self) -> PipelineConfig:
        if self.windows is not None and (self.features or self.blocks is not None or self.label is not None):
            raise ValueError("windows say themselves what they take: features, blocks and label do not go with them")
        if self.windows is None and not self.features:
            raise ValueError("features must name at least one column")
        if self.blocks is not None:
            tokens = self.token_features
            if len(self.features) != 1 or len(tokens) != 1 or self.label is not None:
                raise ValueError("blocks are made of one feature of tokens, and have no label")
            if tokens[0].length is not None:
                raise ValueError("a feature that is cut into blocks has no length of its own: leave it out")
        return self

    @model_validator(mode="after")
    def _columns_of_gold_differ(self) -> PipelineConfig:
        names = [feature.column for feature in (*self.image_features, *self.token_features)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            found = f"two features make gold's column {twice} of {twice}"
            raise ValueError(f"{found}: copy it by a step of clean that has `into`, and take the copy")
        return self

    @model_validator(mode="after")
    def _model_has_what_it_takes(self) -> PipelineConfig:
        if self.model is None:
            return self
        if self.label is None:
            raise ValueError("a model needs a label; without a model the night ends at gold")
        images = self.image_features
        if self.token_features or len(images) > 1 or (images and len(self.features) > 1) or self.id_features:
            raise ValueError("a model takes one image, or numbers and one-hots: tokens and ids end at gold for now")
        if isinstance(self.model, CnnConfig) and not (images and len(images[0].shape) == 3):
            found = f"the feature's is {list(images[0].shape)}" if images else "the features are numbers"
            raise ValueError(f"a cnn takes images of shape [height, width, channel], and {found}")
        return self

    @property
    def only_gold(self) -> bool:
        """Whether there is neither bronze nor silver."""
        return self.materialize == ("gold",)

    @property
    def trains(self) -> bool:
        """Whether there is a model to train."""
        return self.model is not None

    @property
    def image_features(self) -> tuple[ScaleFeature, ...]:
        """Tensors that go to gold as they are."""
        return tuple(feature for feature in self.features if isinstance(feature, ScaleFeature))

    @property
    def token_features(self) -> tuple[Tokens, ...]:
        """Texts that become ids."""
        return tuple(feature for feature in self.features if isinstance(feature, Tokens))

    @property
    def fitted_features(self) -> tuple[FittableFeature, ...]:
        """Numbers and categories, which go into vectors."""
        return tuple(feature for feature in self.features if isinstance(feature, FittableFeature))

    @property
    def id_features(self) -> tuple[FittableFeature, ...]:
        """Categories that stay ids."""
        return tuple(
            feature
            for feature in self.fitted_features
            if isinstance(feature, IndexFeature) or (isinstance(feature, HashFeature | CrossFeature) and feature.output == "ids")
        )

    @property
    def changes_grain(self) -> bool:
        """Whether gold has other rows than silver."""
        return self.blocks is not None or self.windows is not None
