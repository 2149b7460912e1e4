"""The sections of a pipeline file. Frozen; unknown keys are refused; units stand in the names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from millrace.config.network import CnnConfig, ModelConfig
from millrace.config.optimizing import EarlyStopConfig, OptimizerConfig
from millrace.config.section import Column, Fraction, Name, Named, OffIsAWord, Section
from millrace.observe import has_credentials, mask


def _number_or_auto(value: object) -> object:
    text = str(value).strip()
    if text != "auto" and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError(f"{value!r} is neither auto nor a whole number above 0")
    return text if text == "auto" else int(text)


NumWorkers = Annotated[int | Literal["auto"], BeforeValidator(_number_or_auto)]


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

    @field_validator("path")
    @classmethod
    def _path_without_credentials(cls, path: str) -> str:
        """Addresses are kept in tables and logs; what opens a store comes from its own environment or files."""
        if has_credentials(path):
            raise ValueError(f"{mask(path)} holds a password or token, which belongs to the store's own environment or files")
        return path


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


class CheckpointConfig(Section):
    """When training is saved, apart from the end of each epoch."""

    every_steps: int | None = Field(default=None, gt=0)
    """Optimizer steps, counted over all epochs."""
    every_minutes: float | None = Field(default=10.0, gt=0.0)
    """Since the last checkpoint. None: never by the clock."""
    keep: int = Field(default=3, gt=0)
    """The newest that are kept: one, and others to fall back on where it is damaged."""


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


ClassWeights = Annotated[
    Annotated[Literal["balanced"], Tag("word")]
    | Annotated[
        dict[str, Annotated[float, Field(ge=0.0)]],
        BeforeValidator(lambda weights: {str(name): weight for name, weight in weights.items()}),  # YAML reads digits as numbers
        Tag("weights"),
    ],
    Discriminator(lambda value: "weights" if isinstance(value, dict) else "word"),
]


class TrainingConfig(Section):
    """How the network is trained."""

    optimizer: OptimizerConfig = OptimizerConfig()
    loss: Literal["cross_entropy"] = "cross_entropy"
    batch_size: int = Field(default=128, gt=0)
    """Rows per optimizer step over all workers together."""
    epochs: int = Field(default=5, gt=0)
    class_weights: ClassWeights | None = None
    """What a row counts in the loss by its class's name (1 where none is given), or balanced: the number of rows / (the number of
    classes * the class's rows). Metrics count every row once."""
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    """What layers compute in; weights are float32 all the same, and so are exports (Micikevicius et al., 2018)."""
    micro_batches: int = Field(default=1, gt=0)
    """Parts that a worker computes its share of a batch in, one after the other, to save memory. Without batch norm and dropout
    the result is the same."""
    compression: Annotated[Literal["off", "fp16"], OffIsAWord] = "off"
    """How gradients travel between workers."""
    num_workers: NumWorkers = 1
    """Horovod processes; each takes one of Spark's task slots. auto: all the slots that Spark has (as many as GPUs where tasks
    ask for them), at most virtual_shards."""
    threads_per_worker: int = Field(default=1, gt=0)
    """Threads that TensorFlow computes with in each worker."""
    seed: int = Field(default=0, ge=0)
    virtual_shards: int | None = Field(default=None, gt=0)
    """The largest number of workers ever wanted. None: the largest divisor of batch_size that is at most 8."""
    shuffle_bytes: int = Field(default=256 * 1024**2, gt=0)
    """Decoded bytes that a shuffle window holds, over all shards."""
    memory_limit_bytes: int = Field(default=4 * 1024**3, gt=0)
    """What the windows and row groups of one worker may take, by the plan."""
    checkpoints: CheckpointConfig = CheckpointConfig()
    early_stop: EarlyStopConfig | None = None
    loading: LoadingConfig = LoadingConfig()
    first_step_timeout_seconds: float = Field(default=120.0, gt=0.0)
    heartbeat_timeout_seconds: float = Field(default=10.0, gt=0.0)
    """A worker that says nothing for longer than this and than 10 median steps is taken for dead."""
    start_timeout_seconds: int = Field(default=120, gt=0)
    """How long to wait for Spark to start the workers."""
    max_restarts: int = Field(default=2, ge=0)
    """How often a run goes on by itself from its last checkpoint, after a worker has died, fallen silent or not started."""


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
