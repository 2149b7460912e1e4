"""Augmentation: the same changes whatever the ranks and batches are, others in each epoch, and each does what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from millrace.config.augmentation import AugmentationConfig
from millrace.errors import PlanError
from millrace.loading.augment import Draws, augment, positions_of
from millrace.loading.epoch import EpochPlan
from millrace.loading.plan import PlanSpec, shards_of_rank

IMAGES = np.arange(12 * 6 * 5 * 3, dtype=np.int64).reshape(12, 6, 5, 3)
ALL_ON_IMAGES = [
    {"apply": "flip", "horizontal": 0.5, "vertical": 0.5},
    {"apply": "crop", "padding": 2},
    {"apply": "cutout", "size": 3},
    {"apply": "brightness", "max_delta": 20},
    {"apply": "noise", "scale": 9},
    {"apply": "noise", "distribution": "uniform", "scale": 9},
]
POSITIONS = np.arange(12, dtype=np.int64)


def configs(*values: dict[str, Any]) -> list[AugmentationConfig]:
    return TypeAdapter(list[AugmentationConfig]).validate_python(list(values))


def spec(rows: list[int], *, shards: int, per_step: int) -> PlanSpec:
    return PlanSpec(
        seed=3,
        global_batch=shards * per_step,
        virtual_shards=shards,
        window_rows=2 * per_step,
        row_group_rows=np.array(rows, dtype=np.int64),
    )


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(1, 6), st.integers(1, 4))
@settings(deadline=None)
def test_positions_name_every_row_once_on_any_number_of_ranks(rows: list[int], shards: int, per_step: int) -> None:
    plan = spec(rows, shards=shards, per_step=per_step)
    epoch = EpochPlan(plan, 0)
    seen: list[int] = []
    for step in range(plan.num_steps):
        whole = positions_of(plan, range(shards), step)
        assert whole.size == epoch.global_batch(step).size
        for world_size in range(1, shards + 1):
            ranks = [positions_of(plan, shards_of_rank(shards, world_size, rank), step) for rank in range(world_size)]
            assert np.array_equal(np.concatenate(ranks), whole)
        seen += whole.tolist()
    assert len(set(seen)) == len(seen) == plan.num_rows


@given(st.integers(0, 12), st.integers(0, 2**31), st.integers(0, 50))
@settings(deadline=None)
def test_a_rows_change_does_not_depend_on_its_neighbours(cut: int, seed: int, epoch: int) -> None:
    """Cut anywhere, in any order, and with padding behind them."""
    for values in ((IMAGES % 256).astype(np.uint8), IMAGES.astype(np.float32)):
        whole = augment(values, configs(*ALL_ON_IMAGES), seed=seed, epoch=epoch, positions=POSITIONS)
        assert whole.dtype == values.dtype
        for chosen in (slice(0, cut), slice(cut, 12), slice(None, None, -1)):
            part = augment(values[chosen], configs(*ALL_ON_IMAGES), seed=seed, epoch=epoch, positions=POSITIONS[chosen])
            assert np.array_equal(part, whole[chosen])
        padded = augment(values, configs(*ALL_ON_IMAGES), seed=seed, epoch=epoch, positions=POSITIONS[:cut])
        assert np.array_equal(padded, np.concatenate([whole[:cut], values[cut:]]))


def test_seeds_epochs_rows_and_places_in_the_list_differ() -> None:
    noise = configs({"apply": "noise", "scale": 1.0})
    zeros = np.zeros((2, 50), dtype=np.float32)

    def one(seed: int = 0, epoch: int = 0, position: int = 0) -> bytes:
        return augment(zeros[:1], noise, seed=seed, epoch=epoch, positions=np.array([position])).tobytes()

    assert len({one(), one(seed=1), one(epoch=1), one(position=1)}) == 4
    twice = augment(zeros, noise * 2, seed=0, epoch=0, positions=POSITIONS[:2])
    assert not np.array_equal(twice, 2 * augment(zeros, noise, seed=0, epoch=0, positions=POSITIONS[:2]))
    assert not zeros.any()  # what came in stays


def test_draws_do_not_change_from_version_to_version() -> None:
    """Runs that go on from a checkpoint under a later version must see the same rows."""
    assert Draws(1, np.array([0, 5])).words(2).tolist() == GOLDEN_WORDS
    found = augment(
        np.zeros((1, 3), np.float32), configs({"apply": "noise", "scale": 1.0}), seed=0, epoch=0, positions=POSITIONS[:1]
    )
    assert found[0].tolist() == pytest.approx(GOLDEN_NOISE, abs=1e-7)


def test_noise_has_the_stated_moments() -> None:
    zeros = np.zeros((200, 1_000), dtype=np.float32)
    positions = np.arange(200)
    gaussian = augment(zeros, configs({"apply": "noise", "scale": 2.0}), seed=5, epoch=0, positions=positions)
    assert abs(float(gaussian.mean())) < 4 * 2 / 200_000**0.5
    assert float(gaussian.std()) == pytest.approx(2.0, rel=0.01)
    assert float((np.abs(gaussian) < 2.0).mean()) == pytest.approx(0.6827, abs=0.005)
    uniform = augment(
        zeros, configs({"apply": "noise", "distribution": "uniform", "scale": 3.0}), seed=5, epoch=0, positions=positions
    )
    assert float(np.abs(uniform).max()) <= 3.0
    assert float(uniform.std()) == pytest.approx(3.0 / 3**0.5, rel=0.01)
    correlation = np.corrcoef(gaussian[:, 0], gaussian[:, 1])[0, 1]
    assert abs(correlation) < 0.3


def test_bytes_are_rounded_and_stay_in_their_range() -> None:
    values = np.array([[0, 255, 100]] * 50, dtype=np.uint8)
    found = augment(values, configs({"apply": "brightness", "max_delta": 50}), seed=1, epoch=0, positions=np.arange(50))
    delta = found[:, 2].astype(int) - 100
    assert np.array_equal(found[:, 0], np.clip(delta, 0, 255))
    assert np.array_equal(found[:, 1], np.clip(255 + delta, 0, 255))
    assert delta.min() < -25 < 25 < delta.max()


def test_flips_crops_and_cutout_move_whole_pixels() -> None:
    many = np.repeat(IMAGES[:1] + 1, 200, axis=0)
    positions = np.arange(200)
    flipped = augment(many, configs({"apply": "flip", "horizontal": 1.0, "vertical": 1.0}), seed=1, epoch=0, positions=positions)
    assert np.array_equal(flipped, many[:, ::-1, ::-1])
    half = augment(many, configs({"apply": "flip"}), seed=1, epoch=0, positions=positions)
    mirrored = (half == many[:, :, ::-1]).all(axis=(1, 2, 3))
    assert ((half == many).all(axis=(1, 2, 3)) | mirrored).all()
    assert 60 < mirrored.sum() < 140
    cropped = augment(many, configs({"apply": "crop", "padding": 1}), seed=1, epoch=0, positions=positions)
    padded = np.pad(many[0], ((1, 1), (1, 1), (0, 0)))
    places = {padded[top : top + 6, left : left + 5].tobytes() for top in range(3) for left in range(3)}
    assert {image.tobytes() for image in cropped} == places
    cut = augment(many, configs({"apply": "cutout", "size": 2}), seed=1, epoch=0, positions=positions)
    holes = (cut == 0).all(axis=3).sum(axis=(1, 2))
    assert set(holes.tolist()) == {1, 2, 4}
    assert np.array_equal(cut[cut != 0], many[cut != 0])


def test_tokens_are_replaced_and_padding_stays() -> None:
    ids = np.tile(np.array([0, 0, 5, 6, 7, 8], dtype=np.int32), (500, 1))
    dropout = configs({"apply": "token_dropout", "rate": 0.25, "replacement_id": 1})
    found = augment(ids, dropout, seed=2, epoch=0, positions=np.arange(500))
    assert found.dtype == np.int32
    assert not found[:, :2].any()
    assert ((found == ids) | (found == 1)).all()
    assert float((found[:, 2:] == 1).mean()) == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize(
    ("values", "shape", "dtype", "message"),
    [
        (
            {"apply": "flip"},
            (2, 3),
            "uint8",
            "expected a batch of images (rows, height, width, channel) for flip; found shape (3,) of uint8.",
        ),
        (
            {"apply": "noise", "scale": 1.0},
            (2, 3),
            "int32",
            "expected numbers of type uint8 or float for noise; found shape (3,) of int32.",
        ),
        (
            {"apply": "token_dropout", "rate": 0.5, "replacement_id": 1},
            (2, 3),
            "float32",
            "expected a batch of sequences of integers for token_dropout; found shape (3,) of float32.",
        ),
    ],
)
def test_columns_that_do_not_fit_are_refused(values: dict[str, Any], shape: tuple[int, ...], dtype: str, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        augment(np.zeros(shape, dtype), configs(values), seed=0, epoch=0, positions=POSITIONS[:2])
    assert str(caught.value) == f"augment: {message} Name another column, or take it out of the pipeline's augmentations."


GOLDEN_WORDS = [[5948053812914333585, 10371359604880545516], [10925767329921053250, 2839402526878541501]]
GOLDEN_NOISE = [-0.31636664271354675, 0.8308079242706299, -0.17994850873947144]
