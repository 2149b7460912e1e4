"""Files that are made to fill memory, read in a process of its own: its peak stays under a cap, whatever they unpack to."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.factories import make_contract

MIB = 1024**2
ONE_OF_TWO = {"line_too_long": 1, "good": 1}
SIZE = 150
"""MB that a file unpacks to, where it is not more."""
CAP_MIB = 140
TEXT = {"type": "string"}
BYTES = {"type": "binary"}
WARC_HEAD = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: %d\r\n\r\n"
TS_HEAD = b"@classLabel false\n@data\n"
DIGITS = {"subset": TEXT, "index": {"type": "int"}, "image": BYTES, "digit": {"type": "int"}}

READER = """
import json, sys
from pydantic import TypeAdapter
from millrace.config.sources import SourceConfig
from millrace.contracts.table import TableContract
from millrace.errors import MillraceError
from millrace.sources.read import source_of

def peak_kib():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

for line in sys.stdin:
    case = json.loads(line)
    source = source_of(TypeAdapter(SourceConfig).validate_python(case["source"]))
    contract = TableContract.model_validate(case["contract"])
    open("/proc/self/clear_refs", "w").write("5")  # the peak from here on
    before, rows, error = peak_kib(), {}, None
    try:
        paths = source.find(case["source"]["path"])
        source.check(paths, contract)
        for unit in source.reader.units(paths):
            for batch in source.reader.read(unit, contract):
                for rule in batch.column(batch.schema.get_field_index("_rule")).to_pylist():
                    rows[rule or "good"] = rows.get(rule or "good", 0) + 1
    except MillraceError as refused:
        error = str(refused)
    print(json.dumps([rows, error, (peak_kib() - before) // 1024]), flush=True)
"""


def pack(path: Path, parts: Iterable[bytes]) -> None:
    with gzip.open(path, "wb", 1) if path.name.endswith(".gz") else path.open("wb") as stream:
        for part in parts:
            stream.write(part)


def idx_bomb(directory: Path) -> None:
    """Images of a megapixel, of which there are none, and 150 MB of labels: as many of each by the headers, 4 billion."""
    pack(directory / "x-images-idx3-ubyte.gz", [b"\0\0\x08\3", *[n.to_bytes(4, "big") for n in (2**32 - 1, 1024, 1024)]])
    pack(directory / "x-labels-idx1-ubyte.gz", [b"\0\0\x08\1", (2**32 - 1).to_bytes(4, "big"), *[bytes(MIB)] * SIZE])


def equal_texts(path: Path) -> None:
    """One text of 1 MB, which 2,000 rows have: 50 KB."""
    texts = pa.DictionaryArray.from_arrays(np.zeros(2_000, np.int32), ["y" * 1_000_000])
    pq.write_table(pa.table({"x": texts}), path)


def long_texts(path: Path) -> None:
    """Texts of 1 MB, written out and well compressed."""
    schema = pa.schema([("x", pa.string())])
    with pq.ParquetWriter(path, schema, use_dictionary=False, compression="zstd", write_batch_size=4) as writer:
        texts = pa.table([[chr(97 + number % 26) * 1_000_000 for number in range(SIZE)]], schema=schema)
        writer.write_table(texts, row_group_size=SIZE)


CASES: dict[str, tuple[str, dict[str, Any], Any, dict[str, int], str | None]] = {
    "a.csv.gz": ("csv", {"x": TEXT}, [b"x\n", *[b"y" * MIB] * SIZE, b"\nz\n"], ONE_OF_TWO, None),
    "b.jsonl.gz": (
        "jsonl",
        {"x": TEXT},
        [b'{"x": "', *[b"y" * MIB] * SIZE, b'"}\n{"x": 1}\n'],
        {"line_too_long": 1, "good": 1},
        None,
    ),
    "c.ts": (
        "ts",
        {"series": BYTES},
        [TS_HEAD, *[b"1," * (MIB // 2)] * SIZE, b"1\n1,2\n"],
        {"line_too_long": 1, "good": 1},
        None,
    ),
    "d.ts": ("ts", {"series": BYTES}, [TS_HEAD, *[b"1," * (MIB // 2)] * 5, b"1\n"], {"good": 1}, None),
    "e.ts.gz": ("ts", {"series": BYTES}, [b"@x 1\n" * (2 * MIB)], {}, "found no line @data"),
    "f.warc.gz": (
        "warc",
        {"payload": BYTES},
        [WARC_HEAD % (SIZE * MIB), *[bytes(MIB)] * SIZE, b"\r\n\r\n"],
        {"record_too_large": 1},
        None,
    ),
    "g.warc.gz": (
        "warc",
        {"payload": BYTES},
        [WARC_HEAD[:8] + b"\r\nX: ", *[b"y" * MIB] * SIZE],
        {"broken_header": 1},
        None,
    ),
    "idx": ("idx", DIGITS, idx_bomb, {}, "it ends 67108864 bytes early"),
    "h.parquet": ("parquet", {"x": TEXT}, equal_texts, {"good": 2_000}, None),
    "i.parquet": ("parquet", {"x": TEXT}, long_texts, {"good": SIZE}, None),
}


QUICK = ("c.ts", "idx", "f.warc.gz", "h.parquet")


@pytest.mark.parametrize("names", [QUICK, pytest.param(tuple(CASES), marks=pytest.mark.full)], ids=["some", "all"])
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from Linux's /proc")
def test_memory_stays_under_the_cap(tmp_path: Path, names: tuple[str, ...]) -> None:
    """What each of these unpacks to would take 150 MB to 2 GB, were it ever whole in memory."""
    asked = []
    for name in names:
        kind, columns, content, _, _ = CASES[name]
        path = tmp_path / name
        if kind == "idx":
            path.mkdir()
        if callable(content):
            content(path)
        else:
            pack(path, content)
        source = {"name": "tiny", "format": kind, "path": str(path), "schema": "tiny_raw"}
        asked.append(
            json.dumps({"source": source, "contract": make_contract(columns).model_dump(mode="json", exclude_none=True)})
        )
    done = subprocess.run(
        [sys.executable, "-c", READER], input="\n".join(asked), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    peaks = {}
    for name, line in zip(names, done.stdout.splitlines(), strict=True):
        _, _, _, rows, error = CASES[name]
        found, refused, peaks[name] = json.loads(line)
        assert found == rows, (name, refused)
        assert (refused is None) == (error is None), (name, refused)
        assert error is None or error in refused, name
    assert max(peaks.values()) < CAP_MIB, peaks
