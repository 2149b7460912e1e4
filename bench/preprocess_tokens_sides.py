"""The two sides of the tokenizing benchmark, each in a process of its own: arguments SIDE DIRECTORY.

spark       a warm session on local[2]: read Parquet, `tokenize`, hand every Arrow batch back to Spark, which drops it
bare        `encode_batch` of 2,000 texts at a time, on two threads, and the ids of each text as int32
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import psutil
import pyarrow.parquet as pq

from bench.preprocess_tokens import NUM_FILES, TEXTS, TOKENIZER, WARM_UP, saved_tokenizer
from bench.workers import serve

BATCH_SIZE = 2_000
NUM_THREADS = 2
_CHECK = -1  # the number of the pass that is compared, not timed


class Side(Protocol):
    """What is measured."""

    def start(self, directory: Path) -> None:
        """Everything up to a warm state."""

    def passes(self, directory: Path, number: int) -> float:
        """Seconds of all texts once."""

    def ids(self, directory: Path) -> Iterator[tuple[int, bytes]]:
        """(number, int32 ids) of every row, in any order."""


class SparkSide:
    """Ours."""

    def start(self, directory: Path) -> None:
        from millrace.session import open_session

        settings = {"spark.master": f"local[{NUM_THREADS}]", "spark.sql.shuffle.partitions": "2"}
        self._spark = open_session("bench", settings)
        self._spark.sparkContext.setLogLevel("OFF")
        for _ in range(3):
            self._drop(directory, WARM_UP, _CHECK - 1)

    def passes(self, directory: Path, number: int) -> float:
        started = time.perf_counter()
        self._drop(directory, TEXTS, number)
        return time.perf_counter() - started

    def ids(self, directory: Path) -> Iterator[tuple[int, bytes]]:
        for row in self._tokens(directory, TEXTS, _CHECK).toLocalIterator():
            yield row["number"], bytes(row["text"])

    def _tokens(self, directory: Path, name: str, number: int) -> Any:
        from millrace.transforms.tokens import TokenColumn, tokenize

        rows = self._spark.read.parquet(str(directory / name))
        return tokenize(rows, columns=[TokenColumn("text", saved_tokenizer(directory, number=number))])

    def _drop(self, directory: Path, name: str, number: int) -> None:
        self._tokens(directory, name, number).write.format("noop").mode("overwrite").save()


class BareSide:
    """The peer."""

    def start(self, directory: Path) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "true"
        self._once(directory, WARM_UP, _CHECK - 1)

    def passes(self, directory: Path, number: int) -> float:
        return self._once(directory, TEXTS, number)[0]

    def ids(self, directory: Path) -> Iterator[tuple[int, bytes]]:
        return iter(self._once(directory, TEXTS, _CHECK, keep=True)[1])

    def _once(self, directory: Path, name: str, number: int, *, keep: bool = False) -> tuple[float, list[tuple[int, bytes]]]:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(saved_tokenizer(directory, number=number).tokenizer_json)  # not timed: Spark's side is
        kept: list[tuple[int, bytes]] = []
        started = time.perf_counter()
        for path in sorted((directory / name).iterdir()):
            table = pq.read_table(path)
            numbers, texts = table.column("number").to_pylist(), table.column("text").to_pylist()
            for first in range(0, len(texts), BATCH_SIZE):
                encodings = tokenizer.encode_batch(texts[first : first + BATCH_SIZE])
                ids = [array("i", encoding.ids).tobytes() for encoding in encodings]
                if keep:
                    kept += zip(numbers[first : first + BATCH_SIZE], ids, strict=True)
        return time.perf_counter() - started, kept


def check(rows: Iterator[tuple[int, bytes]]) -> dict[str, Any]:
    """Rows, ids and a digest that all rows' ids go into."""
    digests, num_ids = {}, 0
    for number, ids in rows:
        digests[number] = hashlib.sha256(ids).digest()
        num_ids += len(ids) // 4
    whole = hashlib.sha256(b"".join(digest for _, digest in sorted(digests.items())))
    return {"num_rows": len(digests), "num_ids": num_ids, "digest": whole.hexdigest()}


def cpu_seconds() -> float:
    """What this process and all below it have computed so far; those that have ended are left out."""
    own, total = psutil.Process(), 0.0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


class Memory:
    """The most that this process and all below it have held together, looked at ten times a second."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        own = psutil.Process()
        while True:
            total = 0
            for process in (own, *own.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    total += process.memory_info().rss
            self.peak_bytes = max(self.peak_bytes, total)
            time.sleep(0.1)


def main() -> None:
    """Answers {"ask": start | check | pass | peak}."""
    side: Side = SparkSide() if sys.argv[1] == "spark" else BareSide()
    directory, memory = Path(sys.argv[2]), Memory()
    assert (directory / TOKENIZER).exists()
    assert len(list((directory / TEXTS).iterdir())) == NUM_FILES

    def answer(*, ask: str, number: int = 0) -> Mapping[str, Any]:
        if ask == "start":
            started = time.perf_counter()
            side.start(directory)
            return {"seconds": time.perf_counter() - started}
        if ask == "check":
            return check(side.ids(directory))
        if ask == "peak":
            return {"bytes": memory.peak_bytes}
        before = cpu_seconds()
        return {"seconds": side.passes(directory, number), "cpu_seconds": cpu_seconds() - before}

    serve(answer)


if __name__ == "__main__":
    main()
