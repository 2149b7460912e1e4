"""The loaders that are compared, each in a process of its own: `python -m bench.loading_peers LOADER DIRECTORY`.

Each gives batches of 256 rows as TensorFlow tensors (the bare pyarrow loop aside, which only reads), shuffled, on two threads:

    millrace            PlannedReader with the default window of 256 MiB, batches through dlpack as in the training loop
    millrace_dataset    the same stream as a tf.data.Dataset
    petastorm           make_batch_reader with a thread pool, then make_petastorm_dataset(...).unbatch().shuffle().batch()
    tfrecord            TFRecordDataset, each record parsed, then shuffle and batch
    tfrecord_batched    the same with the parsing after the batching, one call for 256 records
    arrays              tf.data.Dataset.from_tensor_slices of arrays in memory, then shuffle and batch
    arrow               `for each row group: read_row_group`, no shuffling, no batches, no tensors: what Parquet itself costs

tf.data shuffles in a buffer of 16,384 rows, less than Millrace's windows hold, which is in tf.data's favour.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.loading_data import BATCH_SIZE, SHAPES, Shape, arrays_of, write_records
from bench.workers import serve
from millrace.loading.dataset import Options
from millrace.loading.files import reuse_memory
from millrace.loading.index import DatasetIndex, build_index
from millrace.loading.plan import PlanSpec, window_rows_for
from millrace.loading.reader import PlannedReader

NUM_THREADS = 2
SHUFFLE_BYTES = 256 * 2**20
SHUFFLE_ROWS = 16_384
_MEMORY_LIMIT_BYTES = 8 * 2**30

Pass = Callable[[int], int]
"""Reads everything once, as epoch number ..., and gives the number of rows that came out."""


def index_of(shape: Shape, directory: Path) -> DatasetIndex:
    """The index of the shape's table."""
    return build_index(str(directory / shape.name), version=shape.num_files - 1, partitions={})


def reader_of(index: DatasetIndex, shape: Shape, *, virtual_shards: int, shuffle_bytes: int) -> PlannedReader:
    """The reader of the one rank of a world of one, in a process that is set up as a training's worker is."""
    reuse_memory()
    window_rows = window_rows_for(
        shuffle_bytes=shuffle_bytes, row_bytes=shape.row_bytes, global_batch=BATCH_SIZE, virtual_shards=virtual_shards
    )
    spec = PlanSpec(
        seed=1,
        global_batch=BATCH_SIZE,
        virtual_shards=virtual_shards,
        window_rows=window_rows,
        row_group_rows=index.row_group_rows(),
        dataset=index.fingerprint(),
    )
    return PlannedReader(
        index,
        spec,
        shape.columns,
        rank=0,
        world_size=1,
        memory_limit_bytes=_MEMORY_LIMIT_BYTES,
        num_threads=NUM_THREADS,
    )


def millrace(shape: Shape, directory: Path, *, virtual_shards: int = 8) -> Pass:
    """Millrace as the training loop uses it."""
    from millrace.training.step import as_tensor

    reader = reader_of(index_of(shape, directory), shape, virtual_shards=virtual_shards, shuffle_bytes=SHUFFLE_BYTES)

    def read(epoch: int) -> int:
        num_rows = 0
        for batch in reader.batches(epoch):
            tensors = [as_tensor(column) for column in (*batch.columns.values(), batch.weights)]
            num_rows += int(tensors[0].shape[0])
        return num_rows

    return read


def millrace_dataset(shape: Shape, directory: Path) -> Pass:
    """Millrace as a tf.data.Dataset, as a Keras script uses it."""
    from millrace.loading import dataset

    options = Options(virtual_shards=8, num_readers=NUM_THREADS)

    def read(epoch: int) -> int:
        stream = dataset(
            str(directory / shape.name), columns=shape.columns, batch_size=BATCH_SIZE, seed=epoch, options=options
        ).tf_data()
        return _drain(stream)

    return read


def petastorm(shape: Shape, directory: Path) -> Pass:
    """Petastorm's own way into tf.data. Reads the table's first file."""
    from petastorm import make_batch_reader
    from petastorm.tf_utils import make_petastorm_dataset

    url = f"file://{index_of(shape, directory).files[0]}"
    names = [spec.name for spec in shape.columns]

    def read(epoch: int) -> int:
        with make_batch_reader(
            url, schema_fields=names, reader_pool_type="thread", workers_count=NUM_THREADS, num_epochs=1
        ) as reader:
            rows = make_petastorm_dataset(reader).unbatch().shuffle(SHUFFLE_ROWS, seed=epoch)
            batches = rows.batch(BATCH_SIZE).map(lambda row: _decoded(row._asdict(), shape)).prefetch(2)
            return _drain(batches)

    return read


def tfrecord(shape: Shape, directory: Path, *, batched: bool = False) -> Pass:
    """TFRecord files with tf.data. Reads the rows of the table's first file."""
    import tensorflow as tf

    path = directory / f"{shape.name}.tfrecord"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}")
        write_records(shape, partial)
        partial.replace(path)
    features = {spec.name: tf.io.FixedLenFeature((), _record_type(spec.dtype, spec.shape)) for spec in shape.columns}

    def parse_one(record: Any) -> dict[str, Any]:
        return _decoded(tf.io.parse_single_example(record, features), shape)

    def parse_batch(records: Any) -> dict[str, Any]:
        return _decoded(tf.io.parse_example(records, features), shape)

    def read(epoch: int) -> int:
        records = tf.data.TFRecordDataset(str(path))
        if batched:
            batches = records.shuffle(SHUFFLE_ROWS, seed=epoch).batch(BATCH_SIZE).map(parse_batch, num_parallel_calls=NUM_THREADS)
        else:
            rows = records.map(parse_one, num_parallel_calls=NUM_THREADS)
            batches = rows.shuffle(SHUFFLE_ROWS, seed=epoch).batch(BATCH_SIZE)
        return _drain(batches.prefetch(2))

    return read


def arrays(shape: Shape, directory: Path) -> Pass:  # noqa: ARG001  # needs no files
    """tf.data on arrays in memory: the rows of the table's first file."""
    import tensorflow as tf

    held = arrays_of(shape, 0)
    slices = tf.data.Dataset.from_tensor_slices(held)

    def read(epoch: int) -> int:
        return _drain(slices.shuffle(SHUFFLE_ROWS, seed=epoch).batch(BATCH_SIZE).prefetch(2))

    return read


def arrow(shape: Shape, directory: Path) -> Pass:
    """Row groups one after another, in the files' order."""
    import pyarrow.parquet as pq

    files = index_of(shape, directory).files

    def read(epoch: int) -> int:  # noqa: ARG001  # every epoch is the same
        num_rows = 0
        for path in files:
            with pq.ParquetFile(path, memory_map=True) as file:
                for group in range(file.num_row_groups):
                    num_rows += file.read_row_group(group).num_rows
        return num_rows

    return read


LOADERS: Mapping[str, Callable[[Shape, Path], Pass]] = {
    "millrace": millrace,
    "millrace_v1": lambda shape, directory: millrace(shape, directory, virtual_shards=1),
    "millrace_v32": lambda shape, directory: millrace(shape, directory, virtual_shards=32),
    "millrace_dataset": millrace_dataset,
    "petastorm": petastorm,
    "tfrecord": tfrecord,
    "tfrecord_batched": lambda shape, directory: tfrecord(shape, directory, batched=True),
    "arrays": arrays,
    "arrow": arrow,
}


def _decoded(row: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """Columns as their tensors: bytes are decoded, numbers cast where the format has only a wider type. In the graph."""
    import tensorflow as tf

    return {
        spec.name: tf.io.decode_raw(row[spec.name], spec.dtype) if spec.shape else tf.cast(row[spec.name], spec.dtype)
        for spec in shape.columns
    }


def _record_type(dtype: str, tensor_shape: tuple[int, ...]) -> Any:
    import tensorflow as tf

    if tensor_shape:
        return tf.string
    return tf.float32 if dtype in ("float32", "float64") else tf.int64


def _drain(batches: Any) -> int:
    """Takes every batch of a tf.data.Dataset in Python, as a training loop does: the number of rows."""
    import tensorflow as tf

    options = tf.data.Options()
    options.threading.private_threadpool_size = NUM_THREADS
    num_rows = 0
    for batch in batches.with_options(options):
        first = next(iter(batch.values())) if isinstance(batch, dict) else batch
        num_rows += int(first.shape[0])
    return num_rows


def measure(read: Pass, *, seconds: float, first_epoch: int) -> dict[str, float]:
    """Whole passes until `seconds` are over: rows and seconds."""
    started = time.perf_counter()
    num_rows, epoch = 0, first_epoch
    while (spent := time.perf_counter() - started) < seconds or not num_rows:
        num_rows += read(epoch)
        epoch += 1
    return {"num_rows": num_rows, "seconds": spent}


def main() -> None:
    """Answers {"shape", "seconds", "round"} with {"num_rows", "seconds"}; the first pass over a shape is not counted."""
    loader, directory = sys.argv[1], Path(sys.argv[2])
    passes: dict[str, Pass] = {}
    if loader != "arrow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(NUM_THREADS)
        tf.config.threading.set_inter_op_parallelism_threads(NUM_THREADS)

    def answer(*, shape: str, seconds: float, round: int) -> Mapping[str, Any]:
        if shape not in passes:
            passes[shape] = LOADERS[loader](SHAPES[shape], directory)
            passes[shape](0)
        return measure(passes[shape], seconds=seconds, first_epoch=1 + 1000 * round)

    serve(answer)


if __name__ == "__main__":
    main()
