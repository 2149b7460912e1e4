"""From the text of a raw format to the contract's types. What cannot be cast becomes NULL and is named, for a rule to find."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from millrace.contracts.evolution import ADDED
from millrace.contracts.spark import CAST_FAILED, spark_type
from millrace.contracts.table import ColumnContract, TableContract
from millrace.contracts.texts import TEXTS, typed_columns

__all__ = ["CAST_FAILED", "cast_columns", "cast_texts", "columns_of_texts", "raw_text", "raw_text_of_texts"]


def cast_columns(rows: DataFrame, *, contract: TableContract) -> DataFrame:
    """The contract's columns in its types, and _cast_failed: the names of columns whose text was no value of their type.

    Of a column that came to the contract when rows had it already, these have the text in the map `_added`.
    """
    raw = {field.name: field.dataType for field in rows.schema.fields}
    casted: dict[str, Column] = {}
    failed: list[Column] = []
    for name, column in contract.columns.items():
        value, given = F.col(name), F.col(name).isNotNull()
        kept = None if isinstance(raw[name], StringType) else added_text(rows, name, column)
        if raw[name] == spark_type(column.data_type) and kept is None:
            casted[name] = value
            continue
        if raw[name] != spark_type(column.data_type):
            value = _from_text(value, column) if isinstance(raw[name], StringType) else value.try_cast(column.type)
        if kept is not None:
            value, given = F.coalesce(value, _from_text(kept, column)), given | kept.isNotNull()
        casted[name] = value
        failed.append(F.when(given & value.isNull(), F.lit(name)))
    names = F.array_compact(F.array(*failed)) if failed else F.array().cast("array<string>")
    others = [name for name in rows.columns if name not in contract.columns and name != ADDED]
    return rows.select(*[value.alias(name) for name, value in casted.items()], *others, names.alias(CAST_FAILED))


def added_text(rows: DataFrame, name: str, column: ColumnContract) -> Column | None:
    """The text that rows have of a column which was added to them before it was to the contract; None where there can be none."""
    if ADDED not in rows.columns or column.data_type.inner:
        return None
    return F.try_element_at(ADDED, F.lit(name))


def cast_texts(rows: DataFrame, *, contract: TableContract) -> DataFrame:
    """`cast_columns` for rows that came typed or as text (contracts.texts), for `raw_text_of_texts` with all that they had."""
    came_typed, texts = F.col(TEXTS).isNull(), _texts(contract)
    values, failed = [], []
    for name, column in contract.columns.items():
        text = texts.get(name, F.col(name))
        value = _from_text(text, column)
        is_wrong = text.isNotNull() & value.isNull()
        if name in texts:
            value = F.when(came_typed, F.col(name)).otherwise(value)
            is_wrong = ~came_typed & is_wrong
        values.append(value.alias(name))
        if column.type != "string":
            failed.append(F.when(is_wrong, F.lit(name)))
    nothing = F.array().cast("array<string>")
    names = F.array_compact(F.array(*failed)) if failed else nothing
    if len(failed) == len(texts):  # nothing is cast but what came as text
        names = F.when(came_typed, nothing).otherwise(names)
    others = [name for name in rows.columns if name not in contract.columns]
    kept = [F.col(name).alias(own) for name, own in _kept(contract).items()]
    return rows.select(*values, *others, *kept, names.alias(CAST_FAILED))


def raw_text_of_texts(contract: TableContract) -> Column:
    """`raw_text` for the result of `cast_texts`. Of a row that came typed it has the numbers as Spark writes them."""
    texts, kept = _texts(contract), _kept(contract)
    parts = []
    for name in contract.columns:
        text = F.col(kept.get(name, name))
        if name in texts:
            text = F.when(F.col(TEXTS).isNull(), text.cast("string")).otherwise(texts[name])
        parts.append(text.alias(name))
    return F.to_json(F.struct(*parts))


def columns_of_texts(contract: TableContract) -> list[str]:
    """What `cast_texts` gives besides for the raw text alone."""
    return [TEXTS, *_kept(contract).values()]


def _kept(contract: TableContract) -> dict[str, str]:
    """The columns that come as text in any case and are cast, and where their text is kept."""
    own = typed_columns(contract)
    return {name: f"_text_{name}" for name, column in contract.columns.items() if name not in own and column.type != "string"}


def _texts(contract: TableContract) -> dict[str, Column]:
    return {name: F.get(F.col(TEXTS), F.lit(place)) for place, name in enumerate(typed_columns(contract))}


def raw_text(rows: DataFrame, *, contract: TableContract) -> Column:
    """A row's raw columns as one JSON text; bytes in base64."""
    kinds = {field.name: field.dataType.typeName() for field in rows.schema.fields}
    parts = [F.base64(name).alias(name) if kinds[name] == "binary" else F.col(name) for name in contract.columns]
    return F.to_json(F.struct(*parts))


def _from_text(text: Column, column: ColumnContract) -> Column:
    if column.type == "binary":
        return _binary(text, column.text or "base64")
    return F.trim(text).try_cast(column.type) if column.type != "string" else text


def _binary(text: Column, form: str) -> Column:
    if form == "hex":
        return F.unhex(text)
    if form == "base64":
        return F.try_to_binary(text, F.lit("base64"))
    numbers = F.transform(F.split(F.trim(text), r"\s+"), lambda part: part.try_cast("int"))
    legal = F.forall(numbers, lambda number: F.coalesce(number.between(0, 255), F.lit(False)))
    digits = F.transform(numbers, lambda number: F.lpad(F.hex(number), 2, "0"))
    return F.when(legal, F.unhex(F.array_join(digits, "")))
