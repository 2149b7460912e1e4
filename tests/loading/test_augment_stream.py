"""Augmented batches as scripts get them: the same rows and the same changes on any number of ranks and threads."""

from __future__ import annotations

from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millrace.errors import ConfigError
from millrace.loading import ColumnSpec, Options, dataset
from millrace.loading.buffers import ALIGNMENT

IMAGE = ColumnSpec(name="image", dtype="uint8", shape=(4, 4, 1))
TOKENS = ColumnSpec(name="tokens", dtype="int32", length_buckets=(3, 8))
ROWS = 203
AUGMENT = [
    {"apply": "crop", "padding": 2, "column": "image"},
    {"apply": "flip", "column": "image"},
    {"apply": "cutout", "size": 2, "column": "image"},
    {"apply": "noise", "scale": 9, "column": "image"},
    {"apply": "token_dropout", "rate": 0.4, "replacement_id": 1, "column": "tokens"},
    {"apply": "noise", "scale": 0.5, "column": "number"},
]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Row n: an image of n + 30, n % 8 tokens of n + 2, the number n."""
    numbers = np.arange(ROWS)
    table = pa.table(
        {
            "image": pa.array([bytes([number % 200 + 30]) * 16 for number in numbers], pa.binary()),
            "tokens": pa.array([np.full(number % 8, number + 2, "<i4").tobytes() for number in numbers], pa.binary()),
            "number": numbers.astype(np.float64),
            "label": numbers,
        }
    )
    place = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(table, place, row_group_size=30)
    return str(place)


def opened(uri, augment=AUGMENT, **keys):
    keys = {"batch_size": 24, "epochs": 2, "seed": 4, **keys}
    return dataset(uri, columns=[IMAGE, TOKENS, "number"], label="label", augment=augment, **keys)


def by_row(*streams) -> dict[tuple[int, int], list[bytes]]:
    """(epoch, row) -> what it came as, tokens without padding."""
    found = {}
    for data in streams:
        for epoch in range(data.epochs):
            for batch in data.batches(epoch):
                for place, row in enumerate(batch.columns["label"][: batch.num_rows].tolist()):
                    tokens = batch.columns["tokens"][place, : batch.lengths["tokens"][place]]
                    assert not batch.columns["tokens"][place, tokens.size :].any()
                    values = (batch.columns["image"][place], tokens, batch.columns["number"][place])
                    assert (epoch, row) not in found
                    found[epoch, row] = [value.tobytes() for value in values]
    return found


@pytest.mark.parametrize(
    ("world_size", "options"),
    [
        (3, {"num_readers": 4, "row_groups_ahead": 1}),
        *(
            pytest.param(size, {"num_readers": readers, "row_groups_ahead": ahead}, marks=pytest.mark.full)
            for size, readers, ahead in product((1, 2, 3, 5, 8), (1, 2, 4), (None, 1))
        ),
        pytest.param(2, {"pool": "processes", "num_readers": 2}, marks=pytest.mark.full),
    ],
)
def test_same_on_any_number_of_ranks_and_readers(rows, world_size, options):
    alone = by_row(opened(rows))
    ranks = [opened(rows, rank=rank, world_size=world_size, options=Options(**options)) for rank in range(world_size)]
    assert by_row(*ranks) == alone
    assert len(alone) == 2 * ROWS


def test_rows_differ_by_epoch_and_seed_and_labels_stay(rows):
    plain, one, other = (by_row(opened(rows, **keys)) for keys in ({"augment": ()}, {}, {"seed": 5}))
    for column in range(3):
        for found in (one, other):
            moved = [row for row in range(ROWS) if found[0, row][column] != plain[0, row][column]]
            assert len(moved) > ROWS / 3
            assert sum(found[0, row][column] != found[1, row][column] for row in moved) > 0.7 * len(moved)
        assert sum(one[0, row][column] != other[0, row][column] for row in range(ROWS)) > ROWS / 3
    assert plain.keys() == one.keys()  # which has the labels


@pytest.mark.parametrize("first_step", [1, 5, 8])
def test_goes_on_in_the_middle_with_the_same_changes(rows, first_step):
    data = opened(rows)
    whole = list(data.batches(1))
    for one, two in zip(data.batches(1, first_step=first_step), whole[first_step:], strict=True):
        assert one.step == two.step
        for name, values in one.columns.items():
            np.testing.assert_array_equal(values, two.columns[name])


def test_batches_stay_aligned_bytes(rows):
    for batch in opened(rows):
        assert batch.columns["image"].dtype == np.uint8
        assert all(values.__array_interface__["data"][0] % ALIGNMENT == 0 for values in batch.columns.values())


def test_keras_gets_the_same_batches(rows):
    data = opened(rows, epochs=1)
    for (features, label), batch in zip(data.tf_data(), data, strict=True):
        np.testing.assert_array_equal(label.numpy(), batch.columns["label"])
        for name in ("image", "tokens", "number"):
            np.testing.assert_array_equal(features[name].numpy(), batch.columns[name])


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (
            [{"apply": "noise", "scale": 1, "column": "label"}],
            "expected augment.0.column to name a feature that noise can change; found 'label'. Known: image, number, tokens.",
        ),
        ([{"apply": "noise"}], "expected 'augment.0.scale' in dataset; found nothing. Add it."),
        (
            [{"apply": "blur"}],
            "expected augment.0.apply in dataset to be 'noise', 'flip', 'crop', 'brightness', 'cutout' or 'token_dropout'; "
            "found 'blur'. Known: brightness, crop, cutout, flip, noise, token_dropout.",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(rows, augment, message):
    with pytest.raises(ConfigError) as caught:
        opened(rows, augment=augment)
    assert str(caught.value) == f"config: {message}"
