"""How to read a column, as far as its type in the file says so."""

from __future__ import annotations

import pyarrow as pa

from millrace.config.load import nearest
from millrace.errors import ContractError
from millrace.loading.columns import STAGE, STRING, ColumnSpec
from millrace.loading.files import open_parquet
from millrace.loading.index import DatasetIndex
from millrace.observe import mask


def schema_of(index: DatasetIndex) -> pa.Schema:
    """Of the first file; the readers look at all."""
    file = open_parquet(index.files[0])
    schema = file.schema_arrow
    file.close(force=True)
    return schema


def number_columns(schema: pa.Schema) -> list[str]:
    """The columns that need no spec and are no text."""
    return [field.name for field in schema if _is_number(field.type)]


def spec_of(column: str | ColumnSpec, schema: pa.Schema, *, origin: str) -> ColumnSpec:
    """The spec itself, or what the column's type says. Raises ContractError, naming `origin`, where neither does."""
    name = column if isinstance(column, str) else column.name
    if schema.get_field_index(name) < 0:
        raise ContractError(
            STAGE,
            expected=f"a column {name}",
            found=f"no such column in {mask(origin)}",
            remedy=f"{nearest(name, schema.names)} Values that stand in directory names only cannot be read as columns.",
        )
    if isinstance(column, ColumnSpec):
        return column
    kind = schema.field(name).type
    if _is_number(kind):
        return ColumnSpec(name=name, dtype=_numpy_name(kind))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return ColumnSpec(name=name, dtype=STRING)
    if pa.types.is_fixed_size_list(kind) and _is_number(kind.value_type):
        return ColumnSpec(name=name, dtype=_numpy_name(kind.value_type), shape=(kind.list_size,))
    raise ContractError(
        STAGE,
        expected=f"a ColumnSpec for column {name}",
        found=f"its name only, and its type {kind} does not say how to read it",
        remedy=(
            f'For tensors of one shape give ColumnSpec(name="{name}", dtype="uint8", shape=(28, 28, 1)), '
            f'for sequences ColumnSpec(name="{name}", dtype="int32", length_buckets=(64, 128, 256)).'
        ),
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _numpy_name(kind: pa.DataType) -> str:
    return str(kind.to_pandas_dtype()().dtype)
