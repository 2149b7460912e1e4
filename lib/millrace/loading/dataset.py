"""Any Parquet directory or Delta table as the stream that training reads, for a Keras script or a notebook, without Spark."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import Field

from millrace import observe
from millrace.config.training import LoadingConfig, TrainingConfig
from millrace.errors import ConfigError, ContractError, LakeError, PlanError
from millrace.loading.address import is_delta, is_there
from millrace.loading.columns import STRING, ColumnSpec
from millrace.loading.directory import build_directory_index
from millrace.loading.files import open_parquet
from millrace.loading.index import STAGE, DatasetIndex, build_index
from millrace.loading.plan import PlanSpec, plan_for
from millrace.observe import has_credentials, mask

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

        Raises LakeError and ContractError where a file is gone, damaged or does not decode.
        """
        reader = self._reader()
        for epoch in range(first_epoch, self.epochs):
            yield from reader.batches(epoch, first_step=first_step if epoch == first_epoch else 0)

    def batches(self, epoch: int, *, first_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, counted from 0; see `stream`."""
        return self._reader().batches(epoch, first_step=first_step)

    def tf_data(self, *, first_epoch: int = 0, first_step: int = 0, with_lengths: bool = False) -> tf.data.Dataset:
        """The same batches as tf.data, from a step of an epoch on; the first use imports TensorFlow.

        An element is `features`, or (features, label) where there is a label, and with more than one rank (features, label or
        None, weights): a rank without rows in a step gets one row of weight 0. Features are one tensor (rows, *shape), or where
        there are several a dict by column. `with_lengths` adds NAME_length, (rows,) int64, for each column of sequences.
        """
        from millrace.loading.tf_data import as_tf_data

        return as_tf_data(self, first_epoch=first_epoch, first_step=first_step, with_lengths=with_lengths)

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
    partitions: Mapping[str, str] | None = None,
    rank: int = 0,
    world_size: int = 1,
    options: Options = Options(),  # noqa: B008  # frozen
) -> Dataset:
    """Opens a Delta table, a Parquet file or a directory of them, local or at any address that fsspec knows.

    `columns` are the features: names of number or string columns, or a ColumnSpec for tensors in bytes and for sequences; None
    takes every number column but the label. `batch_size` counts rows over all ranks; rank r of `world_size` gets its part of each
    batch. A Delta table is read at `version`, by default the newest now, which is said in the log and is `Dataset.version` from
    then on; ranks that share a table must name the version, or each would take what is newest when it looks. `partitions` chooses
    by partition columns, as {"split": "train"}.

    Raises LakeError where the table cannot be read, ContractError where a column is not there or needs a ColumnSpec, PlanError
    where rows, batch, ranks and memory do not fit together, ConfigError for an impossible argument.
    """
    if epochs < 1 or not 0 <= rank < world_size:
        raise ConfigError(
            "load",
            expected="epochs of at least 1, and a rank from 0 to world_size - 1",
            found=f"epochs={epochs}, rank={rank}, world_size={world_size}",
            remedy="Change the arguments.",
        )
    index = open_index(uri, version=version, partitions=partitions or {}, world_size=world_size)
    if not index.num_rows:
        found = f"{len(index.files)} files with 0 rows in {mask(uri)}"
        raise PlanError("plan", expected="at least one row", found=found, remedy="Look at the address and at partitions.")
    schema = _schema(index)
    target = None if label is None else _spec(label, schema, index)
    if columns is None:
        taken = None if target is None else target.name
        columns = [field.name for field in schema if _is_number(field.type) and field.name != taken]
    features = tuple(_spec(column, schema, index) for column in columns)
    wanted = features if target is None else (*features, target)
    if not features or len({spec.name for spec in wanted}) < len(wanted):
        raise ContractError(
            "load",
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
    opened = Dataset(
        index=index, plan=plan, features=features, label=target, epochs=epochs, rank=rank, world_size=world_size, options=options
    )
    opened._reader()  # refuses now what cannot be read
    observe.say(f"reading {opened}")
    return opened


def open_index(uri: str, *, version: int | None = None, partitions: Mapping[str, str], world_size: int = 1) -> DatasetIndex:
    """The row groups of a Delta table, pinned at `version` or at the newest, or of plain Parquet files.

    Raises ConfigError for an address with a password, and where ranks leave the version of a Delta table open; LakeError where
    there is neither table nor files, a version is asked of plain files, the files belong to a Delta table at another address, or
    the store does not answer.
    """
    if has_credentials(uri):
        raise ConfigError(
            STAGE,
            expected="an address without a password or token, because it would be kept in logs",
            found=mask(uri),
            remedy="Leave it to the store's own environment or files, such as ~/.aws/credentials, or to fsspec's configuration.",
        )
    if not is_delta(uri):
        if version is not None:
            raise LakeError(
                STAGE,
                expected=f"a Delta table at {mask(uri)}, which has versions",
                found="plain files" if is_there(uri) else "nothing there",
                remedy="Leave version out, or check the address.",
            )
        return build_directory_index(uri, partitions=partitions)
    if version is None and world_size > 1:
        raise ConfigError(
            STAGE,
            expected=f"a version of the Delta table {mask(uri)}, the same for each of {world_size} ranks",
            found="version=None, which is for each rank what is newest when it looks",
            remedy="Let one rank call dataset without rank and world_size, and give its `version` to all.",
        )
    return build_index(uri, version=version, partitions=partitions)


def _schema(index: DatasetIndex) -> pa.Schema:
    """Of the first file; the readers look at all."""
    file = open_parquet(index.files[0])
    schema = file.schema_arrow
    file.close(force=True)
    return schema


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _spec(column: str | ColumnSpec, schema: pa.Schema, index: DatasetIndex) -> ColumnSpec:
    """The spec itself, or what the column's type says."""
    name = column if isinstance(column, str) else column.name
    if schema.get_field_index(name) < 0:
        raise ContractError(
            "load",
            expected=f"a column {name}",
            found=f"the columns {', '.join(schema.names)} in {mask(index.files[0])}",
            remedy="Name one of them; values that stand in directory names only cannot be read as columns.",
        )
    if isinstance(column, ColumnSpec):
        return column
    kind = schema.field(name).type
    if _is_number(kind):
        return ColumnSpec(name=name, dtype=str(kind.to_pandas_dtype()().dtype))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return ColumnSpec(name=name, dtype=STRING)
    if pa.types.is_fixed_size_list(kind) and _is_number(kind.value_type):
        return ColumnSpec(name=name, dtype=str(kind.value_type.to_pandas_dtype()().dtype), shape=(kind.list_size,))
    raise ContractError(
        "load",
        expected=f"a ColumnSpec for column {name}",
        found=f"its name only, and its type {kind} does not say how to read it",
        remedy=(
            f'For tensors of one shape give ColumnSpec(name="{name}", dtype="uint8", shape=(28, 28, 1)), '
            f'for sequences ColumnSpec(name="{name}", dtype="int32", length_buckets=(64, 128, 256)).'
        ),
    )
