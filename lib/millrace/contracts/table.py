"""A table's contract: grain, key, columns, checks, and what happens to columns that come, go or change."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BeforeValidator, Field, field_validator, model_validator

from millrace.config.conditions import Condition
from millrace.config.load import load_named, nearest
from millrace.config.places import Places
from millrace.config.section import Column, Name, Named, Section
from millrace.contracts.limits import End, check_range
from millrace.contracts.pattern import check_pattern
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
    range: tuple[End, End] | None = None
    """The smallest and the largest value; for a date or timestamp (UTC where it names no zone) the earliest and the latest. One
    of them may be null: that end is open, NaN is still outside."""
    pattern: str | None = Field(default=None, min_length=1)
    """A regular expression that the whole text matches, in the syntax that Java and Python share; a space at its end is [ ]. Java
    matches (a|b)* by recursion: max_length, which is looked at first, keeps long texts from it."""
    min_length: int | None = Field(default=None, ge=0)
    max_length: int | None = Field(default=None, ge=0)
    """Characters of a text, bytes of a binary."""
    unique: bool = False
    """No two rows have the same value; NULL equals nothing. Rows after the earliest (night, file, row_id) are quarantined."""
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
        if self.range is not None:
            check_range(self.type, *self.range)
        if self.one_of is not None:
            self._check_one_of(self.one_of)
        if self.unique and self.type not in EXACT:
            raise ValueError(f"unique goes with {', '.join(EXACT)}, not {self.type}")
        return self

    @model_validator(mode="after")
    def _text_options_fit(self) -> ColumnContract:
        if self.pattern is not None:
            if self.type != "string":
                raise ValueError(f"pattern goes with type string, not {self.type}")
            check_pattern(self.pattern)
        if self.min_length is None and self.max_length is None:
            return self
        if self.type not in ("string", "binary"):
            raise ValueError(f"min_length and max_length go with a string or binary, not {self.type}")
        if self.max_length is not None and self.max_length < (self.min_length or 0):
            raise ValueError(f"max_length is {self.max_length}, less than min_length, which is {self.min_length}")
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
    expression: Condition
    """A Spark SQL condition over the columns."""
    action: Literal["quarantine"] = "quarantine"


Columns = Annotated[
    tuple[Column, ...], Field(min_length=1), BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)
]
"""One column's name, or a list of names."""


class Reference(Section):
    """A row's columns name a row of another table. Rows whose key is not there are quarantined; a NULL in it names nothing."""

    column: Columns
    """This table's column, or columns."""
    table: str = Field(pattern=r"^(bronze|silver)/[a-z][a-z0-9_]{0,63}$")
    """bronze/SOURCE or silver/PIPELINE, as its newest succeeded step left it."""
    key: Columns
    """The other table's columns that these are equal to, in the same order."""

    @model_validator(mode="after")
    def _as_many(self) -> Reference:
        if len(self.column) != len(self.key):
            raise ValueError(f"column and key name as many columns, not {len(self.column)} and {len(self.key)}")
        return self

    @property
    def rule(self) -> str:
        """The rule that a row without a partner breaks."""
        return f"{'_'.join(self.column)}_not_in_{self.table.partition('/')[2]}"


class Evolution(Section):
    """What happens when a source's columns are not the contract's. The contract stays what silver and the model see.

    For formats whose files name columns: csv, json, jsonl, parquet, delta, jdbc, mixed. In JSON each object is looked at alone:
    what is said of a file here is said of an object, and a column is missing where its key is (null is a value).
    """

    added: Literal["refuse", "quarantine", "evolve"] = "refuse"
    """A file with columns that the contract does not have. quarantine: all its rows; evolve: bronze keeps them as texts in the
    map `_added`, from where silver takes them when the contract comes to have them."""
    missing: Literal["refuse", "quarantine", "null"] = "refuse"
    """A file without one of the contract's columns. quarantine: all its rows; null: the column is NULL in its rows. Where the
    contract does not allow that the file is refused, and an object of JSON quarantined."""
    retyped: Literal["refuse", "quarantine", "evolve"] = "quarantine"
    """A value, or in formats that have types a column, that is not of the contract's type. refuse: the step ends; evolve: columns
    of a narrower type, whose values all fit, are taken. Values of CSV and JSON are texts: each is taken where it is one of the
    type, and else quarantined, so that evolve is quarantine."""


class TableContract(Named):
    """schemas/NAME.yaml."""

    grain: str
    """What one row is."""
    key: tuple[Column, ...] | None = None
    upsert: bool = False
    """Of rows with one key the newest night's stays, and takes the place of an older one; without it the earliest stays."""
    columns: dict[Column, ColumnContract] = Field(min_length=1)
    unique: tuple[Annotated[tuple[Column, ...], Field(min_length=2)], ...] = ()
    """Columns that together have no value twice, each a list of two or more; one column says `unique: true` itself."""
    references: tuple[Reference, ...] = ()
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
    def _upsert_has_key(self) -> TableContract:
        if self.upsert and self.key is None:
            raise ValueError("upsert needs a key, by which the row to replace is found")
        return self

    @model_validator(mode="after")
    def _missing_columns_can_be_null(self) -> TableContract:
        if self.evolution.missing == "null" and not any(column.nullable for column in self.columns.values()):
            raise ValueError(
                "evolution.missing is null, but no column is nullable; make some so, or let it be refuse or quarantine"
            )
        return self

    @model_validator(mode="after")
    def _constraints_name_columns(self) -> TableContract:
        for what, names in [("unique", each) for each in self.unique] + [("references", each.column) for each in self.references]:
            for name in names:
                if name not in self.columns:
                    raise ValueError(f"{what} names '{name}', which is not among the columns. {nearest(name, self.columns)}")
                if self.columns[name].type not in EXACT:
                    raise ValueError(
                        f"{what} names '{name}', a {self.columns[name].type}; only {', '.join(EXACT)} tell rows apart"
                    )
            if len(set(names)) != len(names):
                raise ValueError(f"{what} names a column twice: {', '.join(names)}")
        rules = [*self.unique_rules, *(each.rule for each in self.references), *{check.rule for check in self.checks}]
        twice = next((rule for rule in rules if rules.count(rule) > 1), None)
        if twice is not None:
            raise ValueError(f"two rules are called {twice}")
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

    @property
    def unique_rules(self) -> dict[str, tuple[str, ...]]:
        """Rule name -> the columns that have no value twice: single columns first, then `unique` in its order."""
        sets = [(name,) for name, column in self.columns.items() if column.unique] + list(self.unique)
        return {f"{'_'.join(names)}_not_unique": names for names in dict.fromkeys(sets)}

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """The table's Arrow schema."""
        return pa.schema([pa.field(name, column.data_type.to_arrow(), column.nullable) for name, column in self.columns.items()])


def load_contract(name: str, places: Places) -> TableContract:
    """The contract `name`. Raises ConfigError with the nearest known name or key."""
    return load_named(
        TableContract, name, places.contracts(), stage="contract", kind="contract", searched=places.searched("schemas")
    )
