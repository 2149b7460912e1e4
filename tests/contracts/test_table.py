"""Contracts: what follows from one, what is refused, and that all that ship are valid."""

# ruff: noqa: E501 (whole messages)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import types as T

from millrace.config.load import load_pipeline, validate
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
            "expected a valid columns.id in x.yaml; found range goes with a number, not string. Mend it there.",
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
            {"features": [{"column": "x", "encode": "vector", "shape": [2, 3]}]},
            image_contract(columns={"x": {"type": "binary", "tensor": {"dtype": "float32", "shape": [2, 3]}}}),
            "config: expected features to name a vector of shape [size] without a divisor; "
            "found shape [2, 3] and divisor 1. Give its length, and scale it before.",
        ),
        (
            {"training": {"batch_size": 8, "virtual_shards": 3}},
            image_contract(),
            "config: expected training.virtual_shards to name a divisor of training.batch_size; found 8 % 3 = 2. Change one of them.",
        ),
        (
            {},
            image_contract(key=None, columns={"id": {"type": "int"}, "x": {"type": "float"}}),
            "config: expected contract.key to name columns with an exact text; found x is a float. Give tiny_raw a key.",
        ),
        (
            {"split": {"key": ["x"], "fractions": {"train": 1}}},
            image_contract(columns={"id": {"type": "int"}, "x": {"type": "double"}}),
            "config: expected split.key to name columns with an exact text; found x is a double. Take other columns.",
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
