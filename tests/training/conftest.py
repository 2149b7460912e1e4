"""Scikit-learn's digits as a Delta table, and a request to train on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import WriterProperties, write_deltalake

from millrace.config.models import TrainingConfig
from millrace.config.network import MlpConfig
from millrace.loading.columns import ColumnSpec
from millrace.loading.index import build_index
from millrace.training.request import TrainRequest


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
def make_request(digits_uri: str, tmp_path: Path) -> Callable[..., TrainRequest]:
    """A request with settings of its own, by TrainingConfig's names; checkpoints go to the test's directory."""

    def make(*, label: str = "digit", directory: str = "checkpoints", **settings: object) -> TrainRequest:
        defaults = {"batch_size": 48, "epochs": 4, "seed": 5, "num_workers": 1}
        return TrainRequest(
            train=build_index(digits_uri, version=0, partitions={"split": "train"}),
            validation=build_index(digits_uri, version=0, partitions={"split": "validation"}),
            feature=ColumnSpec(name="image", dtype="uint8", shape=(8, 8, 1)),
            divisor=16.0,
            label=label,
            num_classes=10,
            model=MlpConfig(hidden=(32,)),
            training=TrainingConfig.model_validate(defaults | settings),
            checkpoints=str(tmp_path / directory),
            board=str(tmp_path / directory / "board"),
        )

    return make
