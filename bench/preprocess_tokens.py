"""Tokenizing on Spark against a bare loop of `tokenizers`, on the same texts in one run.

English and Chinese texts from $MILLRACE_DATA, each once, at least 20 MB of them, in an order drawn from their hashes; a BPE of
bytes with 32,000 tokens, trained on a sample of them. Both sides have two threads and a process of their own, read the texts from
Parquet and hold the ids at the end of each batch: Spark (local[2], a warm session) drops them, the loop makes int32 of them. No
side sees a text twice: every round starts with an empty memory of pieces. Before the rounds the ids of all rows are compared.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import statistics
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.report import Bound, Figure, Result
from bench.workers import Worker
from millrace.config.tokens import BpeFeature
from millrace.contracts.tokenizer import SavedTokenizer
from millrace.errors import MillraceError
from millrace.fit.tokenizer import train_tokenizer

VOCABULARY = 32_000
MIN_BYTES = 20_000_000
MIN_VS_BARE = 0.8
NUM_FILES = 8
SIDES = ("spark", "bare")
TEXTS, WARM_UP, TOKENIZER = "texts", "warm-up", "tokenizer.json"
_SAMPLE_BYTES = 8 * 1024**2
_WARM_UP_TEXTS = [f"{number} warm up {number * number}" for number in range(200)]
_TIMEOUT_SECONDS = 900.0
_ENVIRONMENT = {"RAYON_NUM_THREADS": "2", "PYTHONWARNINGS": "ignore"}

Round = Mapping[str, Mapping[str, float]]
"""By side, seconds and cpu_seconds (of all processes of the side; it tells most where others use the machine too)."""


def run(num_rounds: int) -> Result:
    """Measure. Raises MillraceError where the data is missing, a side fails, or the sides' ids differ."""
    return measure(num_rounds, texts=distinct_texts(data_directory()), min_bytes=MIN_BYTES, vocabulary=VOCABULARY)


def measure(num_rounds: int, *, texts: Sequence[str], min_bytes: int, vocabulary: int) -> Result:
    """Seconds of both sides on some texts."""
    num_bytes = sum(len(text.encode()) for text in texts)
    if num_bytes < min_bytes:
        raise _wrong(f"at least {min_bytes:,} bytes of distinct text", f"{num_bytes:,}", "Set MILLRACE_DATA to all data sets.")
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        _say(f"training on {_SAMPLE_BYTES:,} of {num_bytes:,} bytes")
        write_inputs(directory, texts, vocabulary)
        sides = {
            side: stack.enter_context(
                Worker("bench.preprocess_tokens_sides", side, name, environment=_ENVIRONMENT, timeout_seconds=_TIMEOUT_SECONDS)
            )
            for side in SIDES
        }
        cold_seconds = {side: worker.ask(ask="start")["seconds"] for side, worker in sides.items()}
        _say("comparing all ids")
        checked = {side: worker.ask(ask="check") for side, worker in sides.items()}
        if checked["spark"] != checked["bare"]:
            raise _wrong("the same ids from both sides", json.dumps(checked), "Look for the first row that differs.")
        rounds = []
        for number in range(num_rounds):
            _say(f"round {number + 1}/{num_rounds}")
            order = SIDES if number % 2 else SIDES[::-1]
            rounds.append({side: dict(sides[side].ask(ask="pass", number=number)) for side in order})
        peaks = {side: float(worker.ask(ask="peak")["bytes"]) for side, worker in sides.items()}
    figures = [Figure(f"cold_start/{side}", seconds, "s") for side, seconds in cold_seconds.items()]
    figures += [Figure(f"peak_memory/{side}", peak / 2**20, "MiB") for side, peak in peaks.items()]
    figures += [
        Figure("texts", num_bytes / 1e6, "MB"),
        Figure("rows", len(texts), "rows"),
        Figure("tokens", checked["bare"]["num_ids"], "tokens"),
    ]
    return summarise(rounds, num_bytes, figures)


def summarise(rounds: Sequence[Round], num_bytes: int, others: Sequence[Figure]) -> Result:
    """Medians over the rounds; the ratio is the median of each round's own, so that a slow minute hits both sides."""

    def ratio(of: str) -> float:
        return statistics.median(one["bare"][of] / one["spark"][of] for one in rounds)

    medians = {side: statistics.median(one[side]["seconds"] for one in rounds) for side in SIDES}
    figures = [Figure(f"tokenize/{side}", num_bytes / 1e6 / seconds, "MB/s") for side, seconds in medians.items()]
    return Result(
        figures=[
            *figures,
            Figure("tokenize_vs_bare", ratio("seconds"), "ratio"),
            Figure("cpu_vs_bare", ratio("cpu_seconds"), "ratio"),
            *others,
        ],
        bounds=[Bound("tokenize_vs_bare", ratio("seconds"), ">=", MIN_VS_BARE)],
        details=[
            Figure(f"round_{number}/{side}/{name}", seconds, "s")
            for number, one in enumerate(rounds, start=1)
            for side, times in one.items()
            for name, seconds in times.items()
        ],
    )


def write_inputs(directory: Path, texts: Sequence[str], vocabulary: int) -> None:
    """The texts as Parquet in files of equal mixture, a few others to warm up on, and the tokenizer."""
    sample, size = [], 0
    for text in texts:
        sample.append(text)
        size += len(text.encode())
        if size > _SAMPLE_BYTES:
            break
    feature = BpeFeature(column="text", encode="bpe", vocab_size=vocabulary)
    (directory / TOKENIZER).write_text(json.dumps(train_tokenizer(sample, feature=feature).to_json()))
    for name, num_files, rows in (
        (TEXTS, NUM_FILES, texts),
        (WARM_UP, 2, _WARM_UP_TEXTS),
    ):
        (directory / name).mkdir()
        for file in range(num_files):
            numbers = range(file, len(rows), num_files)
            table = pa.table({"number": pa.array(numbers, pa.int64()), "text": [rows[number] for number in numbers]})
            pq.write_table(table, directory / name / f"part-{file}.parquet")


def saved_tokenizer(directory: Path, *, number: int) -> SavedTokenizer:
    """The tokenizer, told apart from that of other rounds, so that nothing is remembered of them."""
    found = json.loads((directory / TOKENIZER).read_text())
    return SavedTokenizer.from_json({**found, "dictionary": f"round {number}"})


def data_directory() -> Path:
    """Where the data sets lie."""
    return Path(os.environ.get("MILLRACE_DATA", "../shared/data"))


def distinct_texts(data: Path) -> list[str]:
    """All texts, each once, in the order of their hashes. Raises MillraceError where a data set is missing."""
    try:
        found = {text.strip() for text in _texts(data)}
    except OSError as error:
        raise _wrong("text data sets under MILLRACE_DATA", str(error), "Set MILLRACE_DATA to where they are.") from None
    return sorted(found - {""}, key=lambda text: hashlib.sha256(text.encode()).digest())


def _texts(data: Path) -> Iterator[str]:
    for archive in ("aclImdb_train.tar.gz", "aclImdb_test.tar.gz"):
        with tarfile.open(data / "imdb" / archive) as members:
            for member in members:
                stream = members.extractfile(member)
                if stream is not None:
                    yield stream.read().decode("utf-8", "replace")
    for name in ("valid.txt", "test.txt"):
        yield from (data / "wikitext2_eval" / name).read_text().splitlines()
    for name in ("plato_republic/republic.txt", "tiny_shakespeare/input.txt"):
        yield from (data / name).read_text("utf-8-sig", "replace").split("\n\n")
    for path in sorted((data / "zh_classic_novels").glob("*.txt")):
        yield from path.read_text().splitlines()
    with (data / "ag_news" / "test.csv").open(newline="") as lines:
        yield from (row[2] for row in csv.reader(lines))
    with (data / "waimai_10k" / "waimai_10k.csv").open(newline="") as lines:
        yield from (row[1] for row in csv.reader(lines))
    with zipfile.ZipFile(data / "online_shopping_10_cats" / "online_shopping_10_cats.zip") as archive_file:
        content = archive_file.read("online_shopping_10_cats.csv").decode("utf-8-sig")
        yield from (row[2] for row in csv.reader(io.StringIO(content)))


def _wrong(expected: str, found: str, remedy: str) -> MillraceError:
    return MillraceError("bench", expected=expected, found=found, remedy=remedy)


def _say(text: str) -> None:
    print(f"bench preprocess_tokens: {text}", file=sys.stderr, flush=True)
