"""Text steps on Spark: the plain functions of a list of steps, applied to Arrow batches in one pass through Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from millrace.config.texts import LanguageConfig, MaskConfig, TextConfig, TextQualityConfig

TextStep = TextConfig | LanguageConfig | TextQualityConfig | MaskConfig
TAGS = ("_rule", "_reason", "_action")
_ARROW = {"string": pa.string(), "double": pa.float64()}
_SPARK: dict[str, T.DataType] = {"string": T.StringType(), "double": T.DoubleType()}


@dataclass(frozen=True)
class Verdict:
    """What a step makes of one text: a value for each column that it writes, and where the row is dropped the rule and why."""

    values: tuple[str | float | None, ...]
    rule: str | None = None
    reason: str | None = None


def written(step: TextStep) -> dict[str, str]:
    """The columns that a step writes, and their types."""
    match step:
        case LanguageConfig():
            pairs = ((step.into, "string"), (step.probability_into, "double"))
            return {name: kind for name, kind in pairs if name is not None}
        case TextQualityConfig():
            return {step.column: "string"} if step.c4 is not None else {}
        case _:
            return {step.into or step.column: "string"}


def apply_text(rows: DataFrame, steps: Sequence[TextStep]) -> DataFrame:
    """The same rows after the steps in their order, in one pass; a row that is tagged, before or by a step, is passed over.

    New columns stand after the old ones and are NULL for rows that were passed over.
    """
    names = {name.lower(): name for name in rows.columns}
    added = {name: kind for step in steps for name, kind in written(step).items() if name.lower() not in names}
    schema = T.StructType([*rows.schema.fields, *[T.StructField(name, _SPARK[kind]) for name, kind in added.items()]])
    return rows.mapInArrow(partial(_batches, steps=tuple(steps), added=added), schema)


def _batches(batches: Iterator[pa.RecordBatch], *, steps: Sequence[TextStep], added: dict[str, str]) -> Iterator[pa.RecordBatch]:
    judges = [judge_of(step) for step in steps]
    for batch in batches:
        yield apply_to_batch(batch, steps, judges, added)


def apply_to_batch(
    batch: pa.RecordBatch, steps: Sequence[TextStep], judges: Sequence[Callable[[str | None], Verdict]], added: dict[str, str]
) -> pa.RecordBatch:
    """The steps on one batch: columns that no step writes are handed on as they are."""
    columns: dict[str, list[str | float | None]] = {name: [None] * batch.num_rows for name in added}

    def load(name: str) -> list[str | float | None]:
        if name not in columns:
            columns[name] = texts_of(batch.column(name))
        return columns[name]

    rules, reasons, actions = (load(name) for name in TAGS)
    for step, judge in zip(steps, judges, strict=True):
        texts, targets = load(step.column), [load(name) for name in written(step)]
        for index, text in enumerate(texts):
            if rules[index] is not None:
                continue
            assert text is None or isinstance(text, str)
            verdict = judge(text)
            for target, value in zip(targets, verdict.values, strict=True):
                target[index] = value
            if verdict.rule is not None:
                rules[index], reasons[index], actions[index] = verdict.rule, verdict.reason, "dropped"
    fields = [*batch.schema, *[pa.field(name, _ARROW[kind]) for name, kind in added.items()]]
    arrays = [
        pa.array(columns[field.name], type=field.type) if field.name in columns else batch.column(field.name) for field in fields
    ]
    return pa.RecordBatch.from_arrays(arrays, names=[field.name for field in fields])


def texts_of(column: pa.Array) -> list[str | float | None]:
    """An Arrow column as a list. Bytes that are no UTF-8, which Spark lets pass in a string, become U+FFFD."""
    try:
        found: list[str | float | None] = column.to_pylist()
    except UnicodeDecodeError:
        binary = column.cast(pa.binary())
        found = [None if value is None else value.decode("utf-8", "replace") for value in binary.to_pylist()]
    return found


def judge_of(step: TextStep) -> Callable[[str | None], Verdict]:
    """The plain function of a step; the libraries and models that it needs are brought in here, once for each task."""
    match step:
        case TextConfig():
            from millrace.transforms.text import clean_text

            return lambda text: Verdict((clean_text(text, step),))
        case MaskConfig():
            from millrace.transforms.private import masked

            return lambda text: Verdict((None if text is None else masked(text, kinds=step.kinds, region=step.region),))
        case LanguageConfig():
            return partial(_judge_language, step=step)
        case TextQualityConfig():
            return partial(_judge_quality, step=step)


def rules_of_text(step: TextStep) -> tuple[str, ...]:
    """The rules by which a step drops rows: name(COLUMN)."""
    names: tuple[str, ...] = ()
    if isinstance(step, LanguageConfig) and (step.languages or step.min_probability > 0.0):
        names = ("language",)
    if isinstance(step, TextQualityConfig):
        from millrace.transforms.c4 import rules_of_c4
        from millrace.transforms.gopher import rules_of_gopher

        names = rules_of_gopher(step.gopher) if step.gopher is not None else ()
        names += rules_of_c4(step.c4) if step.c4 is not None else ()
    return tuple(f"{name}({step.column})" for name in names)


def _judge_language(text: str | None, *, step: LanguageConfig) -> Verdict:
    from millrace.transforms.language import language_of, why_not

    found = language_of(text, max_chars=step.max_chars)
    pairs: list[tuple[str | None, str | float]] = [(step.into, found.code), (step.probability_into, found.probability)]
    reason = why_not(found, step)
    return Verdict(
        tuple(value for name, value in pairs if name is not None), f"language({step.column})" if reason else None, reason
    )


def _judge_quality(text: str | None, *, step: TextQualityConfig) -> Verdict:
    """NULL is judged as an empty text. A text that is dropped stays whole."""
    from millrace.transforms.c4 import first_broken_of_c4, kept_lines
    from millrace.transforms.gopher import first_broken_of_gopher

    broken = first_broken_of_gopher(text or "", step.gopher) if step.gopher is not None else None
    if step.c4 is None:
        return Verdict((), f"{broken.rule}({step.column})" if broken else None, broken.reason if broken else None)
    kept = kept_lines(text or "", step.c4)
    broken = broken or first_broken_of_c4(kept, step.c4)
    if broken is None:
        return Verdict((kept,))
    return Verdict((text,), f"{broken.rule}({step.column})", broken.reason)
