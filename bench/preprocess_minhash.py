"""Near-duplicates in 100,000 documents, on two threads: Millrace against datatrove and Spark ML, and against the exact answer.

The documents are passages of the shared corpora and edited copies (minhash_data.py). Spark ML gets the fewest tables with which
it finds as great a share of the near pairs as Millrace, both measured against the exact answer; with three, whose recall at the
threshold is Millrace's by the formulas, it stands beside that. Millrace and Spark ML run in a session that has done all documents
three times before, and a tenth of them just before (Spark ends Python workers that were idle for a minute); datatrove's start-up
is not counted. All go from files to files of what stays, but Spark ML, which stops at the pairs. The sides take turns, each round
in the other order; stock datatrove, which takes minutes, once. Spark ML gets a time limit: where it does not finish, the ratio is
a lower bound, and `spark_ml_finished` is 0. What each side has found is held against the exact answer. Peak memory is that of a
side's whole process tree. `account/` says where Millrace's time goes, of a run that waits after each stage.

In parts, on a machine that is free for minutes only: `python -m bench.preprocess_minhash PART DIRECTORY`, with the parts prepare,
turns, stock and summary.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import commands, peers
from bench.minhash_data import NUM_DOCUMENTS, documents, write
from bench.minhash_exact import groups_of, near_pairs, pairs_within, scores
from bench.report import OUTPUT, Bound, Figure, Result, print_table, write_json
from bench.tree_memory import TreeMemory
from bench.workers import ROOT, Worker

THREADS = 2
SEED = 7
THRESHOLD = 0.8
LIMIT_SECONDS = 120.0
_TIMEOUT_SECONDS = 1800.0

IN_TURN = ("millrace", "datatrove_words", "spark_ml", "spark_ml_3_tables")
_SPARK_ML = ("spark_ml", "spark_ml_3_tables")
_LEAST_TABLES, _MOST_TABLES = 3, 8
_WARM_UPS = 3
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
    """As many rounds as said, at least 2. Raises MillraceError where a side fails."""
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as name:
        directory = Path(name)
        prepare(directory, NUM_DOCUMENTS)
        take_turns(directory, max(num_rounds, 2))
        run_stock(directory)
        return summary(directory)


def prepare(directory: Path, num_documents: int) -> None:
    """Writes the documents and their near pairs, and makes the peers' environment."""
    _say("writing documents")
    texts = documents(Path(os.environ.get("MILLRACE_DATA") or ROOT.parent / "shared" / "data").resolve(), num_documents, SEED)
    write(texts, directory / "all", THREADS)
    write(texts[: num_documents // 10], directory / "tenth", THREADS)
    _say("exact join")
    (directory / "near.json").write_text(json.dumps(near_pairs(texts, ngram=5, threshold=THRESHOLD)))
    peers.python()


def take_turns(directory: Path, num_rounds: int) -> None:
    """The rounds of all sides but stock datatrove, Spark ML's tables, and Millrace's seconds by stage, into turns.json."""
    sides: dict[str, list[Side]] = {side: [] for side in IN_TURN}
    tables = dict.fromkeys(_SPARK_ML, _LEAST_TABLES)
    with Worker("bench.minhash_spark", str(THREADS), environment={}, timeout_seconds=_TIMEOUT_SECONDS) as worker:

        def ask(side: str, source: str) -> Side:
            _say(f"{side} of {source}")
            if side == "datatrove_words":
                return datatrove(directory / source, directory / side, "words")
            out = str(directory / side)
            options = {"source": str(directory / source), "out": out, "limit_seconds": LIMIT_SECONDS}
            kind = "spark_ml" if side in _SPARK_ML else side
            return worker.ask(side=kind, **options, tables=tables.get(side, _LEAST_TABLES))

        def warm(side: str) -> Side:
            if side != "datatrove_words":
                ask(side, "tenth")
            return ask(side, "all")

        for _ in range(_WARM_UPS):
            ask("millrace", "all")
            ask("spark_ml_3_tables", "all")
        found = recalls(directory)
        while True:
            ask("spark_ml", "all")
            if recalls(directory)["spark_ml"] >= found["millrace"] or tables["spark_ml"] == _MOST_TABLES:
                break
            tables["spark_ml"] += 1
        for number in range(num_rounds):
            for side in IN_TURN[:: -1 if number % 2 else 1]:
                sides[side].append(warm(side))
        stages: dict[str, float] = warm("account")["stages"]
    (directory / "turns.json").write_text(json.dumps({"sides": sides, "stages": stages, "tables": tables["spark_ml"]}))


def run_stock(directory: Path) -> None:
    """Stock datatrove, once, into stock.json."""
    _say("datatrove of all")
    (directory / "stock.json").write_text(json.dumps(datatrove(directory / "all", directory / "datatrove", "stock")))


def summary(directory: Path) -> Result:
    """What the sides have left, held against the exact answer."""
    turns = json.loads((directory / "turns.json").read_text())
    sides = {**turns["sides"], "datatrove": [json.loads((directory / "stock.json").read_text())]}
    texts = [row["text"] for path in sorted((directory / "all").iterdir()) for row in map(json.loads, path.open())]
    found = quality(texts, directory) | {f"near_pairs_found/{side}": share for side, share in recalls(directory).items()}
    return summarise(sides, turns["stages"], found, len(texts), tables=turns["tables"])


def datatrove(source: Path, work: Path, kind: str) -> Side:
    """datatrove's pipeline in the peers' environment, from an empty directory."""
    shutil.rmtree(work, ignore_errors=True)
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
    """Precision, recall and F1 of each side against the exact join.

    Millrace: of dropped rows, and of pairs in one group. Spark ML: of pairs. datatrove keeps another row of a group than the
    first: of each group one row has to stay, whichever.
    """
    near = _near(directory)
    truth = groups_of(near, len(texts))
    dropped = {place for place, first in enumerate(truth) if place != first}
    kept = {int(row["row_id"]): int(row["kept"]) for row in _rows(directory / "millrace-dropped")}
    found = {"rows": scores(set(kept), dropped)}
    found["pairs"] = scores(pairs_within([kept.get(place, place) for place in range(len(texts))]), pairs_within(truth))
    for peer in _SPARK_ML:
        found[peer] = scores(set(_pairs(directory / peer)), set(near))
    for peer in ("datatrove", "datatrove_words"):
        found[peer] = group_scores(map(int, json.loads((directory / peer / "kept.json").read_text())), truth)
    found["exact"] = {"dropped": float(len(dropped))}
    found["millrace"] = {"dropped": float(len(kept))}
    return {f"{side}/{name}": value for side, values in found.items() for name, value in values.items()}


def recalls(directory: Path) -> dict[str, float]:
    """Of the near pairs the share whose documents a side has brought into one group, however; of sides that have run."""
    near = _near(directory)
    num_documents = 1 + max(place for pair in near for place in pair)
    groups: dict[str, Mapping[int, int]] = {}
    if (directory / "millrace-dropped").is_dir():
        groups["millrace"] = {int(row["row_id"]): int(row["kept"]) for row in _rows(directory / "millrace-dropped")}
    for side in _SPARK_ML:
        if (directory / side).is_dir():
            groups[side] = dict(enumerate(groups_of(_pairs(directory / side), num_documents)))
    return {
        side: sum(of.get(left, left) == of.get(right, right) for left, right in near) / len(near) for side, of in groups.items()
    }


def _near(directory: Path) -> list[tuple[int, int]]:
    return [(left, right) for left, right in json.loads((directory / "near.json").read_text())]


def _pairs(directory: Path) -> list[tuple[int, int]]:
    return [(int(row["left"]), int(row["right"])) for row in _rows(directory)]


def group_scores(kept: Iterable[int], groups: Sequence[int]) -> dict[str, float]:
    """Precision and recall of dropped rows where any one row of a group may stay."""
    sizes = Counter(groups)
    stay = Counter(groups[place] for place in kept)
    rightly = sum(size - max(1, stay[group]) for group, size in sizes.items())
    dropped = len(groups) - stay.total()
    return {
        "dropped": float(dropped),
        "precision": rightly / max(1, dropped),
        "recall": rightly / max(1, len(groups) - len(sizes)),
    }


def summarise(
    sides: Mapping[str, Sequence[Side]],
    stages: Mapping[str, float],
    found: Mapping[str, float],
    num_documents: int,
    *,
    tables: int,
) -> Result:
    """Medians of each side, its seconds over Millrace's, and the bounds.

    The ratio to a side that has as many rounds is the median of each round's own, so that a slow minute hits both.
    """
    seconds = {side: statistics.median(one["seconds"] for one in rounds) for side, rounds in sides.items()}
    memory = {side: max(one["peak_bytes"] for one in rounds) / 2**30 for side, rounds in sides.items()}

    def ratio(side: str) -> float:
        own, other = sides["millrace"], sides[side]
        if len(other) < len(own):
            return float(seconds[side] / seconds["millrace"])
        return float(statistics.median(theirs["seconds"] / ours["seconds"] for ours, theirs in zip(own, other, strict=True)))

    figures = [Figure("minhash/num_documents", num_documents, "documents")]
    figures += [Figure(f"minhash/{side}", value, "s") for side, value in seconds.items()]
    figures += [Figure(f"minhash/{side}/peak_memory", value, "GiB") for side, value in memory.items()]
    figures += [
        Figure(f"minhash/{name}", value, "rows" if name.endswith("dropped") else "share") for name, value in found.items()
    ]
    figures += [
        Figure("minhash/spark_ml/tables", tables, "tables"),
        Figure("minhash_vs_spark_ml_3_tables", ratio("spark_ml_3_tables"), "ratio"),
    ]
    figures.append(Figure("minhash/spark_ml_finished", float(all(one["finished"] for one in sides["spark_ml"])), "yes or no"))
    figures += [Figure(f"minhash/account/{name}", value, "s") for name, value in account_of(stages).items()]
    return Result(
        figures=figures,
        bounds=[
            Bound("minhash_f1", found["rows/f1"], ">=", MIN_F1),
            *[Bound(name, ratio(side), ">=", limit) for name, side, limit in BOUNDS],
        ],
        details=[
            Figure(f"round_{number}/minhash/{side}", one["seconds"], "s")
            for side, rounds in sides.items()
            for number, one in enumerate(rounds, start=1)
        ],
    )


def account_of(stages: Mapping[str, float]) -> dict[str, float]:
    """Seconds by stage: shingling is taken from what it comes with."""
    named = {name.removeprefix("near_duplicates/"): seconds for name, seconds in stages.items()}
    both, alone = named.pop("shingling_and_signatures"), named.pop("shingling_alone")
    return {"reading": named.pop("reading"), "shingling": alone, "signatures": max(0.0, both - alone), **named}


def _rows(directory: Path) -> Iterator[dict[str, str]]:
    for path in sorted(directory.glob("part-*")):
        with path.open() as stream:
            yield from (json.loads(line) for line in stream)


def _say(text: str) -> None:
    print(f"bench minhash: {text}", file=sys.stderr, flush=True)


def main(part: str, directory: Path) -> int:
    """One part, or the summary of them, which is written as `python -m bench` does."""
    if part != "summary":
        parts: dict[str, Callable[[], None]] = {
            "prepare": lambda: prepare(directory, NUM_DOCUMENTS),
            "turns": lambda: take_turns(directory, 5),
            "stock": lambda: run_stock(directory),
        }
        parts[part]()
        return 0
    measured = summary(directory)
    write_json("preprocess_minhash", measured, OUTPUT)
    print_table("preprocess_minhash", measured, Console())
    return 0 if measured.holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
