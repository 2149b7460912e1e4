"""A small copy of the shipped pipelines' raw data, in the same formats under the same names."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

LINES = 400
MEMBERS = 30
"""Of each directory in an archive."""
WHOLE = (".ts", ".warc", ".jsonl", ".json", ".wet")


def copy_sample(path: str, data: Path, target: Path) -> None:
    """The files that a source's path names under `data`, each cut short, at the same places under `target`."""
    place = Path(path)
    if place.is_dir():
        files: Iterable[Path] = (found for found in place.rglob("*") if found.is_file() and found.name != "SOURCE.md")
    else:
        files = place.parent.glob(place.name)
    for found in files:
        made = target / found.relative_to(data)
        made.parent.mkdir(parents=True, exist_ok=True)
        _copy(found, made)


def _copy(found: Path, made: Path) -> None:
    name = found.name
    if name.endswith((".tar", ".tar.gz")):
        _copy_members(found, made, compression=":gz" if name.endswith(".gz") else "")
    elif name.endswith(".zip"):
        with zipfile.ZipFile(found) as archive, zipfile.ZipFile(made, "w") as copy:
            for member in archive.infolist():
                with archive.open(member) as stream:
                    copy.writestr(member.filename, b"".join(islice(stream, LINES)))
    elif any(suffix in WHOLE for suffix in found.suffixes):
        shutil.copyfile(found, made)
    elif "idx" in name:
        _copy_idx(found, made)
    elif name.endswith(".gz"):
        with gzip.open(found, "rb") as lines, gzip.open(made, "wb") as out:
            out.writelines(islice(lines, LINES))
    else:
        with found.open("rb") as stream, made.open("wb") as out:
            out.writelines(islice(stream, LINES))


def _copy_idx(found: Path, made: Path) -> None:
    """The first items: 4 bytes that end with the number of dimensions, the dimensions, the items."""
    data = gzip.decompress(found.read_bytes())
    first = 4 + 4 * data[3]
    num_items = int.from_bytes(data[4:8], "big")
    item_bytes = (len(data) - first) // num_items
    made.write_bytes(gzip.compress(data[:4] + LINES.to_bytes(4, "big") + data[8 : first + LINES * item_bytes]))


def _copy_members(found: Path, made: Path, *, compression: str) -> None:
    taken: Counter[str] = Counter()
    with tarfile.open(found, f"r{compression}") as archive, tarfile.open(made, f"w{compression}") as copy:
        for member in archive:
            stream = archive.extractfile(member)
            folder = str(Path(member.name).parent)
            if stream is None or taken[folder] >= MEMBERS:
                continue
            taken[folder] += 1
            copy.addfile(member, io.BytesIO(stream.read()))
