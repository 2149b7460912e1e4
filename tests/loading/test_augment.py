"""Augmentation: the same changes whatever the ranks and batches are, others in each epoch, and each does what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from millrace.config.augmentation import AugmentationConfig
from millrace.errors import ConfigError
from millrace.loading.augment import augment, changes_of
from millrace.loading.columns import ColumnSpec
from millrace.loading.draws import Draws, positions_of
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


def changed(values: np.ndarray, *augmentations: dict[str, Any], seed: int, epoch: int, positions: np.ndarray) -> np.ndarray:
    """A column's rows after the augmentations; `values` stay."""
    spec = ColumnSpec(name="x", dtype=str(values.dtype), shape=values.shape[1:])
    columns = {"x": values.copy()}
    changes = changes_of(configs(*augmentations), [spec], where="augment")
    augment(columns, changes, seed=seed, epoch=epoch, positions=positions)
    return columns["x"]


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
        whole = changed(values, *ALL_ON_IMAGES, seed=seed, epoch=epoch, positions=POSITIONS)
        assert whole.dtype == values.dtype
        for chosen in (slice(0, cut), slice(cut, 12), slice(None, None, -1)):
            part = changed(values[chosen], *ALL_ON_IMAGES, seed=seed, epoch=epoch, positions=POSITIONS[chosen])
            assert np.array_equal(part, whole[chosen])
        padded = changed(values, *ALL_ON_IMAGES, seed=seed, epoch=epoch, positions=POSITIONS[:cut])
        assert np.array_equal(padded, np.concatenate([whole[:cut], values[cut:]]))


def test_seeds_epochs_rows_and_places_in_the_list_differ() -> None:
    noise = {"apply": "noise", "scale": 1.0}
    zeros = np.zeros((2, 50), dtype=np.float32)

    def one(seed: int = 0, epoch: int = 0, position: int = 0) -> bytes:
        return changed(zeros[:1], noise, seed=seed, epoch=epoch, positions=np.array([position])).tobytes()

    assert len({one(), one(seed=1), one(epoch=1), one(position=1)}) == 4
    twice = changed(zeros, noise, noise, seed=0, epoch=0, positions=POSITIONS[:2])
    assert not np.array_equal(twice, 2 * changed(zeros, noise, seed=0, epoch=0, positions=POSITIONS[:2]))
    assert not zeros.any()  # what came in stays


def test_draws_do_not_change_from_version_to_version() -> None:
    """Runs that go on from a checkpoint under a later version must see the same rows."""
    assert Draws(1, np.array([0, 5])).words(2).tolist() == GOLDEN_WORDS
    found = changed(np.zeros((1, 3), np.float32), {"apply": "noise", "scale": 1.0}, seed=0, epoch=0, positions=POSITIONS[:1])
    assert found[0].tolist() == pytest.approx(GOLDEN_NOISE, abs=1e-7)


def test_noise_has_the_stated_moments() -> None:
    zeros = np.zeros((200, 1_000), dtype=np.float32)
    positions = np.arange(200)
    gaussian = changed(zeros, {"apply": "noise", "scale": 2.0}, seed=5, epoch=0, positions=positions)
    assert abs(float(gaussian.mean())) < 4 * 2 / 200_000**0.5
    assert float(gaussian.std()) == pytest.approx(2.0, rel=0.01)
    assert float((np.abs(gaussian) < 2.0).mean()) == pytest.approx(0.6827, abs=0.005)
    uniform = changed(zeros, {"apply": "noise", "distribution": "uniform", "scale": 3.0}, seed=5, epoch=0, positions=positions)
    assert float(np.abs(uniform).max()) <= 3.0
    assert float(uniform.std()) == pytest.approx(3.0 / 3**0.5, rel=0.01)
    correlation = np.corrcoef(gaussian[:, 0], gaussian[:, 1])[0, 1]
    assert abs(correlation) < 0.3


def test_bytes_are_rounded_and_stay_in_their_range() -> None:
    values = np.array([[0, 255, 100]] * 50, dtype=np.uint8)
    found = changed(values, {"apply": "brightness", "max_delta": 50}, seed=1, epoch=0, positions=np.arange(50))
    delta = found[:, 2].astype(int) - 100
    assert np.array_equal(found[:, 0], np.clip(delta, 0, 255))
    assert np.array_equal(found[:, 1], np.clip(255 + delta, 0, 255))
    assert delta.min() < -25 < 25 < delta.max()


def test_flips_crops_and_cutout_move_whole_pixels() -> None:
    many = np.repeat(IMAGES[:1] + 1, 200, axis=0)
    positions = np.arange(200)
    flipped = changed(many, {"apply": "flip", "horizontal": 1.0, "vertical": 1.0}, seed=1, epoch=0, positions=positions)
    assert np.array_equal(flipped, many[:, ::-1, ::-1])
    half = changed(many, {"apply": "flip"}, seed=1, epoch=0, positions=positions)
    mirrored = (half == many[:, :, ::-1]).all(axis=(1, 2, 3))
    assert ((half == many).all(axis=(1, 2, 3)) | mirrored).all()
    assert 60 < mirrored.sum() < 140
    cropped = changed(many, {"apply": "crop", "padding": 1}, seed=1, epoch=0, positions=positions)
    padded = np.pad(many[0], ((1, 1), (1, 1), (0, 0)))
    places = {padded[top : top + 6, left : left + 5].tobytes() for top in range(3) for left in range(3)}
    assert {image.tobytes() for image in cropped} == places
    cut = changed(many, {"apply": "cutout", "size": 2}, seed=1, epoch=0, positions=positions)
    holes = (cut == 0).all(axis=3).sum(axis=(1, 2))
    assert set(holes.tolist()) == {1, 2, 4}
    assert np.array_equal(cut[cut != 0], many[cut != 0])


def test_tokens_are_replaced_and_padding_stays() -> None:
    ids = np.tile(np.array([0, 0, 5, 6, 7, 8], dtype=np.int32), (500, 1))
    dropout = {"apply": "token_dropout", "rate": 0.25, "replacement_id": 1}
    found = changed(ids, dropout, seed=2, epoch=0, positions=np.arange(500))
    assert found.dtype == np.int32
    assert not found[:, :2].any()
    assert ((found == ids) | (found == 1)).all()
    assert float((found[:, 2:] == 1).mean()) == pytest.approx(0.25, abs=0.04)


def test_noise_falls_on_the_named_numbers_of_a_vector() -> None:
    vector = ColumnSpec(name="features", dtype="float32", shape=(5,))
    places = {"age": (0,), "fare": (3, 1)}

    def moved(**keys: Any) -> list[int]:
        changes = changes_of(configs({"apply": "noise", "scale": 1.0, **keys}), [vector], where="augment", places=places)
        columns = {"features": np.zeros((8, 5), np.float32)}
        augment(columns, changes, seed=1, epoch=0, positions=POSITIONS[:8])
        assert ((columns["features"] != 0).all(axis=0) | (columns["features"] == 0).all(axis=0)).all()
        return np.flatnonzero(columns["features"].any(axis=0)).tolist()

    assert (moved(), moved(column="age"), moved(column="fare")) == ([0, 1, 3], [0], [1, 3])


def test_padding_of_sequences_stays() -> None:
    for dtype, one in (("int32", {"apply": "token_dropout", "rate": 1.0, "replacement_id": 9, "pad_id": 5}), ("float32", NOISE)):
        spec = ColumnSpec(name="x", dtype=dtype, length_buckets=(4,))
        columns = {"x": np.full((3, 4), 2, spec.numpy_dtype)}
        lengths = {"x": np.array([4, 1, 0])}
        augment(
            columns, changes_of(configs(one), [spec], where="augment"), seed=1, epoch=0, positions=POSITIONS[:3], lengths=lengths
        )
        assert (columns["x"] != 2).sum(axis=1).tolist() == [4, 1, 0]


IMAGE = ColumnSpec(name="image", dtype="uint8", shape=(8, 6, 3))
VECTOR = ColumnSpec(name="vector", dtype="float32", shape=(5,))
TOKENS = ColumnSpec(name="tokens", dtype="int32", length_buckets=(4, 8))
LABEL = ColumnSpec(name="label", dtype="int64")
NOISE = {"apply": "noise", "scale": 1.0}


@pytest.mark.parametrize(
    ("augmentation", "features", "message"),
    [
        (
            {"apply": "flip"},
            [VECTOR],
            "augment.0 to change an image of shape [height, width, channel], as flip does; found vector, which is a vector of "
            "float32. vector takes noise: use that, or leave it out.",
        ),
        (
            {"apply": "token_dropout", "rate": 0.5, "replacement_id": 1},
            [IMAGE],
            "augment.0 to change a sequence of token ids, as token_dropout does; found image, which is uint8 of shape [8, 6, 3]. "
            "image takes noise or flip or crop or cutout or brightness: use that, or leave it out.",
        ),
        (
            {"apply": "brightness", "max_delta": 3, "column": "tokens"},
            [IMAGE, TOKENS],
            "augment.0 to change an image, as brightness does; found tokens, which is a sequence of int32. "
            "tokens takes token_dropout: use that, or leave it out.",
        ),
        (
            NOISE,
            [LABEL],
            "augment.0 to change numbers of type uint8 or float, as noise does; found label, which is one int64 a row. "
            "label takes nothing of the kind: name another column, or leave it out.",
        ),
        (
            NOISE,
            [IMAGE, VECTOR],
            "augment.0.column to name a feature that noise can change; found no column. Known: image, vector.",
        ),
        (
            {**NOISE, "column": "imagf"},
            [IMAGE, VECTOR],
            "augment.0.column to name a feature that noise can change; found 'imagf'. Did you mean 'image'?",
        ),
        (
            {"apply": "noise", "scale": 0.05},
            [IMAGE],
            "augment.0.scale of 0.5 or more, since image holds whole numbers from 0 to 255; found 0.05, which is rounded away. "
            "Give it in the units of the stored column, before any divisor.",
        ),
        (
            {"apply": "crop", "padding": 6},
            [IMAGE],
            "augment.0.padding below the smaller side of image, 6 pixels; found 6, which may leave nothing of an image. "
            "An eighth to a quarter of the side is usual.",
        ),
        (
            {"apply": "token_dropout", "rate": 0.5, "replacement_id": 40_000},
            [ColumnSpec(name="ids", dtype="int16", shape=(4,))],
            "augment.0 with ids up to 32767, since ids holds int16; found 40000. Take ids of the column's own vocabulary.",
        ),
    ],
)
def test_columns_that_do_not_fit_are_refused(augmentation: dict[str, Any], features: list[ColumnSpec], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        changes_of(configs(augmentation), features, where="augment")
    assert str(caught.value) == f"config: expected {message}"


GOLDEN_WORDS = [[5948053812914333585, 10371359604880545516], [10925767329921053250, 2839402526878541501]]
GOLDEN_NOISE = [-0.31636664271354675, 0.8308079242706299, -0.17994850873947144]
