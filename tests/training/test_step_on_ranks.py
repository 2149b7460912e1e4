"""Steps that real Horovod processes take together: equal to what one rank does alone, and the same on all."""

from __future__ import annotations

import numpy as np
import pytest

from millrace.training.ranks import Ranks
from tests.training.rank_cases import ALIKE, CASES, EQUAL, WAYS, Case, as_rank, numbers_of, run_ranks, take_steps

THIN = ["mlp, all at once", "cnn", "number, mse", "batch norm and dropout"]


def alone(case: Case):
    return take_steps(case, Ranks(rank=0, world_size=1))


def check(names, found_by_rank):
    expected = [sum(numbers) for numbers in zip(*map(numbers_of, range(len(found_by_rank))), strict=True)]
    for found in found_by_rank:
        for mine, other in zip(found.added, expected, strict=True):
            np.testing.assert_array_equal(mine, other)
    for name in names:
        reference = alone(CASES[name])
        for way in WAYS:
            taken = [found.taken[way, name] for found in found_by_rank]
            assert len({each.hash for each in taken}) == 1, (way, name)
            assert len({each.sums for each in taken}) == 1, (way, name)
            assert [sums[1] for sums in taken[0].sums] == list(CASES[name].batches), (way, name)
            if name in EQUAL:
                check_equal(taken[0], reference, f"{name} by {way}")


def check_equal(taken, reference, name):
    for number, (ours, theirs) in enumerate(zip(taken.weights, reference.weights, strict=True)):
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, other, rtol=0, atol=1e-6, err_msg=f"{name} after step {number}")
    np.testing.assert_allclose(taken.sums, reference.sums, rtol=1e-5)


def test_two_ranks():
    found = run_ranks(2, as_rank, THIN)
    check(THIN, found)
    dropped = [each.taken["HostSum", "batch norm and dropout"].seeds for each in found]
    assert dropped[0]
    assert not any((mine == other).all() for mine, other in zip(*dropped, strict=True))


@pytest.mark.full
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_every_case_on_more_ranks(world_size):
    check(CASES, run_ranks(world_size, as_rank, list(CASES)))


@pytest.mark.full
def test_three_ranks_give_the_same_bits_again():
    """Two ranks hide in what order sums are taken."""
    names = list(ALIKE)
    first, again = (run_ranks(3, as_rank, names) for _ in range(2))
    keys = [(way, name) for way in WAYS for name in names]
    assert [first[0].taken[key].hash for key in keys] == [again[0].taken[key].hash for key in keys]
