"""Which pipelines hand rows to Python by bytes."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import SparkSession

from millrace.flows.batches import BATCH_BYTES, KEY, bound_batches
from tests.factories import image_contract, make_contract, make_pipeline

WIDE = make_contract({f"c{number}": {"type": "double"} for number in range(20)})
NARROW = make_contract()
NO_BOUND = 2**31 - 1
VECTOR: dict[str, Any] = {"features": [{"columns": ["c1"], "encode": "zscore"}], "label": {"column": "c2", "kind": "class"}}
TEXTS: dict[str, Any] = {"features": [{"column": "c1", "encode": "words"}], "label": None, "model": None}


@pytest.mark.parametrize(
    ("sections", "contract", "expected"),
    [
        (VECTOR, WIDE, NO_BOUND),
        (VECTOR, NARROW, BATCH_BYTES),
        (TEXTS, WIDE, BATCH_BYTES),
        ({**VECTOR, "clean": [{"mask": {"column": "c1", "kinds": ["email"]}}]}, WIDE, BATCH_BYTES),
        ({}, image_contract(columns={f"c{number}": {"type": "double"} for number in range(20)}), BATCH_BYTES),
    ],
    ids=["wide", "narrow", "tokens", "masked texts", "images"],
)
def test_bound(spark: SparkSession, sections: dict[str, Any], contract: Any, expected: int) -> None:
    before = spark.conf.get(KEY)
    try:
        bound_batches(spark, make_pipeline(**sections), contract)
        assert int(str(spark.conf.get(KEY))) == expected
    finally:
        spark.conf.set(KEY, before)
