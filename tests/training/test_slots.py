"""How many workers a run gets, by a real session of four slots."""

from __future__ import annotations

import pytest

from millrace.errors import PlanError
from millrace.training.slots import choose_workers, workers_left


def choose(spark, request):
    return choose_workers(spark, request.training, request.plan(request.train))


@pytest.mark.parametrize(
    ("num_workers", "virtual_shards", "chosen"),
    [
        (1, None, 1),
        (4, None, 4),
        ("auto", None, 4),  # of 8 shards
        ("auto", 8, 4),
        ("auto", 3, 3),
        ("auto", 1, 1),
    ],
)
def test_number_of_workers(spark, make_request, num_workers, virtual_shards, chosen):
    assert choose(spark, make_request(num_workers=num_workers, virtual_shards=virtual_shards)) == chosen


def test_auto_with_dynamic_allocation_is_refused(spark, make_request):
    settings = spark.sparkContext._conf
    settings.set("spark.dynamicAllocation.enabled", "true")
    try:
        with pytest.raises(PlanError) as caught:
            choose(spark, make_request(num_workers="auto"))
        assert choose(spark, make_request(num_workers=40)) == 40  # Spark starts executors for them
    finally:
        settings.set("spark.dynamicAllocation.enabled", "false")
    assert str(caught.value) == (
        "training: expected a number of workers, because with dynamic allocation Spark's task slots cannot be counted "
        "beforehand; found training.num_workers = auto. Set training.num_workers, or spark.dynamicAllocation.enabled=false."
    )


@pytest.mark.parametrize(("wanted", "left"), [(1, 1), (4, 4), (6, 4)])
def test_workers_left_after_a_failure(spark, wanted, left):
    assert workers_left(spark, wanted) == left
