"""Rules: which one a row is reported for, what NULL means to each, and the budget's edge."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.testing import assertDataFrameEqual

from millrace.contracts.spark import column_conditions
from millrace.contracts.table import ColumnContract
from millrace.errors import QualityError
from millrace.quality.budget import check_budget
from millrace.quality.rules import rules_of, tag
from tests.factories import make_contract

CONTRACT = make_contract(
    {
        "id": {"type": "int", "nullable": False, "range": [0, 9]},
        "kind": {"type": "string", "one_of": ["it's", "b"]},
        "weight": {"type": "double", "range": [0.5, 2]},
        "image": {"type": "binary", "tensor": {"dtype": "int32", "shape": [1]}},
    },
    checks=[{"rule": "id_fits_weight", "expression": "id < 5 OR weight > 1"}],
)
ROWS = "id int, kind string, weight double, image binary, _cast_failed array<string>"


def test_rules_in_their_order() -> None:
    assert [(rule.name, rule.column, rule.reason) for rule in rules_of(CONTRACT)] == [
        ("id_is_no_int", "id", "id is no int"),
        ("kind_is_no_string", "kind", "kind is no string"),
        ("weight_is_no_double", "weight", "weight is no double"),
        ("image_is_no_binary", "image", "image is no binary"),
        ("id_is_null", "id", "not: id IS NOT NULL"),
        ("id_out_of_range", "id", "not: id BETWEEN 0 AND 9"),
        ("kind_not_in_set", "kind", "not: kind IS NULL OR kind IN ('it\\'s', 'b')"),
        ("weight_out_of_range", "weight", "not: weight IS NULL OR weight BETWEEN 0.5 AND 2"),
        ("image_wrong_size", "image", "not: image IS NULL OR octet_length(image) = 4"),
        ("id_fits_weight", None, "not: id < 5 OR weight > 1"),
    ]


def test_each_row_is_reported_for_the_first_rule_that_it_breaks(spark: SparkSession) -> None:
    cases = [
        ((1, "it's", 0.5, b"1234", []), None),
        ((9, None, 2.0, None, []), None),  # NULL where it is allowed
        ((1, None, None, None, []), None),
        ((None, "b", 1.0, None, ["id"]), "id_is_no_int"),  # the cast, not the NULL that it left
        ((None, "b", 1.0, None, []), "id_is_null"),
        ((10, "zzz", 9.0, b"1", []), "id_out_of_range"),
        ((1, "zzz", 9.0, b"1", []), "kind_not_in_set"),
        ((1, "b", 0.49, b"1", []), "weight_out_of_range"),
        ((1, "b", float("nan"), None, []), "weight_out_of_range"),
        ((1, "b", 1.0, b"123", []), "image_wrong_size"),
        ((5, "b", 1.0, b"1234", []), "id_fits_weight"),
        ((5, "b", None, b"1234", []), "id_fits_weight"),  # a check that gives NULL is not met
    ]
    rules = rules_of(CONTRACT)
    found = tag(spark.createDataFrame([row for row, _ in cases], ROWS), rules)
    reasons = {rule.name: rule.reason for rule in rules}
    expected = [(*row, rule, reasons.get(rule or ""), "quarantined" if rule else None) for row, rule in cases]
    assertDataFrameEqual(
        found,
        spark.createDataFrame(expected, f"{ROWS}, _rule string, _reason string, _action string"),
        checkRowOrder=True,
        ignoreNullable=True,
    )


def test_texts_dates_and_open_ranges(spark: SparkSession) -> None:
    contract = make_contract(
        {
            "code": {"type": "string", "pattern": r"\p{Lu}{2}'?\d+|(?:ab|b)*", "min_length": 2, "max_length": 6},
            "day": {"type": "date", "range": [None, date(2020, 12, 31)]},
            "at": {"type": "timestamp", "range": [datetime(2020, 1, 1, 6), None]},
            "weight": {"type": "double", "range": [0, None]},
            "data": {"type": "binary", "max_length": 2},
        }
    )
    six = datetime(2020, 1, 1, 6, tzinfo=UTC)
    cases = [
        (("ÄB1", date(2020, 12, 31), six, 0.0, b"12"), None),
        ((None, None, None, None, None), None),
        (("AB'123", None, None, float("inf"), b""), None),
        (("bab", None, None, None, None), None),
        (("A", None, None, None, None), "code_too_short"),
        (("\U0001f600\U0001f600\U0001f600\U0001f600", None, None, None, None), "code_not_like_pattern"),  # 4 characters, not 8
        (("AB12345", None, None, None, None), "code_too_long"),
        (("ab" * 50_000, None, None, None, None), "code_too_long"),  # which Java would match by too deep a recursion
        (("AB12\n", None, None, None, None), "code_not_like_pattern"),
        (("xAB12", None, None, None, None), "code_not_like_pattern"),
        (("AB12x", None, None, None, None), "code_not_like_pattern"),
        ((None, date(2021, 1, 1), None, None, None), "day_out_of_range"),
        ((None, None, datetime(2020, 1, 1, 5, 59, 59, 999999, UTC), None, None), "at_out_of_range"),
        ((None, None, None, -1e-300, None), "weight_out_of_range"),
        ((None, None, None, float("nan"), None), "weight_out_of_range"),
        ((None, None, None, None, b"123"), "data_too_long"),
    ]
    schema = "code string, day date, at timestamp, weight double, data binary, _cast_failed array<string>"
    found = tag(spark.createDataFrame([(*row, []) for row, _ in cases], schema), rules_of(contract)).collect()
    assert [row["_rule"] for row in found] == [rule for _, rule in cases]


def test_the_same_conditions_are_constraints_of_a_delta_table(spark: SparkSession, tmp_path: Path) -> None:
    column = ColumnContract.model_validate({"type": "string", "pattern": r"a\\'\d", "min_length": 1, "max_length": 9})
    conditions = column_conditions("x", column)
    path = str(tmp_path / "table")
    good = spark.createDataFrame([("a\\'1",), (None,)], "x string")
    good.write.format("delta").options(**{f"delta.constraints.{rule}": text for rule, text in conditions.items()}).save(path)
    good.write.format("delta").mode("append").save(path)
    assert spark.read.format("delta").load(path).count() == 4
    with pytest.raises(Exception, match="x_not_like_pattern"):
        spark.createDataFrame([("a'1",)], "x string").write.format("delta").mode("append").save(path)


def test_no_rules_take_no_row(spark: SparkSession) -> None:
    assert [tuple(row) for row in tag(spark.createDataFrame([(1,)], "a int"), []).collect()] == [(1, None, None, None)]


def test_the_budget_holds_at_its_edge() -> None:
    check_budget("ingest", num_rows_in=0, num_rows_quarantined=0, max_reject_ratio=0.0, where="there")
    check_budget("ingest", num_rows_in=100, num_rows_quarantined=1, max_reject_ratio=0.01, where="there")
    with pytest.raises(QualityError) as caught:
        check_budget("ingest", num_rows_in=100, num_rows_quarantined=2, max_reject_ratio=0.01, where="`millrace quarantine tiny`")
    assert str(caught.value) == (
        "ingest: expected at most 1.00% of the rows quarantined (quality.max_reject_ratio); found 2 of 100 (2.00%). "
        "See `millrace quarantine tiny` for the rows and reasons; mend the source, or raise the budget."
    )
