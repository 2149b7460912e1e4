"""Scikit-learn's digits as a Delta table, and a request to train on them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import WriterProperties, write_deltalake
from pyspark.sql import SparkSession

from millrace import observe
from millrace.config.network import MlpConfig
from millrace.config.training import TrainingConfig
from millrace.loading.columns import ColumnSpec
from millrace.loading.index import build_index
from millrace.training.checkpoint import checkpoint_uri
from millrace.training.request import TrainRequest
from tests.training.faults import Log, plant


@pytest.fixture(scope="session")
def digits_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """1,797 images of 8 x 8 from 0 to 16; the first 1,500 train, in row groups of 100."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target
    rows = pa.table(
        {
            "row_id": [f"{number:032x}" for number in range(len(images))],
            "image": pa.array([image.tobytes() for image in images], pa.binary()),
            "digit": pa.array(labels, pa.int32()),
            # 10 is no digit's label, and some have none at all
            "wrong_digit": pa.array([10 if number == 700 else int(label) for number, label in enumerate(labels)], pa.int32()),
            "no_digit": pa.array([None if number == 700 else int(label) for number, label in enumerate(labels)], pa.int32()),
            "split": ["train" if number < 1500 else "validation" for number in range(len(images))],
        }
    )
    uri = str(tmp_path_factory.mktemp("lake") / "gold")
    properties = WriterProperties(max_row_group_size=100, write_batch_size=100)
    write_deltalake(uri, rows, partition_by=["split"], writer_properties=properties)
    return uri


@pytest.fixture
def digits_copy(digits_uri: str, tmp_path: Path) -> str:
    """The same table in the test's own directory, to be spoilt."""
    return str(shutil.copytree(digits_uri, tmp_path / "lake"))


def digits_request(uri: str, directory: Path, *, label: str = "digit", **settings: object) -> TrainRequest:
    """A request to train on digits, with settings of its own by TrainingConfig's names; checkpoints go to `directory`."""
    defaults = {"batch_size": 48, "epochs": 4, "seed": 5, "num_workers": 1}
    return TrainRequest(
        train=build_index(uri, version=0, partitions={"split": "train"}),
        validation=build_index(uri, version=0, partitions={"split": "validation"}),
        feature=ColumnSpec(name="image", dtype="uint8", shape=(8, 8, 1)),
        divisor=16.0,
        label=label,
        num_classes=10,
        model=MlpConfig(hidden=(32,)),
        training=TrainingConfig.model_validate(defaults | settings),
        checkpoints=str(directory),
        board=str(directory / "board"),
    )


def checkpoint_of(request: TrainRequest, epoch: int, step_in_epoch: int = 0) -> str:
    """Where a run's checkpoint lies."""
    return checkpoint_uri(request.checkpoints, request.fingerprint(request.plan(request.train)), epoch, step_in_epoch)  # type: ignore[arg-type]


@pytest.fixture
def make_request(digits_uri: str, tmp_path: Path) -> Callable[..., TrainRequest]:
    """`digits_request` in the test's own directory."""

    def make(*, directory: str = "checkpoints", **settings: object) -> TrainRequest:
        return digits_request(digits_uri, tmp_path / directory, **settings)  # type: ignore[arg-type]

    return make


@pytest.fixture
def log() -> Iterator[Log]:
    """What the log says meanwhile, from warnings on."""
    kept = Log()
    observe.LOG.addHandler(kept)
    yield kept
    observe.LOG.removeHandler(kept)


@pytest.fixture
def inject(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Plants a fault, by `faults.plant`'s arguments, in the workers of this session; gives its directory."""

    def plant_here(**fault: object) -> Path:
        directory = tmp_path / "fault"
        plant(directory, **fault)  # type: ignore[arg-type]
        monkeypatch.setitem(spark.sparkContext.environment, "PYTHONPATH", str(directory))
        return directory

    return plant_here
