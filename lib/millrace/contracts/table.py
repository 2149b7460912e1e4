"""A table's contract: grain, key, columns, checks, and what happens to columns that come, go or change."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from millrace.config.load import load_named, nearest
from millrace.config.places import Places
from millrace.config.section import Column, Name, Named, Section
from millrace.contracts.types import EXACT, FLOATS, INTEGERS, DataType, parse_type
from millrace.errors import ConfigError


class TensorContract(Section):
    """A binary column that holds one tensor a row, as the bytes of its elements in C order."""

    dtype: Literal["uint8", "int32", "float32"]
    shape: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=1)
    unit: str | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes of one row's tensor."""
        return math.prod(self.shape) * (1 if self.dtype == "uint8" else 4)


class ColumnContract(Section):
    """One column."""

    type: str
    nullable: bool = True
    one_of: tuple[Any, ...] | None = None
    range: tuple[float | int, float | int] | None = None
    tensor: TensorContract | None = None
    text: Literal["decimal", "hex", "base64"] | None = None
    """How a binary column is written in a text format: decimal is numbers 0 to 255 with spaces between them."""
    unit: str | None = None
    description: str | None = None

    @field_validator("type")
    @classmethod
    def _type_is_known(cls, value: str) -> str:
        try:
            return str(parse_type(value))
        except ConfigError as error:
            raise ValueError(f"'{value}' is no type. {error.remedy}") from None

    @model_validator(mode="after")
    def _options_fit(self) -> ColumnContract:
        if (self.tensor is not None or self.text is not None) and self.type != "binary":
            raise ValueError(f"tensor and text go with type binary, not {self.type}")
        if self.range is not None and self.type not in (*INTEGERS, *FLOATS):
            raise ValueError(f"range goes with a number, not {self.type}")
        if self.range is not None and not -math.inf < self.range[0] <= self.range[1] < math.inf:
            raise ValueError(f"range goes from a smaller to a larger number, not from {self.range[0]} to {self.range[1]}")
        if self.one_of is not None:
            self._check_one_of(self.one_of)
        return self

    def _check_one_of(self, values: tuple[Any, ...]) -> None:
        kind = {"string": str, "boolean": bool, **dict.fromkeys(INTEGERS, int)}.get(self.type)
        if kind is None:
            raise ValueError(f"one_of goes with texts, integers and booleans, not {self.type}")
        strange = next((value for value in values if type(value) is not kind), None)
        if strange is not None or not values or None in values:
            raise ValueError(f"one_of lists values of type {self.type}, at least one; {strange!r} is none")

    @property
    def data_type(self) -> DataType:
        """The parsed type."""
        return parse_type(self.type)


class Check(Section):
    """A condition over a row; rows for which it is not true get the action."""

    rule: Name
    expression: str = Field(min_length=1)
    action: Literal["quarantine"] = "quarantine"


class Evolution(Section):
    """What happens when a source's columns are not the contract's."""

    added: Literal["quarantine", "refuse"] = "refuse"
    """A file with columns that the contract does not have."""
    missing: Literal["refuse"] = "refuse"
    """A file without one of the contract's columns."""
    retyped: Literal["quarantine"] = "quarantine"
    """A value that is not of its column's type."""


class TableContract(Named):
    """schemas/NAME.yaml."""

    grain: str
    """What one row is."""
    key: tuple[Column, ...] | None = None
    upsert: bool = False
    """Of rows with one key the newest night's stays, and takes the place of an older one; without it the earliest stays."""
    columns: dict[Column, ColumnContract] = Field(min_length=1)
    checks: tuple[Check, ...] = ()
    evolution: Evolution = Evolution()

    @model_validator(mode="after")
    def _key_can_identify(self) -> TableContract:
        for name in self.key or ():
            if name not in self.columns:
                raise ValueError(f"the key column '{name}' is not among the columns. {nearest(name, self.columns)}")
            kind = self.columns[name].type
            if kind not in EXACT:
                why = "a float has no exact text" if kind in FLOATS else f"only {', '.join(EXACT)} tell rows apart"
                raise ValueError(f"the key column '{name}' is a {kind}; {why}, take another key")
        return self

    @model_validator(mode="after")
    def _upsert_has_a_key(self) -> TableContract:
        if self.upsert and not self.key:
            raise ValueError("upsert goes with a key, by which a newer row knows the older one")
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> TableContract:
        rules = [check.rule for check in self.checks]
        if len(set(rules)) != len(rules):
            raise ValueError("two checks have the same rule name")
        seen: dict[str, str] = {}
        for name in self.columns:
            if name.lower() in seen:
                raise ValueError(
                    f"the columns '{seen[name.lower()]}' and '{name}' differ in case only, which Spark does not tell apart"
                )
            seen[name.lower()] = name
        return self

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """The table's Arrow schema."""
        return pa.schema([pa.field(name, column.data_type.to_arrow(), column.nullable) for name, column in self.columns.items()])


def load_contract(name: str, places: Places) -> TableContract:
    """The contract `name`. Raises ConfigError with the nearest known name or key."""
    return load_named(
        TableContract, name, places.contracts(), stage="contract", kind="contract", searched=places.searched("schemas")
    )
