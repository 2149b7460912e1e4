"""Small valid contracts, pipelines and raw files, for tests to bend."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from millrace.config.models import PipelineConfig
from millrace.contracts.table import TableContract
from millrace.lake.layout import Lake
from millrace.lake.ledger import Attempt, Counts, Inputs, Ledger, Outcome, RawFile, Run, TableVersion
from millrace.lake.protocol import Step, run_step

NIGHT = "2026-11-22"


def make_contract(columns: Mapping[str, Any] | None = None, **keys: Any) -> TableContract:
    """A contract called `tiny_raw`; by default of an id and a name."""
    columns = columns or {"id": {"type": "bigint", "nullable": False}, "name": {"type": "string"}}
    return TableContract.model_validate({"name": "tiny_raw", "grain": "one row per thing", "columns": columns, **keys})


def image_contract(**keys: Any) -> TableContract:
    """A contract of rows that a pipeline can train on: id, image (2 x 2 grey levels) and digit."""
    columns = {
        "id": {"type": "bigint", "nullable": False},
        "image": {"type": "binary", "nullable": False, "text": "decimal", "tensor": {"dtype": "uint8", "shape": [2, 2, 1]}},
        "digit": {"type": "int", "nullable": False, "range": [0, 9]},
    }
    return make_contract({**columns, **keys.pop("columns", {})}, **{"key": ["id"], **keys})


def pipeline_values(**sections: Any) -> dict[str, Any]:
    """What the file of a pipeline called `tiny` says, with other sections in the place of its own."""
    values = {
        "name": "tiny",
        "source": {"name": "tiny", "format": "csv", "path": "/nowhere", "schema": "tiny_raw"},
        "split": {"key": ["id"], "seed": 7, "fractions": {"train": 0.7, "validation": 0.1, "test": 0.2}},
        "features": [{"column": "image", "encode": "scale", "divisor": 16, "shape": [2, 2, 1]}],
        "label": {"column": "digit", "kind": "class"},
        "model": {"family": "mlp", "hidden": [4]},
        "training": {"batch_size": 8, "epochs": 1},
    }
    return {**values, **sections}


def make_pipeline(**sections: Any) -> PipelineConfig:
    """The pipeline of `pipeline_values`."""
    return PipelineConfig.model_validate(pipeline_values(**sections))


def make_run(pipeline: str = "tiny", night: str = NIGHT, config: str = "c0ffee00") -> Run:
    """A run with the config hash `config`."""
    return Run(pipeline, night, f"{pipeline}-{night}-{config[:8]}", config, "abc123")


def make_step(
    name: str = "ingest",
    *,
    sections: Sequence[Any] = (),
    inputs: Inputs = Inputs(),  # noqa: B008 (frozen)
    outputs: Sequence[TableVersion] = (),
    counts: Counts = Counts(),  # noqa: B008 (frozen)
    error: BaseException | None = None,
) -> Step:
    """A step that gives these outputs, or raises `error`."""

    def work(_: Attempt) -> Outcome:
        if error is not None:
            raise error
        return Outcome(tuple(outputs), counts)

    return Step(name, f"{name}-tiny", sections, lambda _: inputs, work)


def succeed(lake: Lake, *outputs: TableVersion, name: str = "ingest", run: Run | None = None) -> None:
    """Lets a step succeed that names these versions."""
    run_step(lake, run or make_run(), make_step(name, outputs=outputs), force=True)


def make_attempt(lake: Lake, *, name: str = "preprocess", run: Run | None = None, key: str = "k1") -> Attempt:
    """A try at a step, with the ledger as it is now."""
    return Attempt(lake, run or make_run(), name, key, 1, Inputs(), Ledger.read(lake))


def raw_file(path: str = "/raw/a.csv", sha256: str = "aa") -> RawFile:
    """A raw file as the ledger knows it."""
    return RawFile(path, 10, sha256)


def write_file(path: Path, content: bytes | str) -> str:
    """Writes a file, gzipped where its name says so, and returns its path."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def idx_images(num_images: int, *, shape: tuple[int, int] = (2, 2), kind: int = 8, extra: bytes = b"") -> bytes:
    """An idx file of images whose bytes count up from 0."""
    data = bytes(number % 256 for number in range(num_images * shape[0] * shape[1]))
    return bytes([0, 0, kind, 3]) + struct.pack(">3I", num_images, *shape) + data + extra


def idx_labels(labels: Sequence[int], *, num_labels: int | None = None) -> bytes:
    """An idx file of labels; its header may claim another number of them."""
    return bytes([0, 0, 8, 1]) + struct.pack(">I", len(labels) if num_labels is None else num_labels) + bytes(labels)
