"""What trains in the benchmark, each in a process of its own.

`python -m bench.training_peers KIND MODEL THREADS BATCH DIRECTORY`, where KIND is

    loop    Millrace's training loop as a worker runs it, fed from the table by the planned reader. Where Horovod's variables are
            set it is one rank of many, and BATCH counts the rows of all ranks; else it is a world of one
    fit     Keras's `fit` with the same model, optimizer and metric, on arrays in memory, as one would write it

Both compute with THREADS threads and take a step of BATCH rows, and both wait between measurements, within the run: what warm-up,
windows and ends of epochs cost is paid as in any run. Answers {"steps": N} with {"seconds": S}.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from deltalake import WriterProperties, write_deltalake

from bench.workers import Questions

IMAGE_SHAPE = (28, 28, 1)
NUM_CLASSES = 10
NUM_ROWS = 102_400
LEARNING_RATE = 0.001
DIVISOR = 255.0
MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"family": "mlp", "hidden": [512]},
    "cnn": {"family": "cnn", "filters": [32, 64], "hidden": [128]},
}
"""784-512-10; and two blocks of 3 x 3 convolution and pooling, then 128 units."""

_ROW_GROUP_ROWS = 10_240
_SHUFFLE_BYTES = 16 * 2**20  # small, so that windows are filled anew in every measurement
_EPOCHS = 1_000_000


def rows(num_rows: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Images (rows, 28, 28, 1) and digits (rows,): noise, brighter for a higher digit, so that something can be learnt."""
    draw = np.random.default_rng(7)
    digits = draw.integers(0, NUM_CLASSES, num_rows, dtype=np.int32)
    images = draw.integers(0, 160, (num_rows, *IMAGE_SHAPE), dtype=np.uint8) + (digits * 9).astype(np.uint8)[:, None, None, None]
    return images, digits


def write_table(uri: str, num_rows: int = NUM_ROWS) -> None:
    """The rows as a Delta table of gold's kind: image as bytes, label as int32."""
    images, digits = rows(num_rows)
    table = pa.table({"image": pa.array([image.tobytes() for image in images], pa.binary()), "label": digits})
    properties = WriterProperties(compression="SNAPPY", max_row_group_size=_ROW_GROUP_ROWS, write_batch_size=_ROW_GROUP_ROWS)
    write_deltalake(uri, table, writer_properties=properties)


def request_for(model: str, *, threads: int, batch: int, table: str, checkpoints: str, **settings: Any) -> Any:
    """What the loop is asked to do: a TrainRequest. `settings` are those of TrainingConfig."""
    from millrace.config.training import TrainingConfig
    from millrace.loading.columns import ColumnSpec
    from millrace.loading.index import build_index
    from millrace.training.request import MODEL, TrainRequest

    training = {
        "batch_size": batch,
        "virtual_shards": 8,
        "epochs": _EPOCHS,
        "threads_per_worker": threads,
        "shuffle_bytes": _SHUFFLE_BYTES,
        "optimizer": {"name": "adam", "learning_rate": LEARNING_RATE},
    }
    return TrainRequest(
        train=build_index(table, version=0, partitions={}),
        validation=None,
        feature=ColumnSpec(name="image", dtype="uint8", shape=IMAGE_SHAPE),
        divisor=DIVISOR,
        label="label",
        num_classes=NUM_CLASSES,
        model=MODEL.validate_python(MODELS[model]),
        training=TrainingConfig.model_validate(training | settings),
        checkpoints=checkpoints,
    )


class Turns:
    """A `Tell` that lets the loop take as many steps as were asked for, and no more."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self._left, self._started = 0, 0.0

    def __call__(self, kind: str, **_: Any) -> None:
        if kind != "step":
            return
        self._left -= 1
        if self._left <= 0:
            self._questions.reply({"seconds": time.perf_counter() - self._started})
            self.wait()

    def wait(self) -> None:
        """Waits until steps are asked for; ends the process where none are any more."""
        question = self._questions.next()
        if question is None:
            os._exit(0)
        self._left, self._started = int(question["steps"]), time.perf_counter()


def train_in_loop(questions: Questions, model: str, *, threads: int, batch: int, table: str) -> None:
    """Trains until nobody asks any more."""
    from millrace.training.loop import train
    from millrace.training.ranks import Ranks

    ranks = Ranks(rank=int(os.environ.get("HOROVOD_RANK", "0")), world_size=int(os.environ.get("HOROVOD_SIZE", "1")))
    turns = Turns(questions)
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as checkpoints:
        request = request_for(model, threads=threads, batch=batch, table=table, checkpoints=checkpoints)
        turns.wait()
        train(request, ranks, tell=turns)


def train_with_fit(questions: Questions, model: str, *, batch: int) -> None:
    """An epoch of as many steps as asked for, again and again. The time is the epoch's, without what a call of fit costs."""
    import keras

    from millrace.models.build import build_model
    from millrace.training.request import MODEL

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no type hints
        """Notes how long an epoch takes."""

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
            self.started = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
            self.seconds = time.perf_counter() - self.started

    network = build_model(
        MODEL.validate_python(MODELS[model]), input_shape=IMAGE_SHAPE, divisor=DIVISOR, num_classes=NUM_CLASSES, seed=0
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizer=keras.optimizers.Adam(LEARNING_RATE), loss=loss, metrics=["accuracy"])
    images, digits = rows(NUM_ROWS)
    while (question := questions.next()) is not None:
        clock, num_rows = Clock(), int(question["steps"]) * batch
        assert num_rows <= NUM_ROWS
        network.fit(images[:num_rows], digits[:num_rows], batch_size=batch, epochs=1, verbose=0, callbacks=[clock])
        questions.reply({"seconds": clock.seconds})


def main() -> None:
    """Sets the threads, and trains when asked."""
    kind, model, threads, batch, directory = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5])
    questions = Questions()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if kind == "loop":
        train_in_loop(questions, model, threads=threads, batch=batch, table=str(directory / "digits"))
    else:
        train_with_fit(questions, model, batch=batch)


if __name__ == "__main__":
    main()
