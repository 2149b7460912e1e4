"""Preprocessing of four times as much data as the memory given: from raw files to gold, under a cap of the whole process tree.

The rows are pictures of four MNIST digits each, drawn by a seed, one in a hundred a copy of an earlier one; their pixels alone
are TIMES times CAP_BYTES. The pipeline drops copies, which brings rows of one picture together, and writes gold in hash order,
which puts all rows in another order: shuffles of everything, in a session whose JVM has HEAP_BYTES. The session, its Python
workers and the process that drives it must stay below CAP_BYTES together. Gold is then read without Spark: rows, pixels and
labels must add up to what was drawn. The session differs from the one that ships by its heap and by PARTITIONS: what a task
sorts should fit into its share of the heap, for each file that it spills to costs memory while it is read.
"""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from bench.pipeline_side import STEPS
from bench.report import Bound, Figure, Result
from bench.tree_memory import TreeMemory
from bench.workers import Worker
from millrace.errors import MillraceError, SourceError
from millrace.lake import log
from millrace.lake.layout import Lake
from millrace.lake.ledger import Ledger

HEAP_BYTES = 1024**3
TIMES = 4
PARTITIONS = 160
CAP_BYTES = 5 * 1024**3 // 2
PIPELINE = "tiles"
_CORES = 2
_NIGHT = "2026-11-21"
_SEED = 7
_SIDE = 56
_PIXELS = _SIDE * _SIDE
_CHUNK = 16_384
_COPIES = 100
"""One row of so many is a copy."""
_TIMEOUT_SECONDS = 2_400.0


@dataclass(frozen=True)
class Sums:
    """What rows add up to."""

    num_rows: int
    pixels: int
    labels: int

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.num_rows + other.num_rows, self.pixels + other.pixels, self.labels + other.labels)


def run(num_rounds: int) -> Result:  # noqa: ARG001
    """Measure, once whatever the rounds: it either fits or not. Raises MillraceError where gold does not add up."""
    images, labels = digits(data_directory())
    return measure(images, labels, heap_bytes=HEAP_BYTES, times=TIMES, cap_bytes=CAP_BYTES)


def measure(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], *, heap_bytes: int, times: float, cap_bytes: int
) -> Result:
    """One night over pictures of `times` the cap's bytes. images: (n, 28, 28) uint8; labels: (n,) uint8."""
    num_rows = -(-int(cap_bytes * times) // _PIXELS)
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as name:
        directory = Path(name)
        _say(f"writing {num_rows:,} pictures")
        drawn = write_pictures(directory / "raw", images, labels, num_rows)
        write_config(directory / "conf", directory / "raw")
        settings = (
            f"spark.master=local[{_CORES}]",
            f"spark.driver.memory={heap_bytes // 1024**2}m",
            f"spark.sql.shuffle.partitions={PARTITIONS}",
            f"spark.local.dir={name}/spark",
        )
        lake = Lake.at(f"{name}/lake")
        options = ["--pipeline", PIPELINE, "--lake", lake.uri, "--conf-dir", f"{name}/conf", "--night", _NIGHT]
        with (
            TreeMemory(without_self=True) as memory,
            Worker("bench.pipeline_side", *settings, environment={}, timeout_seconds=_TIMEOUT_SECONDS) as worker,
        ):
            cold_seconds = worker.ask(ask="start")["seconds"]
            _say("preprocessing them")
            started = time.perf_counter()
            seconds = worker.ask(ask="night", options=options)
            wall_seconds = time.perf_counter() - started
            disk_bytes = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        _say("adding up gold")
        check(lake, drawn, num_rows)
    figures = [
        Figure("num_rows", num_rows, "rows"),
        Figure("decoded", num_rows * _PIXELS / 2**30, "GiB"),
        Figure("heap", heap_bytes / 2**30, "GiB"),
        Figure("cap", cap_bytes / 2**30, "GiB"),
        Figure("peak_memory", memory.peak_bytes / 2**30, "GiB"),
        Figure("disk", disk_bytes / 2**30, "GiB"),
        Figure("cold_start", cold_seconds, "s"),
        Figure("shuffle", wall_seconds, "s"),
        *[Figure(f"shuffle/{step}", seconds[step], "s") for step in STEPS],
    ]
    bounds = [
        Bound("shuffle_data_vs_memory", num_rows * _PIXELS / cap_bytes, ">=", times),
        Bound("shuffle_peak_vs_cap", memory.peak_bytes / cap_bytes, "<=", 1.0),
    ]
    return Result(figures=figures, bounds=bounds)


def check(lake: Lake, drawn: Sums, num_rows: int) -> None:
    """Raises MillraceError where the ledger's counts or gold's sums are not those of the rows that were drawn."""
    ledger = Ledger.read(lake)
    entry = ledger.succeeded(step="preprocess")
    counts = entry.counts if entry else None
    if counts is None or (counts.num_rows_in, counts.num_rows_kept) != (num_rows, drawn.num_rows):
        raise _wrong(f"{drawn.num_rows:,} rows of {num_rows:,} to be kept", str(counts))
    found = sums_of_gold(lake.path(f"gold/{PIPELINE}"), ledger.version_of(f"gold/{PIPELINE}"))
    if found != drawn:
        raise _wrong(f"gold to add up to {drawn}", str(found))


def sums_of_gold(uri: str, version: int | None) -> Sums:
    """Rows, pixels and labels of gold, read batch by batch."""
    total = Sums(0, 0, 0)
    for path in log.open_table(uri, version).file_uris():
        for batch in pq.ParquetFile(path).iter_batches(batch_size=_CHUNK, columns=["image", "label"]):
            pixels = b"".join(batch.column("image").to_pylist())
            labels = batch.column("label").to_numpy()
            total += Sums(batch.num_rows, int(np.frombuffer(pixels, np.uint8).sum(dtype=np.int64)), int(labels.sum()))
    return total


def write_pictures(raw: Path, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], num_rows: int) -> Sums:
    """Parquet files of pictures; what those add up to that are no copies."""
    raw.mkdir(parents=True)
    total = Sums(0, 0, 0)
    for first in range(0, num_rows, _CHUNK):
        ids = np.arange(first, min(first + _CHUNK, num_rows))
        pictures, digit = draw(images, labels, ids - ids % _COPIES // (_COPIES - 1))
        originals = ids % _COPIES != _COPIES - 1
        total += Sums(
            int(originals.sum()), int(pictures[originals].sum(dtype=np.int64)), int(digit[originals].sum(dtype=np.int64))
        )
        offsets = np.arange(0, (len(ids) + 1) * _PIXELS, _PIXELS, dtype=np.int32)
        buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(pictures.tobytes())]
        image = pa.Array.from_buffers(pa.binary(), len(ids), buffers)
        table = pa.table({"id": ids, "image": image, "digit": digit.astype(np.int32)})
        pq.write_table(table, raw / f"part-{first:09d}.parquet", row_group_size=4_096, use_dictionary=False, compression="zstd")
    return total


def draw(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], numbers: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The pictures (b, 56, 56) of some numbers and the label (b,) of each, its first digit: a function of the number alone."""
    mixed = numbers[:, None].astype(np.uint64) * np.uint64(4) + np.arange(4, dtype=np.uint64) + np.uint64(_SEED << 40)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64's finaliser
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    chosen = ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(len(images))).astype(np.int64)  # chosen: (b, 4)
    quarters = images[chosen].reshape(-1, 2, 2, 28, 28)
    return np.ascontiguousarray(quarters.transpose(0, 1, 3, 2, 4)).reshape(-1, _SIDE, _SIDE), labels[chosen[:, 0]]


def write_config(conf: Path, raw: Path) -> None:
    """A pipeline up to gold, and its contract."""
    pipeline = {
        "name": PIPELINE,
        "source": {"name": PIPELINE, "format": "parquet", "path": str(raw), "schema": f"{PIPELINE}_raw"},
        "clean": [{"drop_duplicates": ["image"]}],
        "split": {"method": "hash", "key": ["image"], "seed": _SEED, "fractions": {"train": 0.8, "validation": 0.1, "test": 0.1}},
        "features": [{"column": "image", "encode": "scale", "divisor": 255, "shape": [_SIDE, _SIDE, 1]}],
        "label": {"column": "digit", "kind": "class"},
    }
    image = {"type": "binary", "nullable": False, "tensor": {"dtype": "uint8", "shape": [_SIDE, _SIDE, 1]}}
    contract = {
        "name": f"{PIPELINE}_raw",
        "grain": "one row per picture of four digits",
        "key": ["id"],
        "columns": {
            "id": {"type": "bigint", "nullable": False},
            "image": image,
            "digit": {"type": "int", "nullable": False, "range": [0, 9]},
        },
    }
    for kind, content in (("pipelines", pipeline), ("schemas", contract)):
        (conf / kind).mkdir(parents=True)
        (conf / kind / f"{content['name']}.yaml").write_text(yaml.safe_dump(content))


def digits(data: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """MNIST's training images (60000, 28, 28) and labels (60000,). Raises SourceError where they are missing."""

    def read(name: str, head: int) -> npt.NDArray[np.uint8]:
        return np.frombuffer(gzip.decompress((data / "mnist" / f"{name}.gz").read_bytes()), np.uint8, offset=head)

    try:
        return read("train-images-idx3-ubyte", 16).reshape(-1, 28, 28), read("train-labels-idx1-ubyte", 8)
    except OSError as error:
        raise SourceError(
            "bench", expected="MNIST's idx files", found=str(error), remedy="Set MILLRACE_DATA to where the data sets are."
        ) from None


def data_directory() -> Path:
    """Where the data sets lie."""
    return Path(os.environ.get("MILLRACE_DATA", "../shared/data"))


def _wrong(expected: str, found: str) -> MillraceError:
    return MillraceError("bench", expected=expected, found=found, remedy="Look at the lake of such a run.")


def _say(text: str) -> None:
    print(f"bench preprocess_shuffle: {text}", file=sys.stderr, flush=True)
