"""How many parts a rank's rows are computed in."""

from __future__ import annotations

import pytest

from millrace.config.network import CnnConfig, MlpConfig
from millrace.config.training import TrainingConfig
from millrace.models.build import build_model
from millrace.training.parts import parts_for

CNN = {"filters": (32, 64), "hidden": (128,)}  # 28 x 28: 367 KB of outputs for each row, 45 MiB for 128 rows


@pytest.mark.parametrize(
    ("config", "training", "num_rows", "parts"),
    [
        (CnnConfig(**CNN), {}, 128, 4),
        (CnnConfig(**CNN), {}, 256, 7),
        (CnnConfig(**CNN), {}, 8, 1),
        (MlpConfig(hidden=(512,)), {}, 128, 1),
        (CnnConfig(**CNN, batch_norm=True), {}, 128, 1),  # would see other rows
        (CnnConfig(**CNN), {"threads_per_worker": 2}, 128, 1),
        (CnnConfig(**CNN), {"micro_batches": 3}, 128, 3),
        (CnnConfig(**CNN, batch_norm=True), {"micro_batches": 3}, 128, 3),
        (CnnConfig(filters=(16_000,), kernel_size=1), {}, 1, 1),  # 250 MiB for a row: no part without one
    ],
)
def test_parts(config, training, num_rows, parts):
    model = build_model(config, input_shape=(28, 28, 1), divisor=255.0, num_classes=10, seed=0)
    assert parts_for(model, TrainingConfig.model_validate(training), num_rows=num_rows) == parts
