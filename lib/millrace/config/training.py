"""The `training` section: how rows are read, how weights are saved, by how many workers, and with what care."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, SerializerFunctionWrapHandler, Tag, model_serializer

from millrace.config.augmentation import AugmentationConfig
from millrace.config.optimizing import EarlyStopConfig, OptimizerConfig
from millrace.config.section import OffIsAWord, Section


def _number_or_auto(value: object) -> object:
    text = str(value).strip()
    if text != "auto" and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError(f"{value!r} is neither auto nor a whole number above 0")
    return text if text == "auto" else int(text)


NumberOrAuto = Annotated[int | Literal["auto"], BeforeValidator(_number_or_auto)]


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
    """A local directory where decoded row groups are kept for later epochs and runs; several processes of one user may
    share it, and nobody else may write to it. For stores that are slower than a disk. None: no cache."""
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

_NEWER = ("augment", "idle_timeout_seconds")
"""What `TrainingConfig` has got since there were trainings."""


class TrainingConfig(Section):
    """How the network is trained."""

    optimizer: OptimizerConfig = OptimizerConfig()
    loss: Literal["cross_entropy", "mse", "mae"] = "cross_entropy"
    """cross_entropy for a class; for a number the mean of the squared or absolute error of the standardised label."""
    batch_size: int = Field(default=128, gt=0)
    """Rows per optimizer step over all workers together."""
    epochs: int = Field(default=5, gt=0)
    class_weights: ClassWeights | None = None
    """What a row counts in the loss by its class's name (1 where none is given), or balanced: the number of rows / (the number of
    classes * the class's rows). Metrics count every row once."""
    augment: tuple[AugmentationConfig, ...] = ()
    """What is changed at random in rows of the train split, in this order, each epoch anew: a function of seed, epoch and the
    row's place in the epoch. Neither validation rows nor those that are evaluated are changed."""
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    """What layers compute in; weights are float32 all the same, and so are exports (Micikevicius et al., 2018)."""
    micro_batches: NumberOrAuto = "auto"
    """Parts that a worker computes its share of a batch in, one after the other, to save memory. Without batch norm and dropout
    the result is the same but for rounding. auto: as many as keep a part in the
    cache where one CPU thread computes; else, and with batch norm, 1."""
    compression: Annotated[Literal["off", "fp16"], OffIsAWord] = "off"
    """How gradients travel between workers."""
    num_workers: NumberOrAuto = 1
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
    """A worker that says nothing for longer than this before its first step is taken for dead."""
    idle_timeout_seconds: float = Field(default=30.0, gt=0.0)
    """So is one that for longer than this says nothing and computes nothing either, before its first step or between epochs."""
    heartbeat_timeout_seconds: float = Field(default=10.0, gt=0.0)
    """A worker that says nothing for longer than this and than 10 median steps is taken for dead."""
    start_timeout_seconds: int = Field(default=120, gt=0)
    """How long to wait for Spark to start the workers."""
    max_restarts: int = Field(default=2, ge=0)
    """How often a run goes on by itself from its last checkpoint, after a worker has died, fallen silent or not started."""

    @model_serializer(mode="wrap")
    def _newer_if_set(self, inner: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Trainings of old keep their names: without what has come since, they have the hash that they had before."""
        defaults = {name: type(self).model_fields[name].default for name in _NEWER}
        unset = {name for name, default in defaults.items() if getattr(self, name) == default}
        return {name: value for name, value in inner(self).items() if name not in unset}
