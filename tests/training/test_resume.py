"""A run that stops and goes on, in real Horovod processes: the same bits on as many ranks, the same rows on any number."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from millrace.config.network import CnnConfig
from millrace.loading.epoch import EpochPlan
from millrace.training.checkpoint import read_checkpoint
from millrace.training.ranks import Ranks
from millrace.training.request import TrainRequest
from tests.training.conftest import checkpoint_of
from tests.training.rank_cases import run_ranks
from tests.training.resume_cases import Lineage, as_rank, goes_on_as_rank, run_once

NUM_STEPS = 32  # of an epoch: 1,500 rows in batches of 48, the last of 12
STOPS = (1, 17, 32, 32.5, 33)  # the first step of an epoch, one in the middle, the last before validation and after, the first
AUGMENT = [{"apply": "crop", "padding": 1}, {"apply": "noise", "scale": 2.0}]
SCHEDULE = {"name": "adam", "schedule": {"warmup_steps": 20, "decay": {"kind": "cosine"}}}


def request_of(make_request, **settings) -> TrainRequest:
    """Two epochs with a checkpoint after each step, a learning rate that is another one at each, and rows changed at random."""
    settings = {"optimizer": SCHEDULE, "augment": AUGMENT, "checkpoints": {"every_steps": 1, "keep": 100}, **settings}
    return make_request(epochs=2, num_workers=2, **settings)


def global_batches(lineages: list[Lineage]) -> dict[tuple[int, int], list[str]]:
    """(epoch, step in it) -> the rows of the global batch, in the order of the ranks."""
    batches: dict[tuple[int, int], list[str]] = {}
    for lineage in lineages:
        for epoch, step, row_ids in lineage.row_ids:
            batches.setdefault((epoch, step), []).extend(row_ids)
    return batches


def planned_batches(request: TrainRequest) -> dict[tuple[int, int], list[str]]:
    """What the plan says; row n of the table has the id n."""
    spec = request.plan(request.train)
    plans = [EpochPlan(spec, epoch) for epoch in range(request.training.epochs)]
    return {
        (epoch, step): [f"{row:032x}" for row in plan.global_batch(step)]
        for epoch, plan in enumerate(plans)
        for step in range(spec.num_steps)
    }


def check(request: TrainRequest, found: list[tuple[Lineage, dict[float, tuple[Lineage, Lineage]]]]) -> None:
    """Every rank's whole run and those that stopped and went on."""
    planned = planned_batches(request)
    (whole_hash,) = {whole.weight_hash for whole, _ in found}
    assert global_batches([whole for whole, _ in found]) == planned
    (rates,) = {whole.learning_rates for whole, _ in found}
    assert [step for step, _ in rates] == list(range(1, 2 * NUM_STEPS + 1))
    assert len({rate for _, rate in rates}) > NUM_STEPS
    for stop in found[0][1]:
        stopped = global_batches([parts[stop][0] for _, parts in found])
        rest = [parts[stop][1] for _, parts in found]
        assert {lineage.weight_hash for lineage in rest} == {whole_hash}, stop
        done = int(stop)
        assert {lineage.first_step for lineage in rest} == {done + 1}
        assert {parts[stop][0].learning_rates for _, parts in found} == {rates[:done]}
        assert {lineage.learning_rates for lineage in rest} == {rates[done:]}
        assert [lineage.rows for lineage in rest] == [found[0][0].rows] * len(rest)
        # the stopped run has read one step more than it has kept, unless it stopped at an epoch's end
        kept = dict(list(stopped.items())[:done])
        assert kept | global_batches(rest) == planned
        assert not kept.keys() & global_batches(rest).keys()


def test_one_rank(make_request):
    """The first, a middle and the last step; three runs of two epochs."""
    request = request_of(make_request)
    ranks = Ranks(rank=0, world_size=1)
    whole, parts = run_once(request, ranks), {}
    for stop in STOPS:
        own = request_of(make_request, directory=f"stop-{stop}")
        parts[stop] = (run_once(own, ranks, stop), run_once(own, ranks))
    check(request, [(whole, parts)])


@pytest.mark.parametrize(
    ("world_size", "stops"),
    [(2, (17,)), *(pytest.param(world_size, STOPS, marks=pytest.mark.full) for world_size in (1, 2, 3))],
)
def test_several_ranks_and_then_others(make_request, world_size, stops):
    """Real processes: a whole run, those that stop and go on, and from each stop one on other numbers of ranks.

    Takes minutes for all stops: 15 runs on other numbers of ranks."""
    request = request_of(make_request)
    found = run_ranks(world_size, as_rank, request.to_json(), stops)
    check(request, found)
    alone = run_once(request_of(make_request, directory="alone"), Ranks(rank=0, world_size=1))
    for mine, theirs in zip(alone.rows, found[0][0].rows, strict=True):
        assert mine == theirs | {"value": pytest.approx(theirs["value"], rel=1e-5)}
    for others, stop in product({1, 2, 3} - {world_size}, stops):
        again = request_of(make_request, directory=f"on-{others}-{stop}")
        copy_until(*(Path(checkpoint_of(each, 0)).parent for each in (request, again)), stop=stop)
        if others == 1:
            lineages = [run_once(again, Ranks(rank=0, world_size=1))]
        else:
            lineages = run_ranks(others, goes_on_as_rank, again.to_json())
        done = int(stop)
        planned = planned_batches(request)
        assert global_batches(lineages) == {place: rows for place, rows in planned.items() if place >= divmod(done, NUM_STEPS)}
        assert {lineage.learning_rates for lineage in lineages} == {found[0][0].learning_rates[done:]}
        for step in range(done + 1, done + 21):
            mine, other = (weights_after(each, step) for each in (again, request))
            for one, two in zip(mine, other, strict=True):
                np.testing.assert_allclose(one, two, rtol=0, atol=1e-5, err_msg=f"after step {step}")


@pytest.mark.full
def test_goes_on_bit_for_bit_on_two_ranks_with_every_option(make_request):
    """Batch norm, dropout, micro-batches and a loss scale: two ranks stop within an epoch; each checkpoint after it is the same.

    Takes two Horovod runs of 64 checkpoints each."""
    settings = {"batch_size": 48, "micro_batches": 2, "precision": "mixed_float16", "compression": "fp16"}
    model = CnnConfig(filters=(4,), hidden=(16,), batch_norm=True, dropout=0.3)
    request = replace(request_of(make_request, **settings), model=model)
    check(request, run_ranks(2, as_rank, request.to_json(), (17,)))
    again = replace(request, checkpoints=f"{request.checkpoints}-2-17")
    for step in range(1, 2 * NUM_STEPS + 1):
        one, two = (read_checkpoint(checkpoint_of(each, *divmod(step, NUM_STEPS))) for each in (request, again))
        assert one.progress.num_rows_seen == two.progress.num_rows_seen
        for mine, other in zip(one.weights + one.optimizer, two.weights + two.optimizer, strict=True):
            np.testing.assert_array_equal(mine, other, err_msg=f"after step {step}")


def copy_until(source: Path, target: Path, *, stop: float) -> None:
    """The checkpoints of a run that was stopped there: those of steps, and from 32.5 on that of the first epoch's end."""
    target.mkdir(parents=True)
    for file in source.iterdir():
        epoch, _, step = file.stem.removeprefix("epoch-").partition("-step-")
        if (int(epoch) * NUM_STEPS + int(step) if step else int(epoch) * NUM_STEPS + 0.5) <= stop:
            shutil.copy(file, target)


def weights_after(request: TrainRequest, step: int) -> tuple[np.ndarray, ...]:
    return read_checkpoint(checkpoint_of(request, *divmod(step, NUM_STEPS))).weights
