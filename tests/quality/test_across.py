"""Rules across rows: which row stays, what NULL means, what standing rows take, and that no row is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.testing import assertDataFrameEqual

from millrace.contracts.table import TableContract
from millrace.quality.across import across_rules, tag_values_twice, tag_without_partners
from tests.factories import make_contract

COLUMNS = {
    "id": {"type": "bigint", "nullable": False},
    "mail": {"type": "string", "unique": True},
    "day": {"type": "date"},
    "seat": {"type": "int"},
    "customer": {"type": "bigint"},
}
ROWS = (
    "id bigint, mail string, day date, seat int, customer bigint, row_id string, _night string, _source_file string, "
    "_rule string, _reason string, _action string"
)


def contract(**keys: Any) -> TableContract:
    return make_contract(
        COLUMNS,
        key=["id"],
        unique=[["day", "seat"]],
        references=[{"column": "customer", "table": "silver/customers", "key": "number"}],
        **keys,
    )


def tag_across(
    rows: DataFrame, *, contract: TableContract, tables: Mapping[str, DataFrame], standing: DataFrame | None = None
) -> DataFrame:
    """As a night without duplicates does it."""
    rows = tag_without_partners(rows, contract=contract, tables=tables)
    return tag_values_twice(rows, contract=contract, standing=standing)


def row(
    number: int, mail: str | None = None, seat: int | None = None, customer: int | None = None, **other: Any
) -> tuple[Any, ...]:
    """A row of night n1, file f1 and the day 2020-01-01."""
    tags = [other.get(name) for name in ("rule", "reason", "action")]
    place = (f"{number:03}", other.get("night", "n1"), other.get("file", "f1"))
    return (number, mail, date(2020, 1, 1), seat, customer, *place, *tags)


def rules_of(
    spark: SparkSession,
    rows: Sequence[tuple[Any, ...]],
    *,
    standing: DataFrame | None = None,
    customers: DataFrame | None = None,
    **keys: Any,
) -> Mapping[int, str | None]:
    """id -> the rule that a row broke; the tagged rows are checked to be the same rows."""
    frame = spark.createDataFrame(list(rows), ROWS)
    tables = {
        "silver/customers": customers if customers is not None else spark.createDataFrame([(1,), (2,), (2,)], "number bigint")
    }
    tagged = tag_across(frame.repartition(3), contract=contract(**keys), tables=tables, standing=standing)
    assert tagged.columns == frame.columns
    found = tagged.collect()
    assert sorted(each[:8] for each in found) == sorted(each[:8] for each in rows)
    assert all((each["_rule"] is None) == (each["_reason"] is None) == (each["_action"] is None) for each in found)
    return {each["id"]: each["_rule"] for each in found}


def test_rules_in_their_order() -> None:
    assert across_rules(contract()) == {
        "customer_not_in_customers": ("customer",),
        "mail_not_unique": ("mail",),
        "day_seat_not_unique": ("day", "seat"),
    }


def test_the_earliest_row_stays_and_null_equals_nothing(spark: SparkSession) -> None:
    rows = [
        row(1, "a", file="f2"),
        row(2, "a"),
        row(3, "a", night="n0"),
        row(4, None, 7),
        row(5, None, 7),
        row(6, None, None),
        row(7, None, None),
        row(8, "b", customer=1),
        row(9, "b", customer=9),  # without a customer it takes no value
        row(10, "c", rule="id_is_null", reason="r", action="quarantined"),
        row(11, "c", customer=2),
    ]
    expected = {
        **dict.fromkeys([3, 4, 6, 7, 8, 11]),
        **dict.fromkeys([1, 2], "mail_not_unique"),
        5: "day_seat_not_unique",
        9: "customer_not_in_customers",
        10: "id_is_null",
    }
    assert rules_of(spark, rows) == rules_of(spark, rows[::-1]) == expected


def test_reasons(spark: SparkSession) -> None:
    frame = spark.createDataFrame([row(1, "a"), row(2, "a"), row(3, customer=5), row(4, seat=1), row(5, seat=1)], ROWS)
    tables = {"silver/customers": spark.createDataFrame([], "number bigint")}
    tagged = tag_across(frame, contract=contract(), tables=tables).select("id", "_reason", "_action").orderBy("id")
    expected = [
        (1, None, None),
        (2, "equal to another row in mail", "quarantined"),
        (3, "customer is no number of silver/customers", "quarantined"),
        (4, None, None),
        (5, "equal to another row in day, seat", "quarantined"),
    ]
    assertDataFrameEqual(tagged, spark.createDataFrame(expected, "id bigint, _reason string, _action string"), checkRowOrder=True)


def test_values_of_standing_rows_are_taken_unless_it_is_that_row(spark: SparkSession) -> None:
    day = date(2020, 1, 1)
    standing = spark.createDataFrame(
        [(1, "a", day, 5), (2, "b", day, None), (3, None, None, 6)], "id bigint, mail string, day date, seat int"
    )
    rows = [row(1, "a", 5), row(4, "b"), row(5, "c", 5), row(6, None, 6), row(7, "d")]
    others = {4: "mail_not_unique", 5: "day_seat_not_unique", 6: None, 7: None}
    assert rules_of(spark, rows, standing=standing) == {1: "mail_not_unique", **others}
    assert rules_of(spark, rows, standing=standing, upsert=True) == {1: None, **others}


def test_keys_of_a_table_of_texts_are_read_as_the_columns_type(spark: SparkSession) -> None:
    customers = spark.createDataFrame([(" 1",), ("x",), (None,)], "number string")
    assert rules_of(spark, [row(1, customer=1), row(2, customer=2), row(3)], customers=customers) == {
        1: None,
        2: "customer_not_in_customers",
        3: None,
    }


def test_a_contract_without_such_rules_changes_nothing(spark: SparkSession) -> None:
    frame = spark.createDataFrame([(1, "x")], "id bigint, name string")
    assert tag_across(frame, contract=make_contract(), tables={}) is frame
