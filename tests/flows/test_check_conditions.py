"""Conditions in SQL that users write: what Spark cannot read, and what fails for a row, are one clear error each."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from millrace.contracts.table import TableContract
from millrace.errors import ConfigError, QualityError
from millrace.flows.check_conditions import check_conditions
from millrace.lake import log
from millrace.sources.failures import explain
from tests.factories import image_contract, make_pipeline
from tests.flows.pipelines import FIRST, Pipelines

COLUMNS = {"id": {"type": "int"}, "price": {"type": "double"}}
SPLIT = {"method": "time", "column": "id", "cuts": {"validation": 5}}


def contract_of(*checks: dict[str, Any]) -> TableContract:
    return image_contract(key=["id"], columns=COLUMNS, checks=list(checks))


@pytest.mark.parametrize(
    ("sections", "contract", "where", "found"),
    [
        (
            {"clean": [{"filter": {"where": "prise > 0", "rule": "dear"}}]},
            contract_of(),
            "clean.filter.where",
            "'prise > 0', of which Spark says: A column, variable, or function parameter with name `prise` cannot be resolved. "
            "Did you mean one of the following? [`price`",
        ),
        (
            {"split": {**SPLIT, "test": {"where": "id = "}}},
            contract_of(),
            "split.test.where",
            "'id =', of which Spark says: Syntax error at or near end of input",
        ),
        (
            {"clean": [{"filter": {"where": "count(*) > 1", "rule": "r"}}]},
            contract_of(),
            "clean.filter.where",
            "'count(*) > 1', of which Spark says: ",
        ),
        ({}, contract_of({"rule": "sum", "expression": "id + 1"}), "checks of tiny_raw, sum", "'id + 1', which gives a int"),
        (
            {
                "clean": [
                    {"filter": {"where": "whole > 1", "rule": "r"}},
                    {"cast": {"column": "price", "type": "int", "into": "whole"}},
                ]
            },
            contract_of(),
            "clean.filter.where",
            "'whole > 1', of which Spark says: A column, variable, or function parameter with name `whole` cannot be resolved",
        ),
    ],
)
def test_conditions_that_spark_cannot_read(
    spark: SparkSession, sections: dict[str, Any], contract: TableContract, where: str, found: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_conditions(spark, make_pipeline(**sections), contract)
    expected = f"config: expected {where} to be a condition over the columns of tiny_raw, _source_file and _night; found {found}"
    assert str(caught.value).startswith(expected)
    assert str(caught.value).endswith(". Mend it there.")


def test_casts_that_spark_does_not_know(spark: SparkSession) -> None:
    clean = [{"cast": {"column": "price", "type": "string", "into": "text"}}]
    clean.append({"cast": {"column": "text", "type": "date", "into": "day"}})
    check_conditions(spark, make_pipeline(clean=clean), contract_of())
    clean.append({"cast": {"column": "day", "type": "int", "into": "number"}})
    with pytest.raises(ConfigError) as caught:
        check_conditions(spark, make_pipeline(clean=clean), contract_of())
    assert str(caught.value) == (
        "config: expected clean.cast of day to a type that Spark can make of a date; found int. Cast it to a string first."
    )


def test_conditions_that_it_can_read(spark: SparkSession) -> None:
    clean = [
        {"cast": {"column": "price", "type": "int", "into": "whole"}},
        {"filter": {"where": "whole > 1 AND NULL", "rule": "r"}},
        {"filter": {"where": 'NULL OR xxhash64(row_id) % 10 = 0 OR `id` <> "now()"', "rule": "s"}},
        {"winsorize": {"columns": ["price"]}},
        {"filter": {"where": "split = 'train' OR price > 2", "rule": "t"}},
    ]
    rule = {"where": "whole = 2 OR _source_file LIKE '%b.csv' OR _night > '2026'"}
    checks = contract_of({"rule": "sum", "expression": "price / id < 5"})
    check_conditions(spark, make_pipeline(clean=clean, split={**SPLIT, "test": rule}), checks)


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("1 / x > 2", "Division by zero. Use `try_divide` to tolerate divisor being 0 and return NULL instead."),
        ("CAST(text AS int) > 2", 'The value \'many\' of the type "STRING" cannot be cast to "INT" because it is malformed.'),
    ],
)
def test_a_condition_that_fails_for_a_row(spark: SparkSession, condition: str, said: str) -> None:
    rows = spark.createDataFrame([(0, "many")], "x int, text string").repartition(2)
    with pytest.raises(PySparkException) as caught:
        rows.filter(F.expr(condition)).collect()
    known = explain(str(caught.value))
    assert isinstance(known, QualityError)
    assert str(known).startswith(
        f"preprocess: expected a condition that holds or not for every row, {condition}; found one for which Spark says {said}"
    )
    assert str(known).endswith("Let the condition give NULL there, with try_divide or try_cast.")
    assert explain("[DIVIDE_BY_ZERO] of nobody's text") is None


def test_a_night_with_such_conditions_leaves_everything_as_it_was(
    pipelines: Pipelines, capsys: pytest.CaptureFixture[str]
) -> None:
    pipelines.write("a.csv", 1, 2, digit=0)
    pipelines.define("digits", {"clean": [{"filter": {"where": "digitt > 0", "rule": "r"}}]})
    assert pipelines.call(FIRST) == [2, 2]
    printed = capsys.readouterr().err
    assert printed.count("config: expected clean.filter.where to be a condition over ") == 1
    assert "Traceback" not in printed
    assert log.latest_version(pipelines.lake.path("bronze/digits")) is None
    pipelines.define("digits", {"clean": [{"filter": {"where": "index / digit > 0", "rule": "r"}}]})
    assert pipelines.call(FIRST) == [0, 2]
    printed = capsys.readouterr().err
    assert (
        "preprocess: expected a condition that holds or not for every row, index / digit > 0; found one for which Spark says Div"
        in printed
    )
    assert "Traceback" not in printed
    assert log.latest_version(pipelines.lake.path("silver/digits")) is None
    pipelines.contract(checks=[{"rule": "odd", "expression": "index > 0"}, {"rule": "many", "expression": "5 / digit > 1"}])
    pipelines.define("digits", {"clean": []})
    assert pipelines.call(FIRST, steps=("preprocess",)) == [2]
    printed = capsys.readouterr().err
    assert (
        "preprocess: expected a condition that holds or not for every row, 5 / digit > 1; found one for which Spark " in printed
    )
