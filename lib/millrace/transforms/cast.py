"""From the text of a raw format to the contract's types. What cannot be cast becomes NULL and is named, for a rule to find.

Expressions are SQL texts: made call by call through Spark's Python API those of a wide table take seconds.
"""

from __future__ import annotations

from collections.abc import Collection

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from millrace.contracts.evolution import ADDED
from millrace.contracts.packed import LOOSE, Packing
from millrace.contracts.spark import CAST_FAILED, from_text, quoted, spark_type
from millrace.contracts.table import ColumnContract, TableContract
from millrace.contracts.texts import TEXTS, typed_columns

__all__ = ["CAST_FAILED", "cast_columns", "cast_texts", "columns_of_texts", "raw_text", "raw_text_of_texts"]

_NOTHING = "cast(array() AS array<string>)"


def cast_columns(rows: DataFrame, *, contract: TableContract) -> DataFrame:
    """The contract's columns in its types, and _cast_failed: the names of columns whose text was no value of their type.

    Of a column that came to the contract when rows had it already, these have the text in the map `_added`.
    """
    raw = {field.name: field.dataType for field in rows.schema.fields}
    casted: dict[str, str] = {}
    failed: list[str] = []
    for name, column in contract.columns.items():
        value, given = quoted(name), f"{quoted(name)} IS NOT NULL"
        kept = None if isinstance(raw[name], StringType) else added_text(rows, name, column)
        if raw[name] == spark_type(column.data_type) and kept is None:
            casted[name] = value
            continue
        if raw[name] != spark_type(column.data_type):
            value = _from_text(value, column) if isinstance(raw[name], StringType) else f"try_cast({value} AS {column.type})"
        if kept is not None:
            value, given = f"coalesce({value}, {_from_text(kept, column)})", f"({given} OR {kept} IS NOT NULL)"
        casted[name] = value
        failed.append(f"CASE WHEN {given} AND {value} IS NULL THEN '{name}' END")
    others = [quoted(name) for name in rows.columns if name not in contract.columns and name != ADDED]
    return rows.selectExpr(*_named(casted), *others, f"{_names(failed)} AS {CAST_FAILED}")


def added_text(rows: DataFrame, name: str, column: ColumnContract) -> str | None:
    """The text that rows have of a column which was added to them before it was to the contract; None where there can be none."""
    if ADDED not in rows.columns or column.data_type.inner:
        return None
    return f"try_element_at({ADDED}, '{name}')"


def cast_texts(rows: DataFrame, *, contract: TableContract, packing: Packing | None = None) -> DataFrame:
    """`cast_columns` for rows that came typed or as text (contracts.texts), for `raw_text_of_texts` with all that they had.

    The columns of `packing` are not there: a row that came typed has its values elsewhere (contracts.packed), another in LOOSE.
    """
    texts = _texts(contract)
    values: dict[str, str] = {}
    loose: dict[str, str] = {}
    failed = []
    for name, column in contract.columns.items():
        text = texts.get(name, quoted(name))
        value = _from_text(text, column)
        is_wrong = f"{text} IS NOT NULL AND {value} IS NULL"
        if name in texts:
            is_wrong = f"{TEXTS} IS NOT NULL AND {is_wrong}"
        if packing and name in packing.types:
            loose[name] = value
        else:
            values[name] = f"CASE WHEN {TEXTS} IS NULL THEN {quoted(name)} ELSE {value} END" if name in texts else value
        if column.type != "string":
            failed.append(f"CASE WHEN {is_wrong} THEN '{name}' END")
    names = _names(failed)
    if len(failed) == len(texts):  # nothing is cast but what came as text
        names = f"CASE WHEN {TEXTS} IS NULL THEN {_NOTHING} ELSE {names} END"
    others = [quoted(name) for name in rows.columns if name not in contract.columns]
    kept = {own: quoted(name) for name, own in _kept(contract).items()}
    if packing:
        kept[LOOSE] = f"CASE WHEN {TEXTS} IS NOT NULL THEN {packing.loose(loose)} END"
    return rows.selectExpr(*_named(values), *others, *_named(kept), f"{names} AS {CAST_FAILED}")


def raw_text_of_texts(contract: TableContract, *, packed: Collection[str] = ()) -> Column:
    """`raw_text` for the result of `cast_texts`. Of a row that came typed it has the numbers as Spark writes them, and not those
    that are packed."""
    texts, kept = _texts(contract), _kept(contract)
    parts = {}
    for name in contract.columns:
        text = quoted(kept.get(name, name))
        if name in packed:
            text = texts[name]
        elif name in texts:
            text = f"CASE WHEN {TEXTS} IS NULL THEN cast({text} AS string) ELSE {texts[name]} END"
        parts[name] = text
    return _as_json(parts)


def columns_of_texts(contract: TableContract) -> list[str]:
    """What `cast_texts` gives besides for the raw text alone."""
    return [TEXTS, *_kept(contract).values()]


def _kept(contract: TableContract) -> dict[str, str]:
    """The columns that come as text in any case and are cast, and where their text is kept."""
    own = typed_columns(contract)
    return {name: f"_text_{name}" for name, column in contract.columns.items() if name not in own and column.type != "string"}


def _texts(contract: TableContract) -> dict[str, str]:
    return {name: f"get({TEXTS}, {place})" for place, name in enumerate(typed_columns(contract))}


def raw_text(rows: DataFrame, *, contract: TableContract) -> Column:
    """A row's raw columns as one JSON text; bytes in base64."""
    kinds = {field.name: field.dataType.typeName() for field in rows.schema.fields}
    return _as_json({name: f"base64({quoted(name)})" if kinds[name] == "binary" else quoted(name) for name in contract.columns})


def _as_json(parts: dict[str, str]) -> Column:
    return F.expr(f"to_json(named_struct({_fields(parts)}))")


def _fields(values: dict[str, str]) -> str:
    return ", ".join(f"'{name}', {value}" for name, value in values.items())


def _named(values: dict[str, str]) -> list[str]:
    return [f"{value} AS {quoted(name)}" for name, value in values.items()]


def _names(failed: list[str]) -> str:
    return f"array_compact(array({', '.join(failed)}))" if failed else _NOTHING


def _from_text(text: str, column: ColumnContract) -> str:
    if column.type == "binary":
        return _binary(text, column.text or "base64")
    return from_text(text, column.type)


def _binary(text: str, form: str) -> str:
    if form == "hex":
        return f"unhex({text})"
    if form == "base64":
        return f"try_to_binary({text}, 'base64')"
    numbers = rf"transform(split(trim({text}), '\\s+'), part -> try_cast(part AS int))"
    legal = f"forall({numbers}, number -> coalesce(number BETWEEN 0 AND 255, false))"
    digits = f"transform({numbers}, number -> lpad(hex(number), 2, '0'))"
    return f"CASE WHEN {legal} THEN unhex(array_join({digits}, '')) END"
