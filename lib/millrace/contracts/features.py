"""Fitted features: the one transform that Spark applies and the exported graph repeats. Frozen, JSON, found by its hash.

Each block takes raw columns and gives places of the float32 vector or of the int32 one; their order is the order of the list.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from millrace.config.encoding import Output, Part
from millrace.contracts.inputs import InputType

PERIODS: dict[str, int] = {"hour": 24, "weekday": 7, "day": 31, "month": 12}
"""Of the parts that come again."""
FIRST_YEAR = 2000
YEARS = 10
"""A year is (year - FIRST_YEAR) / YEARS."""


class _Fitted(BaseModel):
    """Not a Section of a file: texts keep their white space."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InputColumn(_Fitted):
    """A raw column, as an input of the graph."""

    name: str
    dtype: InputType


class _Block(_Fitted):
    """What all blocks tell."""

    @property
    def width(self) -> int:
        """Numbers of the float32 vector: as many as `names`."""
        return 0

    @property
    def names(self) -> tuple[str, ...]:
        """Of its places in the float32 vector."""
        return ()

    @property
    def id_names(self) -> tuple[str, ...]:
        """Of its places in the int32 vector."""
        return ()

    @property
    def num_values(self) -> int:
        """Ids are below this number."""
        return 0


class NumberBlock(_Block):
    """(x - offset) / scale + shift in float64, then float32; of sign(x) log(1 + |x|) where `log`. `fill` stands for missing ones.

    All tuples have one entry a column. Values beyond float32's range become its greatest number.
    """

    kind: Literal["number"] = "number"
    columns: tuple[str, ...]
    fill: tuple[float | None, ...]
    """None: NaN stays."""
    log: bool = False
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    shift: tuple[float, ...]
    indicator: bool = False

    @property
    def width(self) -> int:
        return len(self.columns) * (2 if self.indicator else 1)

    @property
    def names(self) -> tuple[str, ...]:
        return self.columns + (tuple(f"{name}__is_missing" for name in self.columns) if self.indicator else ())


class VocabularyBlock(_Block):
    """Ids: 0 missing, 1 unknown, 2 and up `values`. As a one-hot: the values, then a place for unknown and one for missing."""

    kind: Literal["vocabulary"] = "vocabulary"
    columns: tuple[str]
    texts: tuple[str, ...] = ()
    integers: tuple[int, ...] = ()
    """One of the two is filled, by the column's kind."""
    output: Output
    unknown_slot: bool = False
    missing_slot: bool = False

    @property
    def values(self) -> tuple[str, ...] | tuple[int, ...]:
        """The vocabulary."""
        return self.texts or self.integers

    @property
    def unknown_place(self) -> int:
        """-1: none, all 0."""
        return len(self.values) if self.unknown_slot else -1

    @property
    def missing_place(self) -> int:
        """-1: none, all 0."""
        return len(self.values) + self.unknown_slot if self.missing_slot else -1

    @property
    def width(self) -> int:
        return 0 if self.output == "ids" else len(self.values) + self.unknown_slot + self.missing_slot

    @property
    def names(self) -> tuple[str, ...]:
        if self.output == "ids":
            return ()
        slots = ["__is_unknown"] * self.unknown_slot + ["__is_missing"] * self.missing_slot
        return (*(f"{self.columns[0]}={value}" for value in self.values), *(f"{self.columns[0]}{slot}" for slot in slots))

    @property
    def id_names(self) -> tuple[str, ...]:
        return self.columns if self.output == "ids" else ()

    @property
    def num_values(self) -> int:
        return len(self.values) + 2


class _Buckets(_Block):
    """What one or more columns fall into by hashing."""

    kind: str
    columns: tuple[str, ...]
    buckets: int
    seed: int
    output: Output

    @property
    def _name(self) -> str:
        return "*".join(self.columns)

    @property
    def width(self) -> int:
        return self.buckets if self.output == "one_hot" else 0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self._name}#{bucket}" for bucket in range(self.width))

    @property
    def id_names(self) -> tuple[str, ...]:
        return (self._name,) if self.output == "ids" else ()


class HashBlock(_Buckets):
    """Ids: 0 missing, else 1 + SipHash-2-4 of the text, an integer's in decimal, with the key (seed, 0) modulo `buckets`."""

    kind: Literal["hash"] = "hash"
    columns: tuple[str]

    @property
    def num_values(self) -> int:
        return self.buckets + 1


class CrossBlock(_Buckets):
    """Ids: 0 to buckets - 1, by hashing the hashes of the columns, from the left.

    c_i is column i's id, 0 for NULL, else 1 + SipHash of its text with the key (seed, i) modulo 2^31 - 1. x_0 = c_0; x_i is the
    SipHash of the decimal text of x_(i-1) * 2^31 + c_i with the key (seed, CROSS_KEY + i), modulo 2^31 or at last buckets.
    """

    kind: Literal["cross"] = "cross"

    @property
    def num_values(self) -> int:
        return self.buckets


CROSS_KEY = 1000
CROSS_BINS = 2**31


class DatetimeBlock(_Block):
    """Sine and cosine of 2 pi part / period for each part, one number for a year; 0 for NULL. `unit`: what the integers count."""

    kind: Literal["datetime"] = "datetime"
    columns: tuple[str]
    unit: Literal["day", "microsecond"]
    parts: tuple[Part, ...]
    changes: tuple[int, ...] = ()
    """Microseconds since 1970-01-01 (UTC) from which on the time zone has its next offset, rising."""
    offsets: tuple[int, ...] = (0,)
    """Microseconds that the zone's clock is ahead of UTC: before the first change, then from each change on."""

    @property
    def width(self) -> int:
        return len(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(
            f"{self.columns[0]}__{part}{side}" for part in self.parts for side in (("",) if part == "year" else ("_sin", "_cos"))
        )


Block = Annotated[NumberBlock | VocabularyBlock | HashBlock | CrossBlock | DatetimeBlock, Field(discriminator="kind")]


class FittedFeatures(_Fitted):
    """All blocks of a pipeline's features, and the raw columns that they take, each once, in the order of first use."""

    inputs: tuple[InputColumn, ...]
    blocks: tuple[Block, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the places of the float32 vector `features`, of shape (D,)."""
        return tuple(name for block in self.blocks for name in block.names)

    @property
    def width(self) -> int:
        """D."""
        return sum(block.width for block in self.blocks)

    @property
    def number_places(self) -> dict[str, tuple[int, ...]]:
        """Where in `features` each column stands that is a number there, neither its indicators nor one-hots, by column."""
        places: dict[str, tuple[int, ...]] = {}
        begin = 0
        for block in self.blocks:
            for place, name in enumerate(block.columns if isinstance(block, NumberBlock) else (), start=begin):
                places[name] = (*places.get(name, ()), place)
            begin += block.width
        return places

    @property
    def id_names(self) -> tuple[str, ...]:
        """Of the places of the int32 vector `ids`, of shape (K,)."""
        return tuple(name for block in self.blocks for name in block.id_names)

    @property
    def id_sizes(self) -> tuple[int, ...]:
        """For each place of `ids`, the number that its ids are below: what an embedding needs."""
        return tuple(block.num_values for block in self.blocks if block.id_names)

    def to_json(self) -> str:
        """The same features give the same text."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> FittedFeatures:
        """What `to_json` wrote."""
        return cls.model_validate_json(text)

    @property
    def hash(self) -> str:
        """SHA-256 of the JSON, in hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()
