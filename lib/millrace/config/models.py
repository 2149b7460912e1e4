"""The sections of a pipeline file. Frozen; unknown keys are refused; units stand in the names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Column = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A part of a pipeline file."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Named(Section):
    """A file of its own, called after its name."""

    name: Name


class SourceConfig(Section):
    """Where raw data comes from, and what it looks like."""

    name: Name
    """The table under bronze/ that it fills; pipelines that name the same source share it."""
    format: Literal["csv", "idx"]
    path: str
    """A file, a directory or a glob. `{night}` stands for the night's date, `{lake}` for the lake's address."""
    contract: Name = Field(alias="schema")
    """The contract of the raw rows, a file under schemas/."""
    sample: Literal["digits"] | None = None
    """A small data set that is written to `path` where nothing is there yet."""
    on_missing: Literal["fail", "retry", "skip"] = "fail"
    """When no file is there: end with exit code 2, with 1 (try later), or go on with what the lake has."""


class QualityConfig(Section):
    """How much may be wrong."""

    max_reject_ratio: Fraction = 0.0
    """Quarantined rows over rows in, for each step. Above it the step fails."""


class CleanStep(Section):
    """One cleaning step; exactly one key is set."""

    drop_duplicates: tuple[Column, ...] = Field(min_length=1)
    """Of rows that are equal in these columns the earliest (file, row_id) stays."""


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


class FeatureConfig(Section):
    """One input of the model."""

    column: Column
    encode: Literal["scale"]
    """scale: x / divisor, inside the model, so that the export takes the raw column."""
    divisor: float = Field(default=1.0, gt=0.0)
    shape: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=1)


class LabelConfig(Section):
    """What the model predicts."""

    column: Column
    kind: Literal["class"]


class ModelConfig(Section):
    """The network."""

    family: Literal["mlp"]
    hidden: tuple[Annotated[int, Field(gt=0)], ...] = (512,)
    """Units of each hidden layer."""
    activation: Literal["relu", "gelu", "tanh", "sigmoid", "elu", "selu"] = "relu"


class OptimizerConfig(Section):
    """The optimizer, by its Keras name."""

    name: Literal["adam", "sgd", "rmsprop"] = "adam"
    learning_rate: float = Field(default=0.001, gt=0.0)


class LoadingConfig(Section):
    """How rows are read. None of it changes which rows a step gets."""

    pool: Literal["threads", "processes"] = "threads"
    """Readers are threads of the worker, or processes, which take seconds to start: for columns that are slow to decode, and
    stores whose client holds Python's lock."""
    num_readers: int | None = Field(default=None, gt=0)
    """None: one for each of the worker's threads, at most 4."""
    row_groups_ahead: int | None = Field(default=None, gt=0)
    """Row groups that are being read or wait to be used. None: num_readers + 2."""
    cache_directory: str | None = Field(default=None, min_length=1)
    """A local directory where decoded row groups are kept for later epochs and runs; several processes may share it. For stores
    that are slower than a disk. None: no cache."""
    cache_bytes: int = Field(default=10 * 1024**3, gt=0)
    """What the cache may take; what was used longest ago goes first."""


class TrainingConfig(Section):
    """How the network is trained."""

    optimizer: OptimizerConfig = OptimizerConfig()
    loss: Literal["cross_entropy"] = "cross_entropy"
    batch_size: int = Field(default=128, gt=0)
    """Rows per optimizer step over all workers together."""
    epochs: int = Field(default=5, gt=0)
    num_workers: int = Field(default=1, gt=0)
    """Horovod processes; each takes one of Spark's task slots."""
    threads_per_worker: int = Field(default=1, gt=0)
    """Threads that TensorFlow computes with in each worker."""
    seed: int = Field(default=0, ge=0)
    virtual_shards: int | None = Field(default=None, gt=0)
    """The largest number of workers ever wanted. None: the largest divisor of batch_size that is at most 8."""
    shuffle_bytes: int = Field(default=256 * 1024**2, gt=0)
    """Decoded bytes that a shuffle window holds, over all shards."""
    memory_limit_bytes: int = Field(default=4 * 1024**3, gt=0)
    """What the windows and row groups of one worker may take, by the plan."""
    loading: LoadingConfig = LoadingConfig()
    first_step_timeout_seconds: float = Field(default=120.0, gt=0.0)
    heartbeat_timeout_seconds: float = Field(default=10.0, gt=0.0)
    """A worker that says nothing for longer than this and than 10 median steps is taken for dead."""
    start_timeout_seconds: int = Field(default=120, gt=0)
    """How long to wait for Spark to start the workers."""


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
        return self

    @property
    def trains(self) -> bool:
        """Whether there is a model to train."""
        return self.model is not None
