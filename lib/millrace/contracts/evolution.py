"""When a source's columns are not the contract's: what is refused, what is quarantined, what is taken. Pure, for all readers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from millrace.contracts.table import TableContract
from millrace.contracts.types import DataType
from millrace.errors import ContractError

ADDED = "_added"
"""Bronze's map of texts, by name, of columns that the contract does not have (evolution.added: evolve)."""
RULES = ("column_added", "column_missing", "column_retyped")
"""The rules that all rows of a file may break, the first that applies in this order."""

_WIDER = {
    "tinyint": ("smallint", "int", "bigint", "float", "double"),
    "smallint": ("int", "bigint", "float", "double"),
    "int": ("bigint", "double"),
    "float": ("double",),
}
"""Types that hold every value of a narrower one exactly."""


@dataclass(frozen=True)
class Place:
    """What names a source's columns, in the words of messages."""

    found: str = " in its first line"
    whole: str = "the file"
    """What is mended."""
    such: str = "files"
    subject: str = "the file"
    names: str = "columns"
    is_row: bool = False
    """Whether each row names its own, so that one may break a rule alone."""


HEADER = Place()
SCHEMA, OF_TABLE = Place(" in its schema"), Place(" in its columns")
SOURCE = Place("", whole="the source")
"""Names that the pipeline gives, for files without a header."""
OBJECT = Place(" in one of its objects", such="rows", subject="it", names="keys", is_row=True)


@dataclass(frozen=True)
class Reconciled:
    """What a reader does with a file, or with an object of JSON: `missing` columns are NULL in each row, `added` go to the map
    `_added`, `widened` are cast to the contract's type. Where `rule` is set every row of the file breaks it."""

    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    widened: tuple[str, ...] = ()
    rule: str | None = None
    reason: str | None = None

    @property
    def broken(self) -> tuple[str, str] | None:
        """Rule and reason; None where rows are good."""
        return None if self.rule is None or self.reason is None else (self.rule, self.reason)


def added_field(contract: TableContract) -> tuple[pa.Field, ...]:
    """The map `_added` of a reader's rows, NULL where a row has nothing more; no field unless evolution.added is evolve."""
    return (pa.field(ADDED, pa.map_(pa.string(), pa.string())),) if contract.evolution.added == "evolve" else ()


def reconcile(contract: TableContract, found: Collection[str], *, where: str, place: Place = HEADER) -> Reconciled:
    """What the contract's evolution says of a file, or of an object, with the columns `found`; of formats whose values are texts.

    `where` names the file and `place` the part of it that names the columns. Raises ContractError for what is refused, and for a
    column that stands twice.
    """
    missing = tuple(name for name in contract.columns if name not in found)
    added = tuple(name for name in found if name not in contract.columns)
    if missing and contract.evolution.missing == "refuse":
        raise _missing(contract, missing, where, place)
    needed = [name for name in missing if not contract.columns[name].nullable] if contract.evolution.missing == "null" else []
    if needed and not place.is_row:
        raise _needed(contract, needed, where, place)
    if len(set(found)) != len(found):
        remedy = f"Mend {place.whole}'s {place.found.removeprefix(' in its ')}."
        raise ContractError("ingest", expected=f"each column once in {where}", found=", ".join(found), remedy=remedy)
    if added and contract.evolution.added == "refuse":
        raise ContractError(
            "ingest",
            expected=f"the columns {', '.join(contract.columns)} in {where}",
            found=f"also {', '.join(added)}",
            remedy=f"Add them to the contract {contract.name}, or let its evolution.added quarantine such {place.such}.",
        )
    broken = None
    if added and contract.evolution.added == "quarantine":
        broken = "column_added", f"has {place.names} that the contract does not have: {', '.join(added)}"
    elif missing and contract.evolution.missing == "quarantine":
        broken = "column_missing", f"does not have {place.names} that the contract has: {', '.join(missing)}"
    elif needed:
        broken = "column_missing", f"does not have {place.names} that cannot be NULL: {', '.join(needed)}"
    if broken is None:
        return Reconciled(missing, added)
    return Reconciled(missing, added, rule=broken[0], reason=f"{place.subject} {broken[1]}")


def reconcile_schema(contract: TableContract, found: pa.Schema, *, where: str) -> Reconciled:
    """The same for a format whose columns have types (Parquet, Delta).

    A column of texts is read value by value, as in a text format, unless evolution.retyped refuses it. Raises ContractError.
    """
    verdict = reconcile(contract, found.names, where=where, place=SCHEMA)
    kinds = {name: (found.field(name).type, column.data_type) for name, column in contract.columns.items() if name in found.names}
    policy = contract.evolution.retyped
    other = {name: kinds[name] for name in kinds if not is_same(*kinds[name])}
    widened = tuple(name for name in other if policy == "evolve" and is_wider(*other[name]))
    readable = {name for name, (kind, _) in other.items() if policy != "refuse" and _is_text(kind)}
    wrong = [name for name in other if name not in widened and name not in readable]
    if not wrong:
        return Reconciled(verdict.missing, verdict.added, widened, verdict.rule, verdict.reason)
    listed = ", ".join(f"{name} as {kinds[name][0]}" for name in wrong)
    wanted = ", ".join(f"{name} as {contract.columns[name].type}" for name in wrong)
    if policy == "refuse":
        raise ContractError(
            "ingest",
            expected=f"{wanted} in {where}",
            found=listed,
            remedy=f"Mend the file, or the contract {contract.name}, or let its evolution.retyped quarantine such files.",
        )
    if verdict.rule is not None:
        return verdict
    return Reconciled(verdict.missing, verdict.added, widened, "column_retyped", f"the file has {listed}, not {wanted}")


def check_retyped(contract: TableContract, num_broken: Mapping[str, int], *, stage: str) -> None:
    """Raises ContractError where evolution.retyped is refuse and a value was not of its column's type.

    `num_broken`: rows by the rule that they broke, as counted while they were read, or after `quality.rules`.
    """
    if contract.evolution.retyped != "refuse":
        return
    if count := num_broken.get("column_retyped", 0):
        raise ContractError(
            stage,
            expected="values of the contract's types (evolution.retyped is refuse)",
            found=f"{count} rows with another",
            remedy=f"Mend the source, or the contract {contract.name}, or let its evolution.retyped quarantine such rows.",
        )
    for name, column in contract.columns.items():
        count = num_broken.get(f"{name}_is_no_{column.type}", 0)
        if count:
            raise ContractError(
                stage,
                expected=f"values of type {column.type} in {name} (evolution.retyped is refuse)",
                found=f"{count} that are none",
                remedy=f"Mend the source, or the contract {contract.name}, or let its evolution.retyped quarantine such rows.",
            )


def is_same(found: pa.DataType, wanted: DataType) -> bool:
    """Whether values of an Arrow type are the contract's as they stand.

    Any unit of timestamps will do (what is finer than a microsecond is cut off), and one without a zone is UTC's. A column of
    NULLs alone has no type.
    """
    if pa.types.is_null(found):
        return True
    if pa.types.is_dictionary(found):
        return is_same(found.value_type, wanted)
    if wanted.inner:
        return _is_same_nested(found, wanted)
    alike = {"string": _is_text, "binary": _is_binary, "timestamp": pa.types.is_timestamp}.get(wanted.kind)
    return bool(alike(found)) if alike is not None else bool(found == wanted.to_arrow())


def is_wider(found: pa.DataType, wanted: DataType) -> bool:
    """Whether the contract's type holds every value of an Arrow type exactly: int in bigint, float in double."""
    if pa.types.is_unsigned_integer(found):
        needed = {8: "smallint", 16: "int", 32: "bigint"}.get(found.bit_width)
        return needed is not None and wanted.kind in (needed, *_WIDER.get(needed, ()))
    return any(found == DataType(narrow).to_arrow() and wanted.kind in wide for narrow, wide in _WIDER.items())


def _missing(contract: TableContract, missing: Sequence[str], where: str, place: Place) -> ContractError:
    policy = "be null or quarantine" if all(contract.columns[name].nullable for name in missing) else "quarantine"
    return ContractError(
        "ingest",
        expected=f"the columns {', '.join(contract.columns)} in {where}",
        found=f"no {', '.join(missing)}{place.found}",
        remedy=f"Mend {place.whole}, or the contract {contract.name}, or let its evolution.missing {policy} such {place.such}.",
    )


def _needed(contract: TableContract, needed: Sequence[str], where: str, place: Place) -> ContractError:
    return ContractError(
        "ingest",
        expected=f"the columns that cannot be NULL ({', '.join(needed)}) in {where}",
        found=f"no {', '.join(needed)}{place.found}",
        remedy=f"Mend {place.whole}, let {contract.name} make them nullable, or let its evolution.missing quarantine such files.",
    )


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _is_same_nested(found: pa.DataType, wanted: DataType) -> bool:
    if wanted.kind == "array":
        is_list = pa.types.is_list(found) or pa.types.is_large_list(found) or pa.types.is_fixed_size_list(found)
        return bool(is_list) and is_same(found.value_type, wanted.inner[0])
    if wanted.kind == "map":
        key, item = wanted.inner
        return bool(pa.types.is_map(found)) and is_same(found.key_type, key) and is_same(found.item_type, item)
    fields = [found.field(number) for number in range(found.num_fields)] if pa.types.is_struct(found) else []
    same_names = tuple(field.name for field in fields) == wanted.names
    return same_names and all(is_same(field.type, kind) for field, kind in zip(fields, wanted.inner, strict=True))
