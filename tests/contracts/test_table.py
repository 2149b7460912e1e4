"""Contracts: what follows from one, what is refused, and that all that ship are valid."""

# ruff: noqa: E501 (whole messages)

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import types as T

from millrace.config.load import hash_of, load_pipeline, read_yaml, validate
from millrace.config.places import Places
from millrace.contracts.spark import column_conditions, struct_type
from millrace.contracts.table import ColumnContract, TableContract, load_contract
from millrace.errors import ConfigError, MillraceError
from millrace.flows.check import check_pipeline
from tests.factories import image_contract, make_contract, make_pipeline

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "schemas").glob("*.yaml")))
def test_shipped_contracts_are_valid(name: str) -> None:
    contract = load_contract(name, Places(root=ROOT))
    assert contract.arrow_schema.names == struct_type(contract).names == list(contract.columns)


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "conf" / "pipelines").glob("*.yaml")))
def test_shipped_pipelines_fit_their_contracts(name: str) -> None:
    places = Places(root=ROOT)
    config = load_pipeline(name, places, environment={})
    check_pipeline(config, load_contract(config.source.contract, places))


def test_schemas() -> None:
    contract = make_contract({"id": {"type": "bigint", "nullable": False}, "tags": {"type": "array<string>"}})
    assert contract.arrow_schema == pa.schema([pa.field("id", pa.int64(), False), pa.field("tags", pa.list_(pa.string()))])
    assert struct_type(contract) == T.StructType(
        [T.StructField("id", T.LongType(), False), T.StructField("tags", T.ArrayType(T.StringType()))]
    )


@pytest.mark.parametrize(
    ("column", "conditions"),
    [
        ({"type": "string"}, {}),
        ({"type": "string", "nullable": False}, {"x_is_null": "`x` IS NOT NULL"}),
        (
            {"type": "int", "nullable": False, "range": [0, 9]},
            {"x_is_null": "`x` IS NOT NULL", "x_out_of_range": "`x` BETWEEN 0 AND 9"},
        ),
        ({"type": "double", "range": [-0.5, 1e-7]}, {"x_out_of_range": "`x` IS NULL OR `x` BETWEEN -0.5 AND 1e-07"}),
        ({"type": "string", "one_of": ["it's", "a\\b"]}, {"x_not_in_set": "`x` IS NULL OR `x` IN ('it\\'s', 'a\\\\b')"}),
        ({"type": "boolean", "one_of": [True]}, {"x_not_in_set": "`x` IS NULL OR `x` IN (TRUE)"}),
        ({"type": "int", "nullable": False, "range": [None, 9]}, {"x_is_null": "`x` IS NOT NULL", "x_out_of_range": "`x` <= 9"}),
        ({"type": "int", "range": [-1, None]}, {"x_out_of_range": "`x` IS NULL OR `x` >= -1"}),
        ({"type": "float", "range": [0.5, None]}, {"x_out_of_range": "`x` IS NULL OR `x` >= 0.5 AND NOT isnan(`x`)"}),
        (
            {"type": "date", "range": [date(2020, 2, 29), date(2021, 1, 1)]},
            {"x_out_of_range": "`x` IS NULL OR `x` BETWEEN DATE'2020-02-29' AND DATE'2021-01-01'"},
        ),
        (
            {"type": "timestamp", "range": [date(2020, 1, 1), datetime(2020, 1, 1, 1, 0, 0, 5, timezone(timedelta(hours=1)))]},
            {
                "x_out_of_range": "`x` IS NULL OR `x` BETWEEN TIMESTAMP'2020-01-01 00:00:00.000000Z' "
                "AND TIMESTAMP'2020-01-01 00:00:00.000005Z'"
            },
        ),
        (
            {"type": "string", "pattern": "a'\\d+", "min_length": 2, "max_length": 5},
            {
                "x_too_short": "`x` IS NULL OR length(`x`) >= 2",
                "x_too_long": "`x` IS NULL OR length(`x`) <= 5",
                "x_not_like_pattern": "`x` IS NULL OR `x` RLIKE '\\\\A(?:a\\'\\\\d+)\\\\z'",
            },
        ),
        (
            {"type": "binary", "tensor": {"dtype": "float32", "shape": [3, 2]}},
            {"x_wrong_size": "`x` IS NULL OR octet_length(`x`) = 24"},
        ),
    ],
)
def test_column_conditions(column: dict[str, Any], conditions: dict[str, str]) -> None:
    assert column_conditions("x", ColumnContract.model_validate(column)) == conditions


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"key": ["idd"]},
            "expected a valid x.yaml; found the key column 'idd' is not among the columns. Did you mean 'id'?. Mend it there.",
        ),
        (
            {"key": ["id"], "columns": {"id": {"type": "double"}}},
            "expected a valid x.yaml; found the key column 'id' is a double; a float has no exact text, take another key. "
            "Mend it there.",
        ),
        (
            {"key": ["id"], "columns": {"id": {"type": "boolean"}}},
            "expected a valid x.yaml; found the key column 'id' is a boolean; only tinyint, smallint, int, bigint, string, "
            "binary, date, timestamp tell rows apart, take another key. Mend it there.",
        ),
        (
            {"columns": {"id": {"type": "int"}, "ID": {"type": "int"}}},
            "expected a valid x.yaml; found the columns 'id' and 'ID' differ in case only, which Spark does not tell apart. "
            "Mend it there.",
        ),
        (
            {"checks": [{"rule": "r", "expression": "a"}, {"rule": "r", "expression": "b"}]},
            "expected a valid x.yaml; found two checks have the same rule name. Mend it there.",
        ),
        (
            {"columns": {"id": {"type": "int", "nulable": False}}},
            "expected known keys in x.yaml; found 'columns.id.nulable'. Did you mean 'nullable'?",
        ),
        (
            {"columns": {"id": {"type": "binary", "tensor": {"dtype": "uint8", "shape": [1], "units": "x"}}}},
            "expected known keys in x.yaml; found 'columns.id.tensor.units'. Did you mean 'unit'?",
        ),
        (
            {"columns": {"id": {"type": "string", "range": [0, 1]}}},
            "expected a valid columns.id in x.yaml; found range goes with a number, date or timestamp, not string. Mend it there.",
        ),
        (
            {"columns": {"id": {"type": "int", "range": [9, 0]}}},
            "expected a valid columns.id in x.yaml; found range goes from a smaller to a larger number, not from 9 to 0. Mend it there.",
        ),
        (
            {"columns": {"id": {"type": "string", "one_of": [1]}}},
            "expected a valid columns.id in x.yaml; found one_of lists values of type string, at least one; 1 is none. Mend it there.",
        ),
        (
            {"columns": {"id": {"type": "string", "tensor": {"dtype": "uint8", "shape": [1]}}}},
            "expected a valid columns.id in x.yaml; found tensor and text go with type binary, not string. Mend it there.",
        ),
        *[
            (
                {"columns": {"id": options}},
                f"expected a valid columns.id in x.yaml; found {found}. Mend it there.",
            )
            for options, found in [
                ({"type": "int", "range": [None, None]}, "range has at least one end"),
                (
                    {"type": "double", "range": [float("nan"), None]},
                    "range goes from a smaller to a larger number, not from nan to None",
                ),
                ({"type": "int", "range": [date(2020, 1, 1), 5]}, "range of a int has ends of its type, and 2020-01-01 is none"),
                ({"type": "date", "range": [5, None]}, "range of a date has ends of its type, and 5 is none"),
                (
                    {"type": "date", "range": [datetime(2020, 1, 1, 1), None]},
                    "range of a date has ends of its type, and 2020-01-01 01:00:00 is none",
                ),
                (
                    {"type": "date", "range": [date(2021, 1, 1), date(2020, 1, 1)]},
                    "range goes from an earlier to a later date, not from 2021-01-01 to 2020-01-01",
                ),
                ({"type": "int", "pattern": "a"}, "pattern goes with type string, not int"),
                (
                    {"type": "string", "pattern": "(a"},
                    "the pattern (a is no regular expression: missing ), unterminated subpattern at position 0",
                ),
                ({"type": "int", "min_length": 1}, "min_length and max_length go with a string or binary, not int"),
                ({"type": "string", "min_length": 3, "max_length": 2}, "max_length is 2, less than min_length, which is 3"),
                (
                    {"type": "double", "unique": True},
                    "unique goes with tinyint, smallint, int, bigint, string, binary, date, timestamp, not double",
                ),
            ]
        ],
        *[
            (values, f"expected a valid {place}x.yaml; found {found}. Mend it there.")
            for values, place, found in [
                ({"upsert": True}, "", "upsert needs a key, by which the row to replace is found"),
                (
                    {"unique": [["id", "idd"]]},
                    "",
                    "unique names 'idd', which is not among the columns. Did you mean 'id'?",
                ),
                ({"unique": [["id", "id"]]}, "", "unique names a column twice: id, id"),
                (
                    {
                        "columns": {"a_b": {"type": "int", "unique": True}, "a": {"type": "int"}, "b": {"type": "int"}},
                        "unique": [["a", "b"]],
                        "checks": [{"rule": "a_b_not_unique", "expression": "a"}],
                    },
                    "",
                    "two rules are called a_b_not_unique",
                ),
                (
                    {"references": [{"column": "no", "table": "silver/customers", "key": "id"}]},
                    "",
                    "references names 'no', which is not among the columns. Known: id.",
                ),
                (
                    {
                        "columns": {"id": {"type": "boolean"}},
                        "references": [{"column": "id", "table": "silver/customers", "key": "id"}],
                    },
                    "",
                    "references names 'id', a boolean; only tinyint, smallint, int, bigint, string, binary, date, timestamp tell rows "
                    "apart",
                ),
                (
                    {"references": [{"column": ["id"], "table": "silver/customers", "key": ["a", "b"]}]},
                    "references.0 in ",
                    "column and key name as many columns, not 1 and 2",
                ),
            ]
        ],
        (
            {"references": [{"column": "id", "table": "gold/customers", "key": "id"}]},
            "expected references.0.table in x.yaml to be string should match pattern '^(bronze|silver)/[a-z][a-z0-9_]{0,63}$'; "
            "found 'gold/customers'. Mend references.0.table.",
        ),
        (
            {"columns": {"1d": {"type": "string"}}},
            "expected columns.1d.[key] in x.yaml to be string should match pattern '^[A-Za-z_][A-Za-z0-9_]*$'; found '1d'. "
            "Mend columns.1d.[key].",
        ),
    ],
)
def test_contracts_that_are_refused(values: dict[str, Any], message: str) -> None:
    base = {"name": "x", "grain": "one row", "columns": {"id": {"type": "int"}}}
    with pytest.raises(ConfigError) as caught:
        validate(TableContract, base | values, origin="x.yaml")
    assert str(caught.value) == f"config: {message}"


def test_unknown_contract_offers_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        load_contract("digits_rwa", Places(root=ROOT))
    assert str(caught.value) == (
        "contract: expected the name of a contract; found 'digits_rwa'. Did you mean 'digits_raw'? "
        f"Searched: {ROOT}, the package's own schemas."
    )


@pytest.mark.parametrize(
    ("pipeline", "contract", "message"),
    [
        (
            {},
            image_contract(columns={"id": {"type": "int"}, "Split": {"type": "int"}}),
            "contract: expected columns of tiny_raw without a leading _ and none called row_id or split; found 'Split'. "
            "These names are Millrace's own: rename the column.",
        ),
        (
            {"split": {"key": ["idd"], "fractions": {"train": 1}}},
            image_contract(),
            "config: expected split.key to name columns of the contract tiny_raw; found 'idd'. Did you mean 'id'?",
        ),
        (
            {"clean": [{"drop_duplicates": ["imag"]}]},
            image_contract(),
            "config: expected clean.drop_duplicates to name columns of the contract tiny_raw; found 'imag'. Did you mean 'image'?",
        ),
        (
            {"label": {"column": "digits", "kind": "class"}},
            image_contract(),
            "config: expected label.column to name columns of the contract tiny_raw; found 'digits'. Did you mean 'digit'?",
        ),
        (
            {"label": {"column": "image", "kind": "class"}},
            image_contract(),
            "config: expected label to name a column of integers or texts; found binary. Take another label.",
        ),
        (
            {"features": [{"column": "image", "encode": "scale", "shape": [4]}]},
            image_contract(),
            "config: expected features to name the shape [2, 2, 1] of image; found [4]. Make them equal.",
        ),
        (
            {"features": [{"column": "digit", "encode": "scale", "shape": [1]}]},
            image_contract(),
            "config: expected features to name a column with a tensor of uint8; found digit has none. Give it one in tiny_raw.",
        ),
        (
            {"label": {"column": "image", "kind": "number"}},
            image_contract(),
            "config: expected label to name a column of numbers; found binary. Take another label, or label.kind class.",
        ),
        (
            {"label": {"column": "digit", "kind": "number"}},
            image_contract(),
            "config: expected training.loss to name mse or mae, since the label is a number; found cross_entropy. "
            "Change training.loss or label.kind.",
        ),
        (
            {"training": {"loss": "mae"}},
            image_contract(),
            "config: expected training.loss to name cross_entropy, since the label is a class; found mae. "
            "Change training.loss or label.kind.",
        ),
        (
            {"label": {"column": "digit", "kind": "number"}, "training": {"loss": "mse", "class_weights": "balanced"}},
            image_contract(),
            "config: expected training.class_weights to name nothing, since the label is a number; found some. Leave it out.",
        ),
        (
            {"label": {"column": "digit", "kind": "number"}, "training": {"loss": "mse", "early_stop": {"metric": "accuracy"}}},
            image_contract(),
            "config: expected training.early_stop.metric to name loss, mae, rmse, since the label is a number; found accuracy. "
            "Take one of these.",
        ),
        (
            {"training": {"batch_size": 8, "virtual_shards": 3}},
            image_contract(),
            "config: expected training.virtual_shards to name a divisor of training.batch_size; found 8 % 3 = 2. Change one of them.",
        ),
        (
            {"source": {"name": "tiny", "format": "parquet", "path": "/nowhere", "schema": "tiny_raw"}},
            image_contract(key=None, columns={"id": {"type": "int"}, "x": {"type": "float"}}),
            "config: expected contract.key to name columns with an exact text; found x is a float. Give tiny_raw a key.",
        ),
        (
            {"split": {"key": ["x"], "fractions": {"train": 1}}},
            image_contract(columns={"id": {"type": "int"}, "x": {"type": "double"}}),
            "config: expected split.key to name columns with an exact text; found x is a double. Take other columns.",
        ),
        (
            {"clean": [{"filter": {"where": "x > 1", "rule": "x_out_of_range"}}]},
            image_contract(key=["id"], columns={"id": {"type": "int"}, "x": {"type": "int", "range": [0, 5]}}),
            "config: expected clean.filter.rule to name a name of its own; found x_out_of_range, which is another rule's name. "
            "Give it another one.",
        ),
        (
            {"clean": [{"filter": {"where": "digit > 1", "rule": "duplicate_key"}}]},
            image_contract(),
            "config: expected clean.filter.rule to name a name of its own; found duplicate_key, which is another rule's name. "
            "Give it another one.",
        ),
        (
            {
                "features": [{"column": "Features", "encode": "words", "length": 3}, {"columns": ["id"], "encode": "zscore"}],
                "label": None,
                "model": None,
            },
            image_contract(key=["id"], columns={"id": {"type": "int"}, "Features": {"type": "string"}}),
            "config: expected features to name a column that is not called features; found it. Gold has the fitted numbers there: "
            "rename the column.",
        ),
        (
            {
                "split": {"key": ["x"], "fractions": {"train": 1}, "test": {"where": "id > 2"}},
                "clean": [{"fillna": {"columns": ["x"], "statistic": "median"}}],
            },
            image_contract(columns={"id": {"type": "int"}, "x": {"type": "int"}}),
            "config: expected a split by rules and columns that clean does not change after it; found fillna of x, after the split. "
            "Split by a copy of the column, which a step of clean with `into` makes.",
        ),
        (
            {},
            image_contract(columns={"id": {"type": "int"}, "x": {"type": "array<int>"}}),
            "contract: expected simple types in csv; found x is array<int>. Make it a string, and parse it later.",
        ),
    ],
)
def test_pipelines_that_do_not_fit_their_contract(pipeline: dict[str, Any], contract: TableContract, message: str) -> None:
    with pytest.raises(MillraceError) as caught:
        check_pipeline(make_pipeline(**pipeline), contract)
    assert type(caught.value) is ConfigError
    assert str(caught.value) == message


def test_a_contract_as_it_is_written() -> None:
    text = """
name: orders
grain: one row per order
key: [id]
upsert: true
columns:
  id: {type: bigint, nullable: false, range: [1, null]}
  code: {type: string, unique: true, pattern: '[A-Z]{2}[0-9]+', min_length: 3, max_length: 10}
  day: {type: date, range: [2020-01-01, 2029-12-31]}
  at: {type: timestamp, range: [2020-01-01 06:00:00, null]}
  customer: {type: bigint}
unique: [[day, customer]]
references: [{column: customer, table: silver/customers, key: id}]
evolution: {added: evolve, missing: "null", retyped: evolve}
"""
    contract = validate(TableContract, read_yaml(text, origin="x.yaml"), origin="x.yaml")
    assert contract.unique_rules == {"code_not_unique": ("code",), "day_customer_not_unique": ("day", "customer")}
    assert [(each.rule, each.column, each.key) for each in contract.references] == [
        ("customer_not_in_customers", ("customer",), ("id",))
    ]
    conditions = {
        rule: text for name, column in contract.columns.items() for rule, text in column_conditions(name, column).items()
    }
    assert conditions["at_out_of_range"] == "`at` IS NULL OR `at` >= TIMESTAMP'2020-01-01 06:00:00.000000Z'"
    assert conditions["day_out_of_range"] == "`day` IS NULL OR `day` BETWEEN DATE'2020-01-01' AND DATE'2029-12-31'"
    assert hash_of(contract) == hash_of(contract.model_copy())


def test_a_column_that_is_unique_twice_has_one_rule() -> None:
    contract = make_contract({"id": {"type": "int", "unique": True}, "x": {"type": "int"}}, unique=[["id", "x"], ["id", "x"]])
    assert contract.unique_rules == {"id_not_unique": ("id",), "id_x_not_unique": ("id", "x")}
