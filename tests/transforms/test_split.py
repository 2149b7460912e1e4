"""Splits: each method against a plain count in Python, and the law that no old row moves when rows are added."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from millrace.config.splitting import KFoldSplit, SplitConfig
from millrace.errors import ConfigError
from millrace.transforms.identity import python_encoded, python_hash_number, threshold
from millrace.transforms.split import check_split, fold_of, split_of, tag_without_split
from tests.factories import make_contract

COLUMNS = {
    "id": {"type": "bigint"},
    "user": {"type": "string"},
    "label": {"type": "string"},
    "day": {"type": "date"},
    "at": {"type": "timestamp"},
    "year": {"type": "int"},
    "part": {"type": "string"},
    "weight": {"type": "double"},
}
ROWS = "id bigint, user string, label string, day date, at timestamp, year int, part string"
SHARES = {"train": 0.6, "validation": 0.1, "test": 0.3}
METHODS: dict[str, dict[str, Any]] = {
    "hash": {"method": "hash", "key": ["id"], "fractions": SHARES},
    "hash and rules": {
        "key": ["id"],
        "fractions": {"train": 1},
        "validation": {"where": "year = 3"},
        "test": {"where": "year IN (3, 4) AND label = 'a'"},
    },
    "group": {"method": "group", "group": ["user"], "fractions": SHARES},
    "stratified": {"method": "stratified", "key": ["id"], "column": "label", "fractions": SHARES, "strata": {"b": {"train": 1}}},
    "time": {"method": "time", "column": "day", "cuts": {"validation": date(2020, 1, 5), "test": date(2020, 1, 9)}},
    "time of a year": {"method": "time", "column": "year", "cuts": {"test": 7}, "otherwise": "test"},
    "given": {"method": "given", "column": "part", "names": {"train": ["t", "u"], "test": "v"}},
    "k_fold": {"method": "k_fold", "key": ["user"], "k": 3, "fold": 1, "test": {"where": "year = 9"}},
}


def make(values: dict[str, Any]) -> SplitConfig:
    config: SplitConfig = TypeAdapter(SplitConfig).validate_python({"seed": 7, **values})
    return config


def make_rows(numbers: list[int]) -> list[tuple[Any, ...]]:
    """A row for each number, all of whose columns are functions of it; some are NULL."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    return [
        (
            number,
            None if number % 11 == 10 else f"u{number % 7}",
            None if number % 13 == 12 else "abc"[number % 3],
            None if number % 17 == 16 else date(2020, 1, 1) + timedelta(days=number % 12),
            start + timedelta(hours=number),
            None if number % 19 == 18 else number % 10,
            None if number % 23 == 22 else "tuvw"[number % 4],
        )
        for number in numbers
    ]


def splits(rows: DataFrame, config: SplitConfig) -> dict[int, str | None]:
    return {row["id"]: row["split"] for row in rows.select("id", split_of(rows.schema, config).alias("split")).collect()}


def by_fractions(number: int, fractions: dict[str, float]) -> str:
    below = threshold(1.0 - fractions["test"] - fractions["validation"])
    return "train" if number < below else "validation" if number < threshold(1.0 - fractions["test"]) else "test"


def expected(row: tuple[Any, ...], method: str) -> str | None:
    number, user, label, day, _, year, part = row

    def drawn(*key: object) -> int:
        return python_hash_number(python_encoded(key), seed=7)

    answers = {
        "hash": by_fractions(drawn(number), SHARES),
        "hash and rules": "test" if year in (3, 4) and label == "a" else "validation" if year == 3 else "train",
        "group": by_fractions(drawn(user), SHARES),
        "stratified": "train" if label == "b" else by_fractions(drawn(label, number), SHARES),
        "time": None if day is None else "train" if day.day < 5 else "validation" if day.day < 9 else "test",
        "time of a year": "test" if year is None or year >= 7 else "train",
        "given": {"t": "train", "u": "train", "v": "test"}.get(part),
        "k_fold": "test" if year == 9 else "validation" if drawn(user) % 3 == 1 else "train",
    }
    return answers[method]


@pytest.mark.parametrize("method", METHODS)
def test_each_method_against_python(method: str, spark: SparkSession) -> None:
    rows = make_rows(list(range(500)))
    found = splits(spark.createDataFrame(rows, ROWS), make(METHODS[method]))
    assert found == {row[0]: expected(row, method) for row in rows}


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    old=st.sets(st.integers(0, 10_000), min_size=1, max_size=40),
    new=st.sets(st.integers(0, 10_000), max_size=40),
)
def test_no_old_row_moves_when_rows_are_added(old: set[int], new: set[int], spark: SparkSession) -> None:
    before = spark.createDataFrame(make_rows(sorted(old)), ROWS)
    after = spark.createDataFrame(make_rows(sorted(old | new, reverse=True)), ROWS).repartition(3)
    configs = {name: make(values) for name, values in METHODS.items()}
    columns = [split_of(before.schema, config).alias(name.replace(" ", "_")) for name, config in configs.items()]
    first = {row["id"]: row for row in before.select("id", *columns).collect()}
    second = {row["id"]: row for row in after.select("id", *columns).collect()}
    assert {number: second[number] for number in old} == first


def test_shares_are_those_that_were_asked_for(spark: SparkSession) -> None:
    user, label = F.concat(F.lit("u"), F.col("id") % 4000).alias("user"), (F.col("id") % 2).alias("label")
    rows = spark.range(20_000).select("id", user, label)
    strata = METHODS["stratified"] | {"strata": {"1": {"train": 0.2, "test": 0.8}}}
    configs = {"hash": make(METHODS["hash"]), "group": make(METHODS["group"]), "stratified": make(strata)}
    found = rows.select("label", "user", *[split_of(rows.schema, each).alias(name) for name, each in configs.items()]).collect()
    for method, tolerance in (("hash", 0.01), ("group", 0.03)):
        shares = {name: count / 20_000 for name, count in Counter(row[method] for row in found).items()}
        assert shares == pytest.approx(SHARES, abs=tolerance)
    assert len({(row["user"], row["group"]) for row in found}) == 4000  # no group on both sides
    by_stratum = Counter((row["label"], row["stratified"]) for row in found)
    assert by_stratum[0, "test"] / 10_000 == pytest.approx(0.3, abs=0.015)
    assert by_stratum[1, "test"] / 10_000 == pytest.approx(0.8, abs=0.015)
    assert by_stratum[1, "validation"] == 0


def test_folds_are_the_same_whichever_is_held_out(spark: SparkSession) -> None:
    rows = spark.createDataFrame(make_rows(list(range(300))), ROWS)
    configs = [make({"method": "k_fold", "key": ["id"], "k": 4, "fold": fold}) for fold in range(4)]
    columns = [split_of(rows.schema, config).alias(f"split_{fold}") for fold, config in enumerate(configs)]
    assert isinstance(configs[0], KFoldSplit)
    found = rows.select(fold_of(rows.schema, configs[0]).alias("fold"), *columns)
    assert dict(found.dtypes)["fold"] == "int"
    held_out: Counter[int] = Counter()
    for row in found.collect():
        assert [row[f"split_{fold}"] for fold in range(4)] == [
            "validation" if fold == row["fold"] else "train" for fold in range(4)
        ]
        held_out[row["fold"]] += 1
    assert set(held_out) == {0, 1, 2, 3}
    assert min(held_out.values()) > 50


def test_moments_are_utcs(spark: SparkSession) -> None:
    rows = spark.createDataFrame(make_rows([23, 24, 25]), ROWS)
    for cut in (date(2020, 1, 2), datetime(2020, 1, 2), datetime(2020, 1, 2, tzinfo=UTC)):
        config = make({"method": "time", "column": "at", "cuts": {"test": cut}})
        assert splits(rows, config) == {23: "train", 24: "test", 25: "test"}


def test_rows_without_a_split_are_quarantined(spark: SparkSession) -> None:
    schema = "id int, split string, _rule string, _reason string, _action string"
    rows = [(1, "train", None, None, None), (2, None, None, None, None), (3, None, "r", "why", "dropped")]
    reason = "its columns name no split, and split.otherwise gives none"
    tagged = tag_without_split(spark.createDataFrame(rows, schema))
    assert [tuple(row) for row in tagged.collect()] == [
        rows[0],
        (2, None, "split_is_unknown", reason, "quarantined"),
        rows[2],
    ]
    assert tagged.columns == ["id", "split", "_rule", "_reason", "_action"]


@pytest.mark.parametrize("values", METHODS.values(), ids=METHODS)
def test_methods_fit_the_contract(values: dict[str, Any]) -> None:
    check_split(make(values), make_contract(COLUMNS))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"method": "group", "group": ["usr"], "fractions": SHARES},
            "split.group to name columns of the contract tiny_raw; found 'usr'. Did you mean 'user'?",
        ),
        (
            {"method": "stratified", "key": ["id"], "column": "weight", "fractions": SHARES},
            "split.column to name columns with an exact text; found weight is a double. Take other columns.",
        ),
        (
            {"method": "given", "column": "prt"},
            "split.column to name columns of the contract tiny_raw; found 'prt'. Did you mean 'part'?",
        ),
        (
            {"method": "time", "column": "year", "cuts": {"test": date(2020, 1, 1)}},
            "split.column to name a date or timestamp, as split.cuts has dates; found year is a int. Change one of them.",
        ),
        (
            {"method": "time", "column": "day", "cuts": {"test": 5}},
            "split.column to name an integer, as split.cuts has numbers; found day is a date. Change one of them.",
        ),
        (
            {"method": "time", "column": "day", "cuts": {"test": datetime(2020, 1, 1, 5)}},
            "split.cuts to name dates, as split.column is a date; found a timestamp. Leave out the time of day.",
        ),
    ],
)
def test_methods_that_do_not_fit(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_split(make(values), make_contract(COLUMNS))
    assert str(caught.value) == f"config: expected {message}"
