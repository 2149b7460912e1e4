"""kddcup99 as a table of millions of rows: its connections again and again, each with a number of its own in front, as CSV.

The number is the contract's key (kddcup99 has none), and decides the split. One row in 10,000 has a rate of 1.50, which the
contract refuses. The pipeline standardizes the 38 numbers and takes the three texts as ids; every side does the same.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from millrace.errors import MillraceError

NUM_FILES = 8
SEED = 7
NAME = "connections"
KEY, LABEL = "id", "attack"
TEXTS = ("protocol_type", "service", "flag")
WHERE = {"test": "id % 10 = 9", "validation": "id % 10 = 8"}
"""All other rows train."""
_BROKEN_EVERY, _BROKEN_FIELD, _BROKEN = 10_000, 24, "1.50"


def schema() -> dict[str, Any]:
    """The contract: that of kddcup99, with the key."""
    raw = yaml.safe_load((Path(__file__).parent.parent / "schemas" / "kddcup99_raw.yaml").read_text())
    columns = {KEY: {"type": "bigint", "nullable": False}, **raw["columns"]}
    return {**raw, "name": f"{NAME}_raw", "key": [KEY], "columns": columns}


def numbers() -> list[str]:
    """The columns that are standardized."""
    return [name for name, column in schema()["columns"].items() if column["type"] != "string" and name != KEY]


def rates() -> list[str]:
    """The columns that lie between 0 and 1."""
    return [name for name, column in schema()["columns"].items() if "range" in column]


def pipeline(path: str) -> dict[str, Any]:
    """The pipeline file, over the files at `path`."""
    split = {"seed": SEED, "key": [KEY], "fractions": {"train": 1.0}}
    return {
        "name": NAME,
        "source": {"name": NAME, "format": "csv", "path": path, "schema": f"{NAME}_raw"},
        "quality": {"max_reject_ratio": 0.001, "profile": False},
        "split": {**split, **{name: {"where": where} for name, where in WHERE.items()}},
        "features": [{"columns": numbers(), "encode": "zscore"}, {"columns": list(TEXTS), "encode": "index"}],
        "label": {"column": LABEL, "kind": "class"},
    }


def write_conf(directory: Path, path: str) -> None:
    """The pipeline and its contract, as `--conf-dir` takes them."""
    for folder, name, content in (("pipelines", NAME, pipeline(path)), ("schemas", f"{NAME}_raw", schema())):
        (directory / folder).mkdir(parents=True, exist_ok=True)
        (directory / folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def write_rows(data: Path, directory: Path, num_rows: int) -> int:
    """Writes the rows as NUM_FILES files with a header. Returns their bytes. Raises MillraceError where kddcup99 is missing."""
    directory.mkdir(parents=True)
    rows = itertools.islice(_rows(_lines(data)), num_rows)
    header = ",".join(schema()["columns"]) + "\n"
    share = -(-num_rows // NUM_FILES)
    num_bytes = 0
    for number in range(NUM_FILES):
        text = header + "".join(itertools.islice(rows, share))
        (directory / f"part-{number}.csv").write_text(text)
        num_bytes += len(text)
    return num_bytes


def _lines(data: Path) -> list[str]:
    try:
        with gzip.open(data / "kddcup99_10pct" / "kddcup.data_10_percent.gz", "rt") as stream:
            return stream.readlines()
    except OSError as error:
        raise MillraceError(
            "bench", expected="kddcup99 under MILLRACE_DATA", found=str(error), remedy="Set MILLRACE_DATA to where it is."
        ) from None


def _rows(lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(itertools.cycle(lines)):
        if number % _BROKEN_EVERY != _BROKEN_EVERY - 1:
            yield f"{number},{line}"
            continue
        fields = line.split(",")
        yield ",".join([str(number), *fields[:_BROKEN_FIELD], _BROKEN, *fields[_BROKEN_FIELD + 1 :]])
