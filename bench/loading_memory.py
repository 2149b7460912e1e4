"""Peak memory of reading a table, in a process of its own: `python -m bench.loading_memory DIRECTORY TIMES`.

The images' table is read TIMES over in one epoch, as that many tables would be: each file is linked under further names, so that
the reader opens TIMES as many files with TIMES as many row groups, and the disk holds them once. Windows of 32 MiB: the table has
six of them. Prints {"peak_bytes", "start_bytes", "num_rows", "num_windows"}.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from bench.loading_data import SHAPES
from bench.loading_peers import index_of, reader_of
from millrace.loading.index import DatasetIndex, RowGroup

SHAPE = SHAPES["images"]
WINDOW_BYTES = 32 * 2**20


def repeated(index: DatasetIndex, times: int, directory: Path) -> DatasetIndex:
    """The index of `times` tables like the first, whose files are linked into `directory`."""
    files: list[str] = []
    row_groups: list[RowGroup] = []
    for copy in range(times):
        first = len(files)
        for number, uri in enumerate(index.files):
            link = directory / f"copy-{copy}-{number}.parquet"
            if not link.exists():
                os.link(uri, link)
            files.append(str(link))
        row_groups += [group._replace(file=group.file + first) for group in index.row_groups]
    return replace(index, files=tuple(files), identities=index.identities * times, row_groups=tuple(row_groups))


def memory_bytes(name: str) -> int:
    """VmHWM (peak) or VmRSS (now) of this process. Unlike getrusage, not the peak of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Read one epoch and print what it took."""
    from millrace.training.step import as_tensor

    directory, times = Path(sys.argv[1]), int(sys.argv[2])
    links = directory / "links"
    links.mkdir(exist_ok=True)
    index = repeated(index_of(SHAPE, directory), times, links)
    reader = reader_of(index, SHAPE, virtual_shards=8, shuffle_bytes=WINDOW_BYTES)
    start, num_rows = memory_bytes("VmRSS"), 0
    for batch in reader.batches(0):
        num_rows += int(as_tensor(batch.columns["image"]).shape[0])
    print(
        json.dumps(
            {
                "peak_bytes": memory_bytes("VmHWM"),
                "start_bytes": start,
                "num_rows": num_rows,
                "num_windows": num_rows * SHAPE.row_bytes // WINDOW_BYTES,
            }
        )
    )


if __name__ == "__main__":
    main()
