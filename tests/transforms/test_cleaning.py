"""The clean list on Spark: each step's rows, and that tagged rows are passed over and none is lost."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, SparkSession

from millrace.config.cleaning import CleanStep
from millrace.config.load import validate
from millrace.errors import ConfigError, QualityError
from millrace.transforms.check_cleaning import check_clean, check_steps
from millrace.transforms.cleaning import apply_clean, apply_fitted, apply_run, rules_of_clean, statistics_of
from tests.factories import make_contract

SCHEMA = (
    "row_id string, n int, x double, t string, _night string, _source_file string, _rule string, _reason string, _action string"
)
CONTRACT = make_contract({"row_id_of": {"type": "int"}, "n": {"type": "int"}, "x": {"type": "double"}, "t": {"type": "string"}})


def step_of(**raw: object) -> CleanStep:
    return validate(CleanStep, raw, origin="a test")


def rows_of(spark: SparkSession, *rows: tuple[int | None, float | None, str | None]) -> DataFrame:
    """The given (n, x, t), and last a row that is tagged already."""
    made = [(str(place), *row, "n1", "f", None, None, None) for place, row in enumerate(rows)]
    made.append(("tagged", 7, 1e9, " t ", "n1", "f", "earlier", "why", "quarantined"))
    return spark.createDataFrame(made, SCHEMA)


def found(rows: DataFrame, *columns: str) -> list[tuple[object, ...]]:
    """Values of the rows in their order, after a check that the tagged one is as it was."""
    got = sorted(rows.collect(), key=lambda row: row["row_id"])
    last = got.pop()
    assert (last["n"], last["x"], last["t"], last["_rule"], last["_reason"]) == (7, 1e9, " t ", "earlier", "why")
    return [tuple(row[name] for name in columns) for row in got]


def test_values_change(spark: SparkSession) -> None:
    nan = float("nan")
    rows = rows_of(spark, (None, nan, " a\u3000"), (300, -2.0, None), (5, None, "b"))
    steps = [
        step_of(fillna={"columns": ["n"], "value": 1}),
        step_of(fillna={"columns": ["x"], "value": 0.5}),
        step_of(trim=["t"]),
        step_of(clip={"columns": ["n", "x"], "low": 0, "high": 100}),
        step_of(map={"column": "t", "values": {"a": "A"}, "others": "null"}),
    ]
    done = apply_run(rows, steps)
    assert done.dtypes == rows.dtypes
    assert found(done, "n", "x", "t") == [(1, 0.5, "A"), (100, 0.0, None), (5, 0.5, None)]


def test_rows_are_dropped_by_the_first_rule(spark: SparkSession) -> None:
    rows = rows_of(spark, (None, 1.0, "1"), (1, float("nan"), "1"), (2, 2.0, None), (3, 3.0, "x"), (4, 4.0, " 4 "))
    steps = [
        step_of(dropna=["n", "x"]),
        step_of(filter={"where": "t <> '9'", "rule": "no_nine"}),
        step_of(cast={"column": "t", "type": "int", "into": "number"}),
    ]
    assert [rules_of_clean(step) for step in steps] == [("dropna(n)", "dropna(x)"), ("no_nine",), ("cast(t)",)]
    assert found(apply_run(rows, steps), "_rule", "_reason", "_action", "number") == [
        ("dropna(n)", "n is missing", "dropped", None),
        ("dropna(x)", "x is missing", "dropped", None),
        ("no_nine", "not: t <> '9'", "dropped", None),
        ("cast(t)", "t is no int", "dropped", None),
        (None, None, None, 4),
    ]


def test_integers_have_no_fractions(spark: SparkSession) -> None:
    nan = float("nan")
    rows = rows_of(spark, (1, 1.0, None), (2, 1.7, None), (3, -0.9, None), (4, 1e300, None), (5, nan, None), (6, None, None))
    steps = [step_of(cast={"column": "x", "type": "bigint", "into": "whole"})]
    assert found(apply_run(rows, steps), "n", "_rule", "whole") == [
        (1, None, 1),
        *[(n, "cast(x)", None) for n in (2, 3, 4, 5)],
        (6, None, None),
    ]


def test_the_first_of_several_columns(spark: SparkSession) -> None:
    rows = rows_of(spark, (1, float("nan"), "a"), (2, 2.0, None), (None, None, None))
    steps = [
        step_of(cast={"column": "n", "type": "double", "into": "number"}),
        step_of(coalesce={"columns": ["x", "number"], "into": "x"}),
        step_of(cast={"column": "x", "type": "string", "into": "u"}),
        step_of(coalesce={"columns": ["t", "u"], "into": "v"}),
    ]
    assert check_steps(steps, CONTRACT) == {"number": "double", "u": "string", "v": "string"}
    assert rules_of_clean(steps[1]) == ()
    assert found(apply_run(rows, steps), "x", "v", "_rule") == [(1.0, "a", None), (2.0, "2.0", None), (None, None, None)]


def test_forward(spark: SparkSession) -> None:
    rows = rows_of(spark, (1, 1.0, "a"), (2, None, "a"), (2, 5.0, "b"), (3, None, "b"), (4, None, "a"), (None, None, "a"))
    step = step_of(fillna={"columns": ["x"], "forward": {"time": "n", "group": ["t"]}})
    done = apply_clean(rows.repartition(3), step, tie_break=["n", "x", "t"])
    assert found(done, "x") == [(1.0,), (1.0,), (5.0,), (5.0,), (1.0,), (None,)]


def test_fitted_steps(spark: SparkSession) -> None:
    rows = rows_of(spark, (None, -50.0, "a"), (2, 3.0, "b"), (90, None, "c"))
    median = step_of(fillna={"columns": ["n"], "statistic": "median"})
    iqr = step_of(outliers={"columns": ["x"], "method": "iqr"})
    winsorize = step_of(winsorize={"columns": ["n"], "low": 0.1, "high": 0.9})
    assert [str(each) for each in statistics_of(iqr)] == ["quantile(x, 0.25)", "quantile(x, 0.75)"]
    assert statistics_of(step_of(trim=["t"])) == ()
    done = apply_fitted(rows, median, dict(zip(statistics_of(median), [2.5], strict=True)))
    done = apply_fitted(done, winsorize, dict(zip(statistics_of(winsorize), [1.5, 40.5], strict=True)))
    done = apply_fitted(done, iqr, dict(zip(statistics_of(iqr), [1.0, 3.0], strict=True)))
    assert found(done, "n", "_rule", "_reason") == [
        (2, "outliers(x)", "x is -50.0000, outside of -2 to 6"),
        (2, None, None),
        (40, None, None),
    ]
    with pytest.raises(QualityError, match=r"expected quantile\(n, 0.5\) of the train split; found no value"):
        apply_fitted(rows, median, {})


def test_the_usual_limit_of_outliers_is_the_methods() -> None:
    given = [step_of(outliers={"columns": ["x"], **more}).options.limit for more in ({}, {"method": "iqr"}, {"method": "z"})]
    assert given == [1.5, 1.5, 3.0]
    assert step_of(outliers={"columns": ["x"], "method": "z", "limit": 2}).options.limit == 2.0


def test_texts_in_one_pass(spark: SparkSession) -> None:
    rows = rows_of(spark, (1, 1.0, "ＡＢ write to a@b.com, please do"), (2, 2.0, None), (3, 3.0, "今天天气很好，我们去公园"))  # noqa: RUF001
    steps = [
        step_of(text={"column": "t", "steps": ["width", "lower"], "into": "clean"}),
        step_of(mask={"column": "clean", "kinds": ["email"]}),
        step_of(language={"column": "clean", "languages": ["en"], "into": "language"}),
    ]
    assert rules_of_clean(steps[2]) == ("language(clean)",)
    assert found(apply_run(rows, steps), "clean", "language", "_rule", "_reason") == [
        ("ab write to <EMAIL>, please do", "en", None, None),
        (None, "und", "language(clean)", "language und (0.00), not en"),
        ("今天天气很好，我们去公园", "zh", "language(clean)", "language zh (1.00), not en"),  # noqa: RUF001
    ]


def test_checks() -> None:
    assert check_steps([step_of(text={"column": "t", "steps": ["nfc"], "into": "u"}), step_of(trim=["u"])], CONTRACT) == {
        "u": "string"
    }
    cases = {
        "config: expected clean.trim to name columns of the contract": step_of(trim=["tt"]),
        "config: expected clean.clip to have values of n's type, int; found 0.5. Mend the value.": step_of(
            clip={"columns": ["n"], "low": 0.5}
        ),
        "config: expected clean.text.column to name columns of type string; found n is a int.": step_of(
            text={"column": "n", "steps": ["nfc"]}
        ),
        "config: expected codes that the model knows in clean.language; found 'eng'. Did you mean 'en'?": step_of(
            language={"column": "t", "languages": ["eng"]}
        ),
        "config: expected clean.coalesce.columns to name columns of type string; found n is a int.": step_of(
            coalesce={"columns": ["t", "n"], "into": "t"}
        ),
        "config: expected clean.coalesce.into to name a new column, or one of type string as it is written; found n is a int.": (
            step_of(coalesce={"columns": ["t", "t"], "into": "n"})
        ),
        "config: expected clean.near_duplicates.column to name columns of the contract tiny_raw; found 'text'.": step_of(
            near_duplicates={"column": "text"}
        ),
    }
    for message, step in cases.items():
        with pytest.raises(ConfigError) as error:
            check_clean(step, CONTRACT)
        assert str(error.value).startswith(message)
