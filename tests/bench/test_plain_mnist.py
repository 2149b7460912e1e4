"""The plain script, whole, on a few made-up images."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]


def _write_idx(directory: Path, subset: str, images: np.ndarray, digits: np.ndarray) -> None:
    header = struct.pack(">IIII", 0x803, len(images), 28, 28)
    (directory / f"{subset}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
    (directory / f"{subset}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(digits)) + digits.tobytes())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """300 train and 40 test images whose brightest row is their digit; train rows 7 and 8 repeat test row 0 and train row 6."""
    random = np.random.default_rng(2)
    for subset, num_rows in (("t10k", 40), ("train", 300)):
        digits = (np.arange(num_rows) % 10).astype(np.uint8)
        images = random.integers(0, 60, (num_rows, 28, 28), dtype=np.uint8)
        images[np.arange(num_rows), digits * 2] = 255
        if subset == "t10k":
            first = images[0]
        else:
            images[7], images[8] = first, images[6]
        (tmp_path / "mnist").mkdir(exist_ok=True)
        _write_idx(tmp_path / "mnist", subset, images, digits)
    return tmp_path


def _run(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "bench" / "plain_mnist.py"), *arguments],
        env={**os.environ, "MILLRACE_DATA": str(data), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_given_train_rows(data: Path, tmp_path: Path) -> None:
    keys = pd.DataFrame({"subset": "train", "index": np.array([*range(7), *range(9, 200)], np.int32)})
    keys.to_parquet(tmp_path / "keys.parquet")
    done = _run(data, "--keys", str(tmp_path / "keys.parquet"), "--exports", str(tmp_path / "exports"))
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert (printed["num_train_rows"], printed["num_test_rows"], printed["num_duplicates"]) == (198, 40, 2)
    assert printed["accuracy"] > 0.5
    assert [len(printed[name]) for name in ("precision", "recall", "f1")] == [10, 10, 10]
    stages = ["import", "read", "deduplicate", "split", "fit", "evaluate", "export_keras", "export_h5", "export_saved_model"]
    assert list(printed["seconds"]) == stages
    assert sum(printed["seconds"].values()) <= printed["total_seconds"] + 0.01
    assert sorted(found.name for found in (tmp_path / "exports").iterdir()) == ["model.h5", "model.keras", "saved_model"]


def test_train_rows_that_are_not_there_are_refused(data: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.parquet"
    pd.DataFrame({"subset": "train", "index": [6, 8]}).to_parquet(keys)  # 8 is a duplicate, and dropped
    done = _run(data, "--keys", str(keys))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"{keys} names 2 train rows, of which 1 are there"


def test_without_data_it_says_where_it_looked(tmp_path: Path) -> None:
    done = _run(tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"plain_mnist: no directory {tmp_path}/mnist; set MILLRACE_DATA to the one that holds mnist/\n"
