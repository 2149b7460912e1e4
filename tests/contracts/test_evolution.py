"""Columns that come, go and change: every policy, with what the reader is told."""

# ruff: noqa: E501 (whole messages)

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.contracts.evolution import Reconciled, check_retyped, is_same, is_wider, reconcile, reconcile_schema
from millrace.contracts.table import TableContract
from millrace.contracts.types import parse_type
from millrace.errors import ContractError
from tests.factories import make_contract


def evolving(**policies: str) -> TableContract:
    return make_contract({"id": {"type": "bigint", "nullable": False}, "name": {"type": "string"}}, evolution=policies)


def test_the_contracts_columns_in_any_order() -> None:
    assert reconcile(evolving(), ["name", "id"], where="a.csv") == Reconciled()


@pytest.mark.parametrize(
    ("policies", "found", "verdict"),
    [
        (
            {"added": "quarantine"},
            ["id", "name", "x", "y"],
            Reconciled(
                added=("x", "y"), rule="column_added", reason="the file has columns that the contract does not have: x, y"
            ),
        ),
        ({"added": "evolve"}, ["x", "id", "name"], Reconciled(added=("x",))),
        ({"missing": "null"}, ["id"], Reconciled(missing=("name",))),
        (
            {"missing": "quarantine"},
            ["name"],
            Reconciled(missing=("id",), rule="column_missing", reason="the file does not have columns that the contract has: id"),
        ),
        (
            {"missing": "quarantine", "added": "quarantine"},
            ["x"],
            Reconciled(
                missing=("id", "name"),
                added=("x",),
                rule="column_added",
                reason="the file has columns that the contract does not have: x",
            ),
        ),
        ({"missing": "null", "added": "evolve"}, ["id", "x"], Reconciled(missing=("name",), added=("x",))),
    ],
)
def test_what_a_reader_does(policies: dict[str, str], found: list[str], verdict: Reconciled) -> None:
    assert reconcile(evolving(**policies), found, where="a.csv") == verdict


@pytest.mark.parametrize(
    ("policies", "found", "message"),
    [
        (
            {},
            ["id"],
            "ingest: expected the columns id, name in a.csv; found no name in its first line. Mend the file, or the contract tiny_raw, or let its evolution.missing be null or quarantine such files.",
        ),
        (
            {},
            ["id", "name", "x"],
            "ingest: expected the columns id, name in a.csv; found also x. Add them to the contract tiny_raw, or let its evolution.added quarantine such files.",
        ),
        (
            {},
            ["id", "name", "id"],
            "ingest: expected each column once in a.csv; found id, name, id. Mend the file's first line.",
        ),
        (
            {"missing": "null"},
            ["name"],
            "ingest: expected the columns that cannot be NULL (id) in a.csv; found no id in its first line. Mend the file, let tiny_raw make them nullable, or let its evolution.missing quarantine such files.",
        ),
        (
            {"added": "evolve"},
            ["id", "name", "x", "x"],
            "ingest: expected each column once in a.csv; found id, name, x, x. Mend the file's first line.",
        ),
    ],
)
def test_what_is_refused(policies: dict[str, str], found: list[str], message: str) -> None:
    with pytest.raises(ContractError) as caught:
        reconcile(evolving(**policies), found, where="a.csv")
    assert str(caught.value) == message


@settings(deadline=None)
@given(
    found=st.lists(st.sampled_from(["id", "name", "x", "y"]), unique=True),
    added=st.sampled_from(["refuse", "quarantine", "evolve"]),
    missing=st.sampled_from(["refuse", "quarantine", "null"]),
)
def test_every_file_is_taken_quarantined_or_refused(found: list[str], added: str, missing: str) -> None:
    try:
        verdict = reconcile(evolving(added=added, missing=missing), found, where="a.csv")
    except ContractError:
        assert added == "refuse" or missing in ("refuse", "null")
        return
    assert set(found) == {"id", "name"} - set(verdict.missing) | set(verdict.added)
    assert (verdict.rule is None) == (verdict.reason is None)
    assert verdict.rule is not None or not verdict.added or added == "evolve"
    assert verdict.rule is not None or not verdict.missing or missing == "null"


@pytest.mark.parametrize(
    ("policy", "kind", "verdict"),
    [
        ("quarantine", pa.int64(), Reconciled()),
        ("quarantine", pa.null(), Reconciled()),
        ("quarantine", pa.string(), Reconciled()),  # value by value
        ("evolve", pa.large_string(), Reconciled()),
        ("evolve", pa.int32(), Reconciled(widened=("id",))),
        (
            "quarantine",
            pa.int32(),
            Reconciled(rule="column_retyped", reason="the file has id as int32, not id as bigint"),
        ),
        (
            "evolve",
            pa.float64(),
            Reconciled(rule="column_retyped", reason="the file has id as double, not id as bigint"),
        ),
    ],
)
def test_columns_of_another_type(policy: str, kind: pa.DataType, verdict: Reconciled) -> None:
    found = pa.schema([("name", pa.string()), ("id", kind)])
    assert reconcile_schema(evolving(retyped=policy), found, where="a.parquet") == verdict


@pytest.mark.parametrize("kind", [pa.int32(), pa.string(), pa.float64()])
def test_another_type_is_refused(kind: pa.DataType) -> None:
    with pytest.raises(ContractError) as caught:
        reconcile_schema(evolving(retyped="refuse"), pa.schema([("id", kind), ("name", pa.string())]), where="a.parquet")
    assert str(caught.value) == (
        f"ingest: expected id as bigint in a.parquet; found id as {kind}. Mend the file, or the contract tiny_raw, or let its evolution.retyped quarantine such files."
    )


def test_a_schema_is_reconciled_like_a_header() -> None:
    with pytest.raises(ContractError) as caught:
        reconcile_schema(evolving(), pa.schema([("id", pa.int64())]), where="a.parquet")
    assert str(caught.value) == (
        "ingest: expected the columns id, name in a.parquet; found no name in its schema. Mend the file, or the contract tiny_raw, or let its evolution.missing be null or quarantine such files."
    )
    found = pa.schema([("id", pa.float64()), ("name", pa.string()), ("x", pa.int8())])
    assert reconcile_schema(evolving(added="quarantine"), found, where="a.parquet").rule == "column_added"


SAME: list[tuple[Any, str]] = [
    (pa.string(), "string"),
    (pa.dictionary(pa.int32(), pa.string()), "string"),
    (pa.large_binary(), "binary"),
    (pa.binary(3), "binary"),
    (pa.timestamp("ns"), "timestamp"),
    (pa.timestamp("ms", "UTC"), "timestamp"),
    (pa.date32(), "date"),
    (pa.list_(pa.int32()), "array<int>"),
    (pa.map_(pa.string(), pa.int64()), "map<string,bigint>"),
    (pa.struct([("a", pa.int32()), ("b", pa.large_list(pa.string()))]), "struct<a:int,b:array<string>>"),
]
NARROWER: list[tuple[Any, str]] = [
    (pa.int8(), "smallint"),
    (pa.int16(), "float"),
    (pa.int32(), "bigint"),
    (pa.int32(), "double"),
    (pa.uint8(), "smallint"),
    (pa.uint16(), "bigint"),
    (pa.uint32(), "bigint"),
    (pa.float32(), "double"),
]
OTHER: list[tuple[Any, str]] = [
    (pa.int64(), "int"),
    (pa.int64(), "double"),
    (pa.int32(), "float"),
    (pa.uint64(), "bigint"),
    (pa.float64(), "float"),
    (pa.bool_(), "int"),
    (pa.date32(), "timestamp"),
    (pa.decimal128(5, 2), "double"),
    (pa.list_(pa.int64()), "array<int>"),
    (pa.struct([("b", pa.int32())]), "struct<a:int>"),
    (pa.string(), "array<int>"),
]


@pytest.mark.parametrize(("found", "wanted"), SAME + NARROWER + OTHER)
def test_types(found: pa.DataType, wanted: str) -> None:
    kind = parse_type(wanted)
    assert is_same(found, kind) == ((found, wanted) in SAME)
    assert is_wider(found, kind) == ((found, wanted) in NARROWER)


def test_values_of_another_type_are_refused_where_the_contract_says_so() -> None:
    counts = {"id_is_no_bigint": 3, "name_too_long": 1}
    with pytest.raises(ContractError) as read:
        check_retyped(evolving(retyped="refuse"), {"column_retyped": 2, "column_added": 9}, stage="ingest")
    assert str(read.value) == (
        "ingest: expected values of the contract's types (evolution.retyped is refuse); found 2 rows with another. Mend the source, or the contract tiny_raw, or let its evolution.retyped quarantine such rows."
    )
    check_retyped(evolving(), counts, stage="preprocess")
    check_retyped(evolving(retyped="refuse"), {"name_too_long": 1}, stage="preprocess")
    with pytest.raises(ContractError) as caught:
        check_retyped(evolving(retyped="refuse"), counts, stage="preprocess")
    assert str(caught.value) == (
        "preprocess: expected values of type bigint in id (evolution.retyped is refuse); found 3 that are none. Mend the source, or the contract tiny_raw, or let its evolution.retyped quarantine such rows."
    )
