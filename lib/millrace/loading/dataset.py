"""Any Parquet directory or Delta table as the stream that training reads, for a Keras script or a notebook, without Spark."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index as as_whole
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator

from millrace import observe
from millrace.config.augmentation import AugmentationConfig
from millrace.config.load import as_config_error, validate
from millrace.config.section import Section
from millrace.config.training import LoadingConfig, TrainingConfig
from millrace.errors import ConfigError, ContractError, PlanError
from millrace.loading.augment import Change, changes_of
from millrace.loading.columns import STAGE, ColumnSpec
from millrace.loading.index import DatasetIndex
from millrace.loading.opening import open_index
from millrace.loading.plan import PlanSpec, plan_for
from millrace.loading.specs import number_columns, schema_of, spec_of
from millrace.observe import mask

if TYPE_CHECKING:
    import tensorflow as tf

    from millrace.loading.reader import Batch, PlannedReader

_DEFAULTS = TrainingConfig.model_fields


class Options(LoadingConfig):
    """How a stream is shuffled and read. The first two are part of its order; defaults are those of a pipeline's training."""

    virtual_shards: int | None = Field(default=None, gt=0)
    """The largest world_size ever wanted; divides batch_size. None: the largest divisor of batch_size that is at most 8."""
    shuffle_bytes: int = Field(default=_DEFAULTS["shuffle_bytes"].default, gt=0)
    """Decoded bytes that a shuffle window holds, over all shards."""
    memory_limit_bytes: int = Field(default=_DEFAULTS["memory_limit_bytes"].default, gt=0)
    """What windows and row groups may take; more is refused."""

    @model_validator(mode="wrap")
    @classmethod
    def _refuse(cls, given: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Raises ConfigError, where Pydantic has an error of its own."""
        try:
            return validate(given)
        except ValidationError as failure:
            raise as_config_error(failure, cls, "Options") from None


class _Augmentations(Section):
    """What `dataset` takes as such."""

    augment: tuple[AugmentationConfig, ...]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Whole batches of one rank in an order that depends on rows, seed and epoch alone. Made by `dataset`; holds no data.

    Iterating gives the batches of all epochs as NumPy arrays; `tf_data` gives them to Keras. Both may be done again and again,
    and start from the beginning each time.
    """

    index: DatasetIndex
    plan: PlanSpec
    features: tuple[ColumnSpec, ...]
    label: ColumnSpec | None
    epochs: int
    rank: int
    world_size: int
    options: Options
    changes: tuple[Change, ...] = ()
    """What is changed at random in each row, each epoch anew."""

    @property
    def version(self) -> int | None:
        """The Delta version that is read; None for plain Parquet files."""
        return self.index.version

    @property
    def num_rows(self) -> int:
        """Rows of an epoch, over all ranks."""
        return self.plan.num_rows

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, the same on every rank."""
        return self.plan.num_steps

    @property
    def columns(self) -> tuple[ColumnSpec, ...]:
        """The features, then the label."""
        return self.features if self.label is None else (*self.features, self.label)

    def __str__(self) -> str:
        version = "" if self.version is None else f", version {self.version}"
        return f"{self.num_rows:,} rows of {mask(self.index.uri)}{version}: {self.steps_per_epoch:,} steps an epoch"

    def __iter__(self) -> Iterator[Batch]:
        return self.stream()

    def stream(self, *, first_epoch: int = 0, first_step: int = 0) -> Iterator[Batch]:
        """The batches of all epochs, from a step of an epoch on; what comes before is not read.

        Raises ConfigError for a step or epoch that there is not; the one behind the last is there, and gives nothing. While
        iterating, LakeError and ContractError where a file is gone, damaged or does not decode.
        """
        self._check_start(first_epoch, first_step)
        return self._stream(first_epoch, first_step)

    def batches(self, epoch: int, *, first_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, counted from 0, also of one behind the last; see `stream`."""
        _check_whole("epoch", epoch, 0, remedy="Epochs count from 0.")
        self._check_step(first_step)
        return self._reader().batches(epoch, first_step=first_step, changes=self.changes)

    def tf_data(self, *, first_epoch: int = 0, first_step: int = 0, with_lengths: bool = False) -> tf.data.Dataset:
        """The same batches as tf.data, from a step of an epoch on; the first use imports TensorFlow.

        An element is `features`, or (features, label) where there is a label, and with more than one rank (features, label or
        None, weights): a rank without rows in a step gets one row of weight 0. Features are one tensor (rows, *shape), or where
        there are several a dict by column. `with_lengths` adds NAME_length, (rows,) int64, for each column of sequences.
        """
        from millrace.loading.tf_data import as_tf_data

        self._check_start(first_epoch, first_step)
        return as_tf_data(self, first_epoch=first_epoch, first_step=first_step, with_lengths=with_lengths)

    def _stream(self, first_epoch: int, first_step: int) -> Iterator[Batch]:
        reader = self._reader()
        for epoch in range(first_epoch, self.epochs):
            yield from reader.batches(epoch, first_step=first_step if epoch == first_epoch else 0, changes=self.changes)

    def _check_start(self, first_epoch: int, first_step: int) -> None:
        _check_whole("first_epoch", first_epoch, 0, self.epochs, remedy=f"Epochs count from 0, and there are {self.epochs}.")
        self._check_step(first_step, most=0 if first_epoch == self.epochs else None)

    def _check_step(self, first_step: int, *, most: int | None = None) -> None:
        remedy = f"Steps count from 0 in each epoch, and an epoch has {self.steps_per_epoch:,}."
        _check_whole("first_step", first_step, 0, self.steps_per_epoch if most is None else most, remedy=remedy)

    def _reader(self) -> PlannedReader:
        from millrace.loading.pool import reader_threads
        from millrace.loading.reader import PlannedReader

        return PlannedReader(
            self.index,
            self.plan,
            self.columns,
            rank=self.rank,
            world_size=self.world_size,
            memory_limit_bytes=self.options.memory_limit_bytes,
            num_threads=reader_threads(os.cpu_count() or 1),
            loading=self.options,
        )


def dataset(  # noqa: PLR0913  # all but the address have defaults
    uri: str,
    *,
    columns: Sequence[str | ColumnSpec] | None = None,
    label: str | ColumnSpec | None = None,
    batch_size: int = 128,
    epochs: int = 1,
    seed: int = 0,
    version: int | None = None,
    partitions: Mapping[str, object] | None = None,
    rank: int = 0,
    world_size: int = 1,
    augment: Sequence[AugmentationConfig | Mapping[str, object]] = (),
    options: Options = Options(),  # noqa: B008  # frozen
) -> Dataset:
    """Opens a Delta table, a Parquet file or a directory of them, local or at any address that fsspec knows.

    `columns` are the features: names of number or string columns, or a ColumnSpec for tensors in bytes and for sequences; None
    takes every number column but the label. `batch_size` counts rows over all ranks; rank r of `world_size` gets its part of each
    batch. A Delta table is read at `version`, by default the newest now, which is said in the log and is `Dataset.version` from
    then on; ranks that share a table must name the version, or each would take what is newest when it looks. `partitions` chooses
    by partition columns, as {"split": "train"}. `augment` changes rows at random, each epoch anew, as training.augment does in a
    pipeline file: [{"apply": "crop", "padding": 4, "column": "image"}], where a single feature need not be named. A row's changes
    depend on seed, epoch and its place in the epoch; leave it out for rows that are evaluated.

    Raises LakeError where the table cannot be read, ContractError where a column is not there or needs a ColumnSpec, PlanError
    where rows, batch, ranks and memory do not fit together, ConfigError for an impossible argument.
    """
    _check_whole("batch_size", batch_size, 1, remedy="It counts the rows of a step over all ranks; 128 is a usual number.")
    _check_whole("epochs", epochs, 1, remedy="Give the number of times that each row is to be seen.")
    _check_whole("world_size", world_size, 1, remedy="Give the number of processes that share each batch.")
    _check_whole("rank", rank, 0, world_size - 1, remedy="Ranks count from 0 to world_size - 1.")
    index = open_index(uri, version=version, partitions=partitions or {}, world_size=world_size)
    if not index.num_rows:
        found = f"{len(index.files)} files with 0 rows in {mask(uri)}"
        raise PlanError("plan", expected="at least one row", found=found, remedy="Look at the address and at partitions.")
    schema, origin = schema_of(index), index.files[0]
    target = None if label is None else spec_of(label, schema, origin=origin)
    if columns is None:
        taken = None if target is None else target.name
        columns = [name for name in number_columns(schema) if name != taken]
    features = tuple(spec_of(column, schema, origin=origin) for column in columns)
    wanted = features if target is None else (*features, target)
    if not features or len({spec.name for spec in wanted}) < len(wanted):
        raise ContractError(
            STAGE,
            expected=f"at least one feature, and each column of {mask(uri)} once",
            found=", ".join(spec.name for spec in wanted) or "no number columns",
            remedy=f"Name some of the columns {', '.join(schema.names)}.",
        )
    plan = plan_for(
        index.row_group_rows(),
        row_bytes=sum(spec.row_bytes for spec in wanted),
        seed=seed,
        global_batch=batch_size,
        virtual_shards=options.virtual_shards,
        shuffle_bytes=options.shuffle_bytes,
        dataset=index.fingerprint(),
    )
    wishes = validate(_Augmentations, {"augment": list(augment)}, origin="dataset").augment
    opened = Dataset(
        index=index,
        plan=plan,
        features=features,
        label=target,
        epochs=epochs,
        rank=rank,
        world_size=world_size,
        options=options,
        changes=changes_of(wishes, features, where="augment"),
    )
    opened._reader()  # refuses now what cannot be read
    observe.say(f"reading {opened}")
    return opened


def _check_whole(name: str, value: int, least: int, most: int | None = None, *, remedy: str) -> None:
    """Raises ConfigError for a number out of range, and for what is no whole number."""
    try:
        number = as_whole(value)
        fits = least <= number and (most is None or number <= most)
    except TypeError:
        fits = False
    if not fits:
        only = most == least
        wanted = f"{least}" if only else f"a whole number from {least} {'up' if most is None else f'to {most:,}'}"
        raise ConfigError(STAGE, expected=f"{name} to be {wanted}", found=f"{value!r}", remedy=remedy)
