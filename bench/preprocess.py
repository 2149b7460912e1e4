"""Preprocessing, all of it: each part is a benchmark of its own, and has its report too; here are all bounds in one table.

tabular     raw CSV to gold, against polars, pandas and Python UDFs
tokens      tokenizing, against a bare loop of `tokenizers`
minhash     near-duplicates, against datatrove and Spark ML
night       a night of 1 % new rows, against a rebuild
shuffle     four times as much data as memory
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import preprocess_minhash, preprocess_night, preprocess_shuffle, preprocess_tabular, preprocess_tokens
from bench.report import OUTPUT, Bound, Figure, Result, write_json
from millrace.errors import MillraceError

PARTS: Mapping[str, Callable[[int], Result]] = {
    "preprocess_tabular": preprocess_tabular.run,
    "preprocess_tokens": preprocess_tokens.run,
    "preprocess_minhash": preprocess_minhash.run,
    "preprocess_night": preprocess_night.run,
    "preprocess_shuffle": preprocess_shuffle.run,
}
"""By name: what runs it, given the number of rounds."""

WANTED = (
    "tabular_vs_python_udf",
    "tabular_vs_polars",
    "tokenize_vs_bare",
    "minhash_f1",
    "minhash_vs_datatrove",
    "minhash_vs_datatrove_same_tokenizer",
    "minhash_vs_spark_ml",
    "one_percent_night",
    "shuffle_peak_vs_cap",
)
"""The bounds that the parts must state."""


def run(num_rounds: int) -> Result:
    """Measure all parts, one after the other. Raises MillraceError where one fails; those before it have reports by then."""
    return measure(num_rounds, PARTS, OUTPUT)


def measure(num_rounds: int, parts: Mapping[str, Callable[[int], Result]], directory: Path) -> Result:
    """Each part's figures, by the part's name, and the bounds of all. Each report is written as soon as there is one."""
    results = {}
    for name, run_part in parts.items():
        _say(name)
        results[name] = run_part(num_rounds)
        write_json(name, results[name], directory)
    bounds = [bound for result in results.values() for bound in result.bounds]
    check(bounds)
    return Result(
        figures=[named(part, figure) for part, result in results.items() for figure in result.figures],
        bounds=bounds,
        details=[named(part, figure) for part, result in results.items() for figure in result.details],
    )


def named(part: str, figure: Figure) -> Figure:
    """A figure by the name that it has among those of all parts."""
    short = part.removeprefix("preprocess_")
    return figure if figure.name.startswith(f"{short}/") else Figure(f"{short}/{figure.name}", figure.value, figure.unit)


def check(bounds: list[Bound]) -> None:
    """Raises MillraceError where a bound is not stated, or stated twice: a part has changed."""
    names = [bound.name for bound in bounds]
    odd = [name for name in WANTED if name not in names] + [name for name in names if names.count(name) > 1]
    if odd:
        raise MillraceError(
            "bench preprocess",
            expected=f"each of the bounds {', '.join(WANTED)} once",
            found=f"otherwise of {', '.join(dict.fromkeys(odd))}",
            remedy="Look at the parts' summaries and at WANTED.",
        )


def _say(text: str) -> None:
    print(f"bench preprocess: {text}", file=sys.stderr, flush=True)
