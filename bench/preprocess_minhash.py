"""Near-duplicates in 100,000 documents, on two threads: Millrace against datatrove and Spark ML, and against the exact answer.

The documents are passages of the shared corpora and edited copies (minhash_data.py). Millrace and Spark ML run in a session that
has done a tenth of the documents before; datatrove's start-up is not counted. All go from files to files of what stays, but Spark
ML, which stops at the pairs. It gets a time limit: where it does not finish, the ratio is a lower bound, and `spark_ml_finished`
is 0. A side's peak memory is that of its whole process tree. Alone: `python -m bench.preprocess_minhash [NUM_DOCUMENTS]`.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import commands, peers
from bench.minhash_data import NUM_DOCUMENTS, documents, write
from bench.minhash_exact import groups_of, near_pairs, pairs_within, scores
from bench.report import Bound, Figure, Result, print_table
from bench.tree_memory import TreeMemory
from bench.workers import ROOT, Worker

THREADS = 2
SEED = 7
THRESHOLD = 0.8
LIMIT_SECONDS = 600.0
_TIMEOUT_SECONDS = 1800.0

BOUNDS = (
    ("minhash_vs_datatrove", "datatrove", 5.0),
    ("minhash_vs_datatrove_same_tokenizer", "datatrove_words", 1.5),
    ("minhash_vs_spark_ml", "spark_ml", 3.0),
)
"""Another side's seconds over Millrace's."""
MIN_F1 = 0.95

Side = Mapping[str, Any]
"""seconds, peak_bytes, finished."""


def run(num_rounds: int) -> Result:
    """Millrace as often as said, at least 3 times; the others, which take minutes, once. Raises MillraceError where one fails."""
    return measure(max(num_rounds, 3), NUM_DOCUMENTS)


def measure(num_rounds: int, num_documents: int) -> Result:
    """All sides on so many documents."""
    data = Path(os.environ.get("MILLRACE_DATA") or ROOT.parent / "shared" / "data").resolve()
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as name:
        directory = Path(name)
        _say("writing documents")
        texts = documents(data, num_documents, SEED)
        write(texts, directory / "all", THREADS)
        write(texts[: num_documents // 10], directory / "tenth", THREADS)
        sides: dict[str, list[Side]] = {"millrace": [], "spark_ml": [], "datatrove": [], "datatrove_words": []}
        with Worker("bench.minhash_spark", str(THREADS), environment={}, timeout_seconds=_TIMEOUT_SECONDS) as worker:
            for side, rounds in (("millrace", num_rounds), ("spark_ml", 1)):
                for number in range(rounds + 1):
                    _say(f"{side}, {'warming up' if number == 0 else f'round {number}/{rounds}'}")
                    source = str(directory / ("all" if number else "tenth"))
                    out = str(directory / side)
                    answer = worker.ask(side=side, source=source, out=out, limit_seconds=LIMIT_SECONDS)
                    sides[side] += [answer] if number else []
        for side, kind in (("datatrove_words", "words"), ("datatrove", "stock")):
            _say(side)
            sides[side].append(datatrove(directory / "all", directory / side, kind))
        _say("exact join")
        return summarise(sides, quality(texts, directory), len(texts))


def datatrove(source: Path, work: Path, kind: str) -> Side:
    """datatrove's pipeline in the peers' environment."""
    script = str(ROOT / "bench" / "minhash_datatrove.py")
    python = str(peers.python())
    with TreeMemory(without_self=True) as memory:
        done = commands.run(
            [python, script, str(source), str(work), kind, str(THREADS)],
            cwd=ROOT,
            environment=peers.environment(),
            timeout_seconds=_TIMEOUT_SECONDS,
        )
    return {**json.loads(done.stdout.splitlines()[-1]), "peak_bytes": memory.peak_bytes, "finished": True}


def quality(texts: Sequence[str], directory: Path) -> dict[str, float]:
    """Precision, recall and F1 of each side against the exact join: of dropped rows, and of pairs in one group."""
    truth = groups_of(near_pairs(texts, ngram=5, threshold=THRESHOLD), len(texts))
    dropped = {place for place, first in enumerate(truth) if place != first}
    kept = {int(row["row_id"]): int(row["kept"]) for row in _rows(directory / "millrace-dropped")}
    found = {"rows": scores(set(kept), dropped)}
    found["pairs"] = scores(pairs_within([kept.get(place, place) for place in range(len(texts))]), pairs_within(truth))
    for peer in ("datatrove", "datatrove_words"):
        # datatrove keeps another row of a group than the first: only how many it drops can be compared.
        num_kept = len(json.loads((directory / peer / "kept.json").read_text()))
        found[peer] = {"dropped": float(len(texts) - num_kept)}
    found["exact"] = {"dropped": float(len(dropped))}
    found["millrace"] = {"dropped": float(len(kept))}
    return {f"{side}/{name}": value for side, values in found.items() for name, value in values.items()}


def summarise(sides: Mapping[str, Sequence[Side]], found: Mapping[str, float], num_documents: int) -> Result:
    """Medians of each side, its seconds over Millrace's, and the bounds."""
    seconds = {side: statistics.median(one["seconds"] for one in rounds) for side, rounds in sides.items()}
    memory = {side: max(one["peak_bytes"] for one in rounds) / 2**30 for side, rounds in sides.items()}
    ratios = {name: seconds[side] / seconds["millrace"] for name, side, _ in BOUNDS}
    figures = [Figure("minhash/num_documents", num_documents, "documents")]
    figures += [Figure(f"minhash/{side}", value, "s") for side, value in seconds.items()]
    figures += [Figure(f"minhash/{side}/peak_memory", value, "GiB") for side, value in memory.items()]
    figures += [
        Figure(f"minhash/{name}", value, "rows" if name.endswith("dropped") else "share") for name, value in found.items()
    ]
    figures.append(Figure("minhash/spark_ml_finished", float(all(one["finished"] for one in sides["spark_ml"])), "yes or no"))
    return Result(
        figures=figures,
        bounds=[
            Bound("minhash_f1", found["rows/f1"], ">=", MIN_F1),
            *[Bound(name, ratios[name], ">=", limit) for name, _, limit in BOUNDS],
        ],
        details=[
            Figure(f"round_{number}/minhash/{side}", one["seconds"], "s")
            for side, rounds in sides.items()
            for number, one in enumerate(rounds, start=1)
        ],
    )


def _rows(directory: Path) -> Iterator[dict[str, str]]:
    for path in sorted(directory.glob("part-*")):
        with path.open() as stream:
            yield from (json.loads(line) for line in stream)


def _say(text: str) -> None:
    print(f"bench minhash: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    measured = measure(3, int(sys.argv[1]) if len(sys.argv) > 1 else NUM_DOCUMENTS)
    print_table("minhash", measured, Console())
    sys.exit(0 if measured.holds else 1)
