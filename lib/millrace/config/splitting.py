"""The `split` section: which rows train, validate and test. Every method is a function of the row alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from millrace.config.conditions import Condition
from millrace.config.moments import moment
from millrace.config.section import Column, Fraction, Section

SplitName = Literal["train", "validation", "test"]
Fractions = dict[SplitName, Fraction]
Keys = Annotated[tuple[Column, ...], Field(min_length=1)]


class SplitRule(Section):
    """Rows that belong to a split by what they say."""

    where: Condition
    """A Spark SQL condition over the contract's columns."""


class Split(Section):
    """What all methods have."""

    seed: int = Field(default=0, ge=0)
    """Of the hash that splits rows, and of gold's order."""
    test: SplitRule | None = None
    validation: SplitRule | None = None
    """What these rules take goes before the method; of a row that both take, test."""

    @property
    def at_risk(self) -> tuple[str, ...]:
        """The columns whose equal values belong together and might come to stand on two sides; none where the method sees to
        it."""
        return ()

    def _torn_by_rules(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        return columns if self.test or self.validation else ()

    def refuse_two_ways(self, others: Mapping[str, str]) -> None:
        """Raises ValueError where a split is made by a rule and, as `others` says for its name, by something else too."""
        for name, rule in (("test", self.test), ("validation", self.validation)):
            if rule is not None and name in others:
                raise ValueError(f"{name} has both a rule and a {others[name]}; keep one of them")


def check_fractions(fractions: Mapping[SplitName, float], where: str = "fractions") -> None:
    """Raises ValueError where they do not add up to 1, or nothing is left to train on."""
    total = sum(fractions.values())
    if abs(total - 1.0) > 1e-9:
        raise ValueError(f"{where} add up to {total:g}, and must add up to 1")
    if fractions.get("train", 0.0) <= 0.0:
        raise ValueError(f"{where}.train must be above 0")


class KeyedSplit(Split):
    """By the hash of a key."""

    key: Keys
    """Rows that are equal in these columns always fall into the same split, or the same fold. A rule of `test` or `validation`
    that tears some apart is refused when its rows are seen."""

    @property
    def at_risk(self) -> tuple[str, ...]:
        return self._torn_by_rules(self.key)


class HashSplit(KeyedSplit):
    """By the hash of a key. Its shares are exact in expectation."""

    method: Literal["hash"] = "hash"
    fractions: Fractions
    """Of the rows that no `where` has taken; they add up to 1."""

    @model_validator(mode="after")
    def _fractions_add_up(self) -> HashSplit:
        check_fractions(self.fractions)
        self.refuse_two_ways(dict.fromkeys(self.fractions, "fraction"))
        return self


class GroupSplit(Split):
    """By the hash of what must not stand on both sides: a patient, a user, a document. NULL is a group like others."""

    method: Literal["group"]
    group: Keys
    """Rows that are equal in these columns are one group. A rule of `test` or `validation` that tears one apart is refused when
    its rows are seen."""
    fractions: Fractions
    """Of the groups, not of the rows."""

    @model_validator(mode="after")
    def _fractions_add_up(self) -> GroupSplit:
        check_fractions(self.fractions)
        self.refuse_two_ways(dict.fromkeys(self.fractions, "fraction"))
        return self

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that are hashed."""
        return self.group

    @property
    def at_risk(self) -> tuple[str, ...]:
        return self._torn_by_rules(self.group)


class StratifiedSplit(KeyedSplit):
    """By the hash of a key, drawn anew in each stratum.

    The shares of each stratum are exact in expectation only: exact ones would move old rows when rows are added. Rows that are
    equal in the key but lie in different strata are refused when they are seen on two sides.
    """

    method: Literal["stratified"]
    column: Column
    """The stratum, usually the label; NULL is a stratum like others."""
    fractions: Fractions
    """Of each stratum."""
    strata: dict[str, Fractions] = Field(default={})
    """Other fractions for single strata, by their values as texts."""

    @field_validator("strata", mode="before")
    @classmethod
    def _values_are_texts(cls, strata: Any) -> Any:
        return {_text(value): shares for value, shares in strata.items()} if isinstance(strata, dict) else strata

    @model_validator(mode="after")
    def _fractions_add_up(self) -> StratifiedSplit:
        check_fractions(self.fractions)
        self.refuse_two_ways(dict.fromkeys(self.fractions, "fraction"))
        for value, fractions in self.strata.items():
            check_fractions(fractions, f"strata.{value}")
            self.refuse_two_ways(dict.fromkeys(fractions, "fraction"))
        return self

    @property
    def at_risk(self) -> tuple[str, ...]:
        return self.key


class TimeSplit(Split):
    """By time: what lies before the first cut trains. The cuts are fixed, so that later rows do not move earlier ones."""

    method: Literal["time"]
    column: Column
    """A date, a timestamp, or an integer that grows with time (a year, seconds)."""
    cuts: dict[Literal["validation", "test"], int | date | datetime] = Field(min_length=1)
    """Where each split begins: its first date, moment (UTC where it names no zone) or number."""
    otherwise: SplitName | None = None
    """Rows without a time. None: they are quarantined."""

    @model_validator(mode="before")
    @classmethod
    def _no_fractions(cls, values: Any) -> Any:
        if isinstance(values, dict) and "fractions" in values:
            raise ValueError("fractions of a split by time would move old rows when rows are added; give cuts")
        return values

    @model_validator(mode="after")
    def _cuts_grow(self) -> TimeSplit:
        self.refuse_two_ways(dict.fromkeys(self.cuts, "cut"))
        cuts = [self.cuts[name] for name in ("validation", "test") if name in self.cuts]
        if len({isinstance(cut, date) for cut in cuts}) > 1:
            raise ValueError("cuts are dates and timestamps, or numbers, not both")
        places = [moment(cut).timestamp() if isinstance(cut, date) else cut for cut in cuts]
        if places != sorted(set(places)):
            raise ValueError(f"test begins after validation, which begins at {cuts[0]}, not at {cuts[1]}")
        return self

    @property
    def key(self) -> tuple[str, ...]:
        """No column is hashed."""
        return ()


class GivenSplit(Split):
    """By a column that says it."""

    method: Literal["given"]
    column: Column
    names: dict[SplitName, tuple[str, ...]] = Field(
        default={"train": ("train",), "validation": ("validation",), "test": ("test",)}
    )
    """The column's values, as texts, for each split."""
    otherwise: SplitName | None = None
    """Rows with another value, or none. None: they are quarantined."""

    @field_validator("names", mode="before")
    @classmethod
    def _values_are_texts(cls, names: Any) -> Any:
        if not isinstance(names, dict):
            return names
        lists = {name: values if isinstance(values, list | tuple) else [values] for name, values in names.items()}
        return {name: [_text(value) for value in values] for name, values in lists.items()}

    @model_validator(mode="after")
    def _values_name_one_split(self) -> GivenSplit:
        if "names" in self.model_fields_set:
            self.refuse_two_ways(dict.fromkeys(self.names, "name"))
        values = [value for each in self.names.values() for value in each]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise ValueError(f"names gives '{twice}' to two splits")
        if not self.names.get("train"):
            raise ValueError("names.train needs at least one value")
        return self

    @property
    def key(self) -> tuple[str, ...]:
        """No column is hashed."""
        return ()


class KFoldSplit(KeyedSplit):
    """k folds by the hash of a key: one validates, the others train; the folds are the same whichever is held out."""

    method: Literal["k_fold"]
    k: int = Field(ge=2, le=1000)
    fold: int = Field(ge=0)
    """The fold that validates, 0 to k - 1."""

    @model_validator(mode="after")
    def _fold_is_one_of_k(self) -> KFoldSplit:
        if self.fold >= self.k:
            raise ValueError(f"fold is one of 0 to {self.k - 1}, not {self.fold}")
        self.refuse_two_ways({"validation": "fold"})
        return self


def _text(value: object) -> str:
    """As Spark casts it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


SplitConfig = Annotated[
    Annotated[HashSplit | StratifiedSplit | GroupSplit | TimeSplit | GivenSplit | KFoldSplit, Field(discriminator="method")],
    BeforeValidator(lambda value: {"method": "hash", **value} if isinstance(value, dict) else value),
]
"""A split, by its method; hash where it names none."""
