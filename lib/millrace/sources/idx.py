"""The idx format of MNIST: PREFIX-images-idx3-ubyte and PREFIX-labels-idx1-ubyte, plain or compressed, in pairs.

Layout (LeCun, Cortes, Burges, "The MNIST database"): two zero bytes, a type code (8 is unsigned byte), the number of dimensions,
each dimension as a big-endian 32-bit integer, then the data in C order.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa

from millrace.contracts.table import TableContract
from millrace.errors import SourceError
from millrace.sources.opening import compression_of, damaged, open_raw, with_compressions
from millrace.sources.reader import REJECTS

SUFFIXES = with_compressions("-ubyte")
_IMAGES, _LABELS = "-images-idx3-ubyte", "-labels-idx1-ubyte"
_BATCH_ROWS = 4_096
_BATCH_BYTES = 64 * 1024**2  # also the largest image: a damaged header could ask for more than there is memory
_COLUMNS = ("subset", "index", "image", "digit")


@dataclass(frozen=True)
class IdxReader:
    """Pairs of idx files as a `FileReader`."""

    suffixes: tuple[str, ...] = SUFFIXES
    rules: tuple[str, ...] = ()

    def units(self, paths: Sequence[str]) -> list[tuple[str, str]]:
        """Images and labels together."""
        return pairs(list(paths))

    def check(self, unit: tuple[str, str], contract: TableContract) -> None:
        """See `check`."""
        check(unit, contract)

    def arrow_schema(self, contract: TableContract) -> pa.Schema:
        """See `arrow_schema`."""
        return arrow_schema(contract)

    def read(self, unit: tuple[str, str], contract: TableContract) -> Iterator[pa.RecordBatch]:
        """See `read`."""
        return read(unit, contract)


def pairs(paths: list[str]) -> list[tuple[str, str]]:
    """Each file of images with its labels. Raises SourceError for one without the other."""
    by_stem = {path.removesuffix(compression_of(path) or ""): path for path in paths}
    found = []
    for stem, path in sorted(by_stem.items()):
        other = stem.replace(_IMAGES, _LABELS) if stem.endswith(_IMAGES) else stem.replace(_LABELS, _IMAGES)
        if other == stem or other not in by_stem:
            raise SourceError(
                "ingest",
                expected=f"files in pairs, NAME{_IMAGES} and NAME{_LABELS}",
                found=f"{path} alone",
                remedy="Fetch the other one.",
            )
        if stem.endswith(_IMAGES):
            found.append((path, by_stem[other]))
    return found


def arrow_schema(contract: TableContract) -> pa.Schema:
    """subset, index, image, digit in the contract's types, and the images' file. Broken files end the step."""
    fields = [contract.arrow_schema.field(name).with_nullable(True) for name in _COLUMNS]
    rejects = [pa.field(name, pa.string()) for name in ("_source_file", *REJECTS)]
    return pa.schema([*fields, *rejects])


def check(pair: tuple[str, str], contract: TableContract) -> None:
    """Raises SourceError where a header's magic number is wrong or the two files disagree on how many there are."""
    missing = [name for name in contract.columns if name not in _COLUMNS]
    if missing or len(contract.columns) != len(_COLUMNS):
        raise SourceError(
            "ingest",
            expected=f"the columns {', '.join(_COLUMNS)} in {contract.name}",
            found=", ".join(contract.columns),
            remedy="Mend the contract.",
        )
    counts = []
    for path, num_dimensions in zip(pair, (3, 1), strict=True):
        with open_raw(path) as stream:
            counts.append(_header(stream, path, num_dimensions)[0])
    if counts[0] != counts[1]:
        raise SourceError(
            "ingest",
            expected=f"as many labels as images in {pair[1]}",
            found=f"{counts[1]} labels, {counts[0]} images",
            remedy="Fetch both files again.",
        )


def read(pair: tuple[str, str], contract: TableContract) -> Iterator[pa.RecordBatch]:
    """The rows of one pair. Raises SourceError where a file is shorter or longer than its header says."""
    schema = arrow_schema(contract)
    images_path, labels_path = pair
    subset = images_path.rpartition("/")[2].partition(_IMAGES)[0]
    with open_raw(labels_path) as labels, open_raw(images_path) as images:
        _header(labels, labels_path, 1)  # as many as images: `check`
        num_rows, *shape = _header(images, images_path, 3)
        num_bytes = math.prod(shape)
        batch_rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // num_bytes))
        for start in range(0, num_rows, batch_rows):
            rows = min(batch_rows, num_rows - start)
            data = _exactly(images, rows * num_bytes, images_path)
            offsets = pa.py_buffer(np.arange(0, (rows + 1) * num_bytes, num_bytes, dtype=np.int32))
            columns = {
                "subset": pa.array([subset] * rows),
                "index": pa.array(np.arange(start, start + rows)),
                "image": pa.Array.from_buffers(pa.binary(), rows, [None, offsets, pa.py_buffer(data)]),
                "digit": pa.array(np.frombuffer(_exactly(labels, rows, labels_path), np.uint8)),
                "_source_file": pa.array([images_path] * rows),
            }
            arrays = [
                columns[field.name].cast(field.type) if field.name in columns else pa.nulls(rows, field.type) for field in schema
            ]
            yield pa.record_batch(arrays, schema=schema)
        for stream, path in ((labels, labels_path), (images, images_path)):
            if stream.read(1):
                raise damaged(path, "it is longer than its header says")


def _header(stream: IO[bytes], path: str, num_dimensions: int) -> list[int]:
    magic = _exactly(stream, 4, path)
    expected = bytes([0, 0, 8, num_dimensions])
    if magic != expected:
        raise SourceError(
            "ingest",
            expected=f"the magic number {expected.hex()} in {path}",
            found=magic.hex(),
            remedy="It is no idx file of this kind: fetch it again.",
        )
    num_rows, *shape = struct.unpack(f">{num_dimensions}I", _exactly(stream, 4 * num_dimensions, path))
    if not 0 < math.prod(shape) <= _BATCH_BYTES:
        raise damaged(path, f"images of {' x '.join(map(str, shape))}")
    return [num_rows, *shape]


def _exactly(stream: IO[bytes], num_bytes: int, path: str) -> bytes:
    data = stream.read(num_bytes)
    if len(data) != num_bytes:
        raise damaged(path, f"it ends {num_bytes - len(data)} bytes early")
    return data
