"""The peer of the MNIST night: what one would write without a lake, in one process.

Reads the idx files, drops duplicate images, takes the train rows, fits the network that conf/pipelines/mnist.yaml describes
(5 epochs, batch 128), evaluates it on the test rows and exports it three times. Imports nothing of Millrace. Prints one JSON
object.

    python bench/plain_mnist.py [--keys train_keys.parquet] [--exports DIRECTORY] [--seed 7]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Images = npt.NDArray[np.uint8]  # (rows, 28, 28, 1)

TRAIN_SHARE = 0.85
EPOCHS = 5
BATCH_SIZE = 128
SECONDS: dict[str, float] = {}


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Note the seconds that the block takes."""
    started = time.perf_counter()
    yield
    SECONDS[name] = round(time.perf_counter() - started, 3)


def read_idx(path: Path, *, header_bytes: int) -> npt.NDArray[np.uint8]:
    """The bytes after the header of an idx file, gzipped or not."""
    import numpy as np

    gzipped = path.with_name(path.name + ".gz")
    content = gzip.decompress(gzipped.read_bytes()) if gzipped.is_file() else path.read_bytes()
    return np.frombuffer(content, np.uint8, offset=header_bytes)


def read(directory: Path) -> tuple[pd.DataFrame, Images]:
    """One row per image, in the order of the files: subset, index, digit; and the images."""
    import numpy as np
    import pandas as pd

    rows, images = [], []
    for subset in ("t10k", "train"):
        digits = read_idx(directory / f"{subset}-labels-idx1-ubyte", header_bytes=8)
        images.append(read_idx(directory / f"{subset}-images-idx3-ubyte", header_bytes=16).reshape(-1, 28, 28, 1))
        rows.append(pd.DataFrame({"subset": subset, "index": np.arange(len(digits)), "digit": digits}))
    return pd.concat(rows, ignore_index=True), np.concatenate(images)


def first_of_equal(images: Images) -> npt.NDArray[np.bool_]:
    """Whether a row is the first with its image: (rows,)."""
    import pandas as pd

    return ~pd.Series([image.tobytes() for image in images]).duplicated().to_numpy()


def train_mask(rows: pd.DataFrame, *, keys: Path | None, seed: int) -> npt.NDArray[np.bool_]:
    """Which rows train: (rows,). Those that the Parquet file `keys` names by subset and index, else a seeded share."""
    import numpy as np
    import pandas as pd

    if keys is None:
        drawn = np.random.default_rng(seed).random(len(rows)) < TRAIN_SHARE
        mask: npt.NDArray[np.bool_] = drawn & (rows["subset"] == "train").to_numpy()
        return mask
    wanted = pd.MultiIndex.from_frame(pd.read_parquet(keys, columns=["subset", "index"], use_threads=False))
    found = pd.MultiIndex.from_frame(rows[["subset", "index"]]).isin(wanted)
    if found.sum() != len(wanted):
        sys.exit(f"{keys} names {len(wanted)} train rows, of which {found.sum()} are there")
    return np.asarray(found)


def fit(images: Images, digits: npt.NDArray[np.uint8], *, seed: int) -> Any:
    """The trained network: raw images -> (rows, 10) logits."""
    import keras

    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1), dtype="uint8", name="image"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(512, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(images, digits, batch_size=BATCH_SIZE, epochs=EPOCHS, verbose=0)
    return model


def evaluate(model: Any, images: Images, digits: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Accuracy, and precision, recall and F1 of each class."""
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    predicted = model.predict(images, batch_size=1024, verbose=0).argmax(axis=1)
    per_class = precision_recall_fscore_support(digits, predicted, zero_division=0)
    names = ("precision", "recall", "f1")
    return {"accuracy": float(accuracy_score(digits, predicted))} | {
        name: [round(float(value), 6) for value in values] for name, values in zip(names, per_class[:3], strict=True)
    }


def export(model: Any, directory: Path) -> None:
    """The network with probabilities, as .keras, .h5 and SavedModel."""
    import absl.logging
    import keras

    serving = keras.Sequential([keras.Input((28, 28, 1), dtype="uint8", name="image"), *model.layers, keras.layers.Softmax()])
    absl.logging.set_verbosity(absl.logging.ERROR)  # .h5 is asked for: no advice against it
    with stage("export_keras"):
        serving.save(directory / "model.keras")
    with stage("export_h5"):
        serving.save(directory / "model.h5")
    with stage("export_saved_model"):
        serving.export(directory / "saved_model", verbose=False)


def main() -> None:
    """Do everything, and print the seconds of each stage with the result."""
    started = time.perf_counter()
    parser = argparse.ArgumentParser(description="The plain script that the MNIST night is compared with.")
    parser.add_argument("--keys", type=Path, help="Parquet with the train rows' subset and index")
    parser.add_argument("--exports", type=Path, help="directory for the exports (default: a temporary one)")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    project = Path(__file__).resolve().parent.parent
    data = Path(os.environ.get("MILLRACE_DATA", project.parent / "shared" / "data")) / "mnist"
    if not data.is_dir():
        print(f"plain_mnist: no directory {data}; set MILLRACE_DATA to the one that holds mnist/", file=sys.stderr)
        sys.exit(2)

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with stage("import"):
        import keras  # noqa: F401
        import pandas as pd  # noqa: F401
        import sklearn.metrics  # noqa: F401
    with stage("read"):
        rows, images = read(data)
    with stage("deduplicate"):
        stays = first_of_equal(images)
        rows, images = rows[stays], images[stays]
    with stage("split"):
        trains = train_mask(rows, keys=arguments.keys, seed=arguments.seed)
        tests = (rows["subset"] == "t10k").to_numpy()
        digits = rows["digit"].to_numpy()
    with stage("fit"):
        model = fit(images[trains], digits[trains], seed=arguments.seed)
    with stage("evaluate"):
        figures = evaluate(model, images[tests], digits[tests])
    if arguments.exports is None:
        with tempfile.TemporaryDirectory() as directory:
            export(model, Path(directory))
    else:
        arguments.exports.mkdir(parents=True, exist_ok=True)
        export(model, arguments.exports)
    counts = {"num_train_rows": int(trains.sum()), "num_test_rows": int(tests.sum()), "num_duplicates": int((~stays).sum())}
    total = round(time.perf_counter() - started, 3)
    print(json.dumps({"seconds": SECONDS, "total_seconds": total, **counts, **figures}))


if __name__ == "__main__":
    main()
