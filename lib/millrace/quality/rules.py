"""Rules of a contract: each a name, a condition that a good row meets, and a reason for people.

Those of a wide table are put to Spark as one SQL text: made call by call through its Python API they take seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from millrace.contracts.spark import CAST_FAILED, column_conditions, sql_literal
from millrace.contracts.table import TableContract


@dataclass(frozen=True)
class Rule:
    """`condition` is SQL and true for a good row."""

    name: str
    column: str | None
    condition: str
    reason: str


def rules_of(contract: TableContract, at: Mapping[str, str] = {}) -> tuple[Rule, ...]:
    """The rules of a contract in the order in which they are reported: types, then columns, then checks. `at`: columns in SQL
    where that is not their name."""
    types = [
        Rule(f"{name}_is_no_{column.type}", name, f"NOT array_contains({CAST_FAILED}, '{name}')", f"{name} is no {column.type}")
        for name, column in contract.columns.items()
    ]
    return (*types, *value_rules(contract, at))


def value_rules(contract: TableContract, at: Mapping[str, str] = {}) -> tuple[Rule, ...]:
    """Those that look at values and not at the raw text: columns, then checks."""
    rules: list[Rule] = []
    for name, column in contract.columns.items():
        said = column_conditions(name, column)
        conditions = column_conditions(name, column, at[name]) if name in at else said
        rules += [Rule(rule, name, conditions[rule], f"not: {text.replace('`', '')}") for rule, text in said.items()]
    rules += [Rule(check.rule, None, check.expression, f"not: {check.expression}") for check in contract.checks]
    return tuple(rules)


def first_broken(rules: Sequence[Rule]) -> tuple[Column, Column]:
    """Name and reason of the first rule that a row breaks, NULL for a good row. A condition that is NULL counts as broken."""
    return _of_first_broken({rule: rule.name for rule in rules}), _of_first_broken({rule: rule.reason for rule in rules})


def tag(rows: DataFrame, rules: Sequence[Rule]) -> DataFrame:
    """The same rows with _rule, _reason and _action where a rule is broken; rows that are tagged already keep their tag."""
    rule, reason = first_broken(rules)
    tags = {"_rule": rule, "_reason": reason, "_action": F.when(rule.isNotNull(), F.lit("quarantined"))}
    if "_rule" not in rows.columns:
        return rows.withColumns(tags)
    is_tagged = F.col("_rule").isNotNull()
    return rows.withColumns({name: F.when(is_tagged, F.col(name)).otherwise(value) for name, value in tags.items()})


def tag_where_broken(
    rows: DataFrame, rules: Sequence[Rule], *, met: Collection[str] = (), where: Column | None = None
) -> DataFrame:
    """`tag` for rows that have tags, of which those are known to meet the rules named in `met` for which `where` is true.

    Of a row that breaks none, each condition is looked at once.
    """
    others = _all_hold([rule for rule in rules if rule.name not in met])
    known = _all_hold([rule for rule in rules if rule.name in met])
    all_hold = others & (known if where is None else where | known)
    is_broken = F.col("_rule").isNull() & ~all_hold
    rule, reason = first_broken(rules)
    values = {"_rule": rule, "_reason": reason, "_action": F.lit("quarantined")}
    return rows.withColumns({name: F.when(is_broken, value).otherwise(F.col(name)) for name, value in values.items()})


def _of_first_broken(texts: Mapping[Rule, str]) -> Column:
    cases = [f"WHEN NOT {_holds(rule)} THEN {sql_literal(text)}" for rule, text in texts.items()]
    return F.expr(f"CASE {' '.join(cases)} END" if cases else "cast(NULL AS string)")


def _all_hold(rules: Sequence[Rule]) -> Column:
    return F.expr(" AND ".join(map(_holds, rules)) or "true")


def _holds(rule: Rule) -> str:
    return f"coalesce((\n{rule.condition}\n), false)"  # a line of its own, for errors to show
