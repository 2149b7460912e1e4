"""dataset() for scripts and notebooks: the stream of the training loop, as NumPy and as tf.data, without Spark."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from millrace.errors import ConfigError, ContractError, LakeError, PlanError
from millrace.loading import ColumnSpec, Options, dataset
from millrace.loading.epoch import EpochPlan
from millrace.loading.index import build_index

TOKENS = ColumnSpec(name="tokens", dtype="int32", length_buckets=(4, 8))


def numbers(data, epoch: int = 0) -> list[int]:
    return [number for batch in data.batches(epoch) for number in batch.columns["number"].tolist()]


def test_stream_is_the_plan_s(numbered_files):
    data = dataset(numbered_files([100], [7, 50]), columns=["number"], batch_size=8, seed=5, epochs=2)
    assert (data.num_rows, data.steps_per_epoch, data.version) == (157, 20, None)
    batches = [batch.columns["number"].tolist() for batch in data]
    plans = [EpochPlan(data.plan, epoch) for epoch in (0, 1)]
    assert batches == [plan.global_batch(step).tolist() for plan in plans for step in range(20)]
    assert batches[:20] != batches[20:]
    assert [batch.columns["number"].tolist() for batch in data] == batches
    assert [batch.columns["number"].tolist() for batch in data.batches(1, first_step=7)] == batches[27:]


def test_ranks_share_the_batches(numbered_files):
    uri = numbered_files([100], [57])
    whole = dataset(uri, columns=["number"], batch_size=8)
    for world_size in (2, 3, 8):
        ranks = [dataset(uri, columns=["number"], batch_size=8, rank=rank, world_size=world_size) for rank in range(world_size)]
        for batch, parts in zip(whole, zip(*ranks, strict=True), strict=True):
            found = [number for part in parts for number in part.columns["number"][: part.num_rows].tolist()]
            assert found == batch.columns["number"].tolist()


def test_columns_are_what_the_file_says(tmp_path):
    table = pa.table(
        {
            "whole": pa.array([1, 2], pa.int16()),
            "flag": [True, False],
            "pair": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
            "name": ["a", "b"],
            "y": pa.array([0, 1], pa.int64()),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    data = dataset(str(tmp_path), label="y")
    assert [(spec.name, spec.dtype, spec.shape) for spec in data.columns] == [
        ("whole", "int16", ()),
        ("flag", "bool", ()),
        ("y", "int64", ()),
    ]
    (batch,) = dataset(str(tmp_path), columns=["pair", "name", "flag"])
    assert batch.columns["pair"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert (batch.columns["name"].tolist(), batch.columns["flag"].tolist()) == (["a", "b"], [True, False])


def test_newest_version_is_pinned_and_said(digits_table, make_rows, caplog):
    uri = digits_table(10, 20)
    with caplog.at_level(logging.INFO, logger="millrace"):
        data = dataset(uri, columns=["digit"], batch_size=8)
    assert data.version == 1
    assert f"reading 30 rows of {uri}, version 1: 4 steps an epoch" in caplog.messages
    write_deltalake(uri, make_rows(30, 5), mode="append", partition_by=["split"])
    assert sum(batch.num_rows for batch in data) == 30
    assert dataset(uri, columns=["digit"]).num_rows == 35
    assert dataset(uri, columns=["digit"], version=0).num_rows == 10
    assert dataset(uri, columns=["digit"], partitions={"split": "train"}).num_rows == 35


def test_ranks_that_share_a_delta_table_must_name_its_version(digits_table):
    """What is newest may change between the calls of two ranks, which would then read by two plans."""
    uri = digits_table(10, 20)
    with pytest.raises(ConfigError) as caught:
        dataset(uri, columns=["digit"], batch_size=8, rank=1, world_size=2)
    assert str(caught.value) == (
        f"load: expected a version of the Delta table {uri}, the same for each of 2 ranks; "
        "found version=None, which is for each rank what is newest when it looks. "
        "Let one rank call dataset without rank and world_size, and give its `version` to all."
    )
    version = dataset(uri, columns=["digit"], batch_size=8).version
    ranks = [dataset(uri, columns=["digit"], batch_size=8, version=version, rank=rank, world_size=2) for rank in range(2)]
    assert ranks[0].plan.fingerprint() == ranks[1].plan.fingerprint()
    assert sum(batch.num_rows for rank in ranks for batch in rank) == 30


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://key:hush-hush@bucket/gold", "s3://key:***@bucket/gold"),
        ("https://store/gold.parquet?sv=1&sig=hush-hush", "https://store/gold.parquet?sv=1&sig=***"),
    ],
)
def test_address_with_a_password_is_refused(uri, shown):
    with pytest.raises(ConfigError) as caught:
        dataset(uri)
    assert str(caught.value) == (
        "load: expected an address without a password or token, because it would be kept in logs; "
        f"found {shown}. "
        "Leave it to the store's own environment or files, such as ~/.aws/credentials, or to fsspec's configuration."
    )


def test_secrets_of_the_environment_are_masked(numbered_files, digits_table, monkeypatch, caplog):
    """In what is printed, logged and raised, wherever in an address they stand."""
    uri = numbered_files([3], name="hush-hush")
    monkeypatch.setenv("STORE_TOKEN", "hush-hush")
    with caplog.at_level(logging.INFO, logger="millrace"):
        data = dataset(uri, columns=["number"])
    texts = [str(data), *caplog.messages]
    Path(uri, "part-000.parquet").write_bytes(b"")
    calls = [
        lambda: list(data),
        lambda: dataset(uri),
        lambda: dataset(uri, version=1),
        lambda: dataset(uri, partitions={"a": "b"}),
        lambda: dataset(f"{uri}/nothing"),
        lambda: dataset(f"unknown://{uri}"),
        lambda: build_index(uri, version=1, partitions={}),
    ]
    for call in calls:
        with pytest.raises(LakeError) as caught:
            call()
        texts.append(str(caught.value))
    assert all("***" in text and "hush-hush" not in text for text in texts), texts


def test_table_with_hidden_rows_is_refused_whatever_its_older_versions_were(digits_table):
    uri = digits_table(10)
    features = ["deletionVectors"]
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}
    (Path(uri) / "_delta_log" / f"{1:020d}.json").write_text(json.dumps({"protocol": protocol}) + "\n")
    with pytest.raises(LakeError, match=r"found .*deletionVectors.* REORG TABLE \.\.\. APPLY \(PURGE\)"):
        dataset(uri, columns=["digit"])


@pytest.mark.parametrize("mode", ["name", "id"])
def test_column_mapping_is_refused(digits_table, mode):
    uri = digits_table(10)
    first = Path(uri) / "_delta_log" / f"{0:020d}.json"
    actions = [json.loads(line) for line in first.read_text().splitlines()]
    for action in actions:
        if "metaData" in action:
            action["metaData"]["configuration"]["delta.columnMapping.mode"] = mode
    first.write_text("\n".join(map(json.dumps, actions)))
    with pytest.raises(LakeError) as caught:
        dataset(uri, columns=["digit"])
    assert "found reader features columnMapping. Drop the feature with ALTER TABLE ... DROP FEATURE" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"columns": ["tokens"]},
            ContractError,
            "expected a ColumnSpec for column tokens; found its name only, and its type binary",
        ),
        (
            {"columns": ["list"]},
            ContractError,
            'for sequences ColumnSpec(name="list", dtype="int32", length_buckets=(64, 128, 256))',
        ),
        (
            {"columns": ["nothing"]},
            ContractError,
            "Known: half, list, number, row_id, tokens. Values that stand in directory names only cannot be read as columns.",
        ),
        ({"columns": ["nunber"]}, ContractError, "part-000.parquet. Did you mean 'number'? Values that stand in directory names"),
        ({"columns": ["half", "half"]}, ContractError, "expected at least one feature, and each column of"),
        ({"columns": [], "label": "half"}, ContractError, "expected at least one feature"),
        ({"rank": 2, "world_size": 2}, ConfigError, "expected rank to be a whole number from 0 to 1; found 2. Ranks count"),
        ({"rank": 1}, ConfigError, "expected rank to be 0; found 1. Ranks count from 0 to world_size - 1."),
        (
            {"world_size": 0},
            ConfigError,
            "expected world_size to be a whole number from 1 up; found 0. Give the number of processes",
        ),
        (
            {"epochs": 0},
            ConfigError,
            "expected epochs to be a whole number from 1 up; found 0. Give the number of times that each row",
        ),
        ({"epochs": 1.5}, ConfigError, "expected epochs to be a whole number from 1 up; found 1.5."),
        ({"version": 3}, LakeError, "which has versions; found plain files. Leave version out, or check the address."),
        ({"world_size": 9}, PlanError, "num_workers or world_size from 1 to 8 (virtual_shards); found 9. Lower it, or raise"),
        (
            {"batch_size": 0},
            ConfigError,
            "load: expected batch_size to be a whole number from 1 up; found 0. "
            "It counts the rows of a step over all ranks; 128 is a usual number.",
        ),
        ({"batch_size": 10, "options": Options(virtual_shards=4)}, PlanError, "found 4 shards and a batch of 10 rows"),
        ({"options": Options(memory_limit_bytes=10)}, PlanError, "at most 10 bytes of decoded rows"),
    ],
)
def test_what_cannot_be_read_is_refused_at_once(numbered_files, arguments, error, message):
    with pytest.raises(error) as caught:
        dataset(numbered_files([10]), **arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_readers": 0}, "config: expected num_readers in Options to be greater than 0; found 0. Mend num_readers."),
        ({"suffle_bytes": 1}, "config: expected known keys in Options; found 'suffle_bytes'. Did you mean 'shuffle_bytes'?"),
        (
            {"pool": "thread"},
            "config: expected pool in Options to be 'threads' or 'processes'; found 'thread'. Did you mean 'threads'?",
        ),
    ],
)
def test_impossible_options_are_refused(settings, message):
    with pytest.raises(ConfigError) as caught:
        Options(**settings)
    assert str(caught.value) == message


EPOCHS = "load: expected first_epoch to be a whole number from 0 to 2; found {}. Epochs count from 0, and there are 2."
STEPS = (
    "load: expected first_step to be a whole number from 0 to 20; found {}. "
    "Steps count from 0 in each epoch, and an epoch has 20."
)


@pytest.mark.parametrize("way", ["stream", "tf_data", "batches"])
def test_start_that_there_is_not_is_refused_and_the_end_gives_nothing(numbered_files, way):
    data = dataset(numbered_files([100], [57]), columns=["number"], batch_size=8, epochs=2)

    def start(epoch: int, step: int):
        if way == "batches":
            return data.batches(epoch, first_step=step)
        return getattr(data, way)(first_epoch=epoch, first_step=step)

    wrong = {(0, 21): STEPS.format(21), (1, -1): STEPS.format(-1), (1, 2.0): STEPS.format(2.0)}
    if way == "batches":
        wrong[-1, 0] = "load: expected epoch to be a whole number from 0 up; found -1. Epochs count from 0."
    else:
        wrong |= {(3, 0): EPOCHS.format(3), (-1, 0): EPOCHS.format(-1)}
        wrong[2, 1] = STEPS.format(1).replace("a whole number from 0 to 20", "0")
        assert len(list(start(0, 20))) == 20
        assert list(start(2, 0)) == []
    for (epoch, step), message in wrong.items():
        with pytest.raises(ConfigError) as caught:
            start(epoch, step)
        assert str(caught.value) == message
    assert list(start(1, 20)) == []
    if way == "tf_data":
        assert [int(start(epoch, step).cardinality()) for epoch, step in [(0, 3), (1, 20), (2, 0)]] == [37, 0, 0]


def test_no_rows_are_refused(numbered_files, tmp_path):
    with pytest.raises(LakeError, match="expected a Delta table, a Parquet file or a directory of Parquet files"):
        dataset(str(tmp_path / "nothing"))
    with pytest.raises(PlanError, match="expected at least one row; found 1 files with 0 rows"):
        dataset(numbered_files([0]))


def test_tf_data_gives_the_same_batches(numbered_files):
    """Strings, sequences and numbers; the stream is whole for each iteration, and may start in the middle."""
    data = dataset(numbered_files([300], [57]), columns=["number", "row_id", TOKENS], label="half", batch_size=8, epochs=2)
    stream = data.tf_data(with_lengths=True)
    assert int(stream.cardinality()) == 2 * data.steps_per_epoch
    assert list(stream.element_spec[0]) == ["number", "row_id", "tokens", "tokens_length"]
    for _ in range(2):
        for (features, label), batch in zip(stream, data, strict=True):
            for name in ("number", "tokens"):
                assert np.array_equal(features[name].numpy(), batch.columns[name])
            assert [text.decode() for text in features["row_id"].numpy()] == batch.columns["row_id"].tolist()
            assert np.array_equal(features["tokens_length"].numpy(), batch.lengths["tokens"])
            assert np.array_equal(label.numpy(), batch.columns["half"])
    rest = [label.numpy().tolist() for _, label in data.tf_data(first_epoch=1, first_step=3)]
    assert rest == [batch.columns["half"].tolist() for batch in data.batches(1, first_step=3)]


def test_tf_data_of_one_column_and_of_several_ranks(numbered_files):
    uri = numbered_files([9])
    plain = dataset(uri, columns=["number"], batch_size=8).tf_data()
    assert sorted(number for part in plain for number in part.numpy().tolist()) == list(range(9))
    ranks = [dataset(uri, columns=["number"], label="half", batch_size=8, rank=rank, world_size=4).tf_data() for rank in range(4)]
    parts = [part for rank in ranks for part in rank]
    assert sum(float(weights.numpy().sum()) for _, _, weights in parts) == 9.0
    assert sorted(row for number, _, weights in parts for row in number.numpy()[weights.numpy() > 0].tolist()) == list(range(9))


def test_tf_data_of_several_ranks_without_a_label_has_weights(numbered_files):
    """3 rows for 4 ranks: what fills up the fourth one's batch is told apart, and Keras does not take the weights for labels."""
    import keras

    uri = numbered_files([3])
    ranks = [dataset(uri, columns=["number"], batch_size=4, rank=rank, world_size=4).tf_data() for rank in range(4)]
    parts = [part for rank in ranks for part in rank]
    assert [label for _, label, _ in parts] == [None] * 4
    rows = [(number.numpy().tolist(), weights.numpy().tolist()) for number, _, weights in parts]
    assert sorted(rows) == [([0], [0.0]), ([0], [1.0]), ([1], [1.0]), ([2], [1.0])]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    assert model.predict(ranks[0], verbose=0).shape == (1, 1)


def test_keras_fits_on_it(numbered_files):
    import keras

    data = dataset(numbered_files([64] * 4), columns=["number"], label="half", batch_size=32, epochs=3)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    history = model.fit(data.tf_data(), epochs=3, steps_per_epoch=data.steps_per_epoch, shuffle=False, verbose=0)
    assert len(history.history["loss"]) == 3


def test_stream_that_is_left_ends_its_readers(numbered_files):
    stream = iter(dataset(numbered_files([2] * 500), columns=["number"], batch_size=8).tf_data())
    next(stream)
    del stream
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("Thread-") and "_ventilate" in thread.name]
    assert names == []


@pytest.mark.parametrize(
    ("environment", "own"), [({}, "mimalloc"), ({"ARROW_DEFAULT_MEMORY_POOL": "system"}, "system")], ids=["nothing", "system"]
)
def test_arrow_s_memory_is_left_to_the_user(numbered_files, environment, own):
    """The pool is the process's: reading changes nothing of it, and what the loader's own processes call heeds the variable."""
    program = (
        "import pyarrow as pa; from millrace.loading import dataset; from millrace.loading.files import reuse_memory\n"
        "name = lambda: pa.default_memory_pool().backend_name; before = name()\n"
        f"list(dataset({numbered_files([5])!r}, columns=['number']))\n"
        "print(name() == before); reuse_memory(); print(name())"
    )
    known = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"} | environment
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=known)
    assert done.stdout.split() == ["True", own]


def test_nothing_heavy_is_imported_before_it_is_needed(numbered_files):
    program = (
        "import sys; from millrace.loading import dataset\n"
        "print([name for name in ('pyspark', 'tensorflow', 'keras', 'petastorm') if name in sys.modules])\n"
        f"print(sum(batch.num_rows for batch in dataset({numbered_files([5])!r}, columns=['number'])))\n"
        "print([name for name in ('pyspark', 'tensorflow', 'keras') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n5\n[]\n"
