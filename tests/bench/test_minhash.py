"""The near-duplicate benchmark: its exact answer, its documents and its summary."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench import preprocess_minhash as bench
from bench.minhash_data import documents
from bench.minhash_exact import groups_of, near_pairs, pairs_within, scores
from bench.tree_memory import TreeMemory
from millrace.errors import SourceError

DATA = Path(os.environ.get("MILLRACE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def grams_of(text: str) -> set[tuple[str, ...]]:
    """Word 5-grams."""
    words = text.split()
    return {tuple(words[first : first + 5]) for first in range(len(words) - 4)}


def edited(words: list[str], draw: random.Random) -> str:
    """Up to 3 words exchanged."""
    copy = list(words)
    for _ in range(draw.choice((0, 0, 1, 2, 3))):
        copy[draw.randrange(len(copy))] = "x"
    return " ".join(copy)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_the_exact_join_finds_all_pairs_and_no_other(threshold: float) -> None:
    draw = random.Random(5)
    texts: list[str] = []
    for _ in range(30):
        words = [f"w{draw.randrange(30)}" for _ in range(draw.randint(5, 40))]
        texts += [edited(words, draw) for _ in range(4)]
    sets = [grams_of(text) for text in texts]
    expected = [
        (low, high)
        for high in range(len(texts))
        for low in range(high)
        if len(sets[low] & sets[high]) / len(sets[low] | sets[high]) >= threshold
    ]
    assert len(expected) > 10
    assert sorted(near_pairs(texts, ngram=5, threshold=threshold)) == sorted(expected)


def test_groups_and_scores() -> None:
    groups = groups_of([(3, 4), (1, 3), (5, 6)], 7)
    assert groups == [0, 1, 2, 1, 1, 5, 5]
    assert pairs_within(groups) == {(1, 3), (1, 4), (3, 4), (5, 6)}
    assert scores({1, 2, 3}, {2, 3, 4, 5}) == pytest.approx({"precision": 2 / 3, "recall": 0.5, "f1": 4 / 7})


def test_any_row_of_a_group_may_stay() -> None:
    groups = [0, 0, 0, 3, 4, 4]
    assert bench.group_scores([1, 3, 5], groups) == {"dropped": 3.0, "precision": 1.0, "recall": 1.0}
    assert bench.group_scores([0, 1, 4], groups) == {"dropped": 3.0, "precision": 2 / 3, "recall": 2 / 3}


def test_too_few_corpora_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        documents(tmp_path, 10, seed=1)
    assert str(caught.value) == (
        f"bench minhash: expected the corpus imdb in {tmp_path}; found no such directory. "
        "Set MILLRACE_DATA to the directory that holds it."
    )


@pytest.mark.full
@pytest.mark.skipif(not (DATA / "imdb").is_dir(), reason="no shared corpora: set MILLRACE_DATA")
def test_documents_are_the_same_each_time_and_have_near_pairs_on_both_sides_of_the_threshold() -> None:
    texts = documents(DATA, 100_000, seed=1)
    assert texts == documents(DATA, 100_000, seed=1)
    assert len(texts) == 100_000
    assert min(len(text.split()) for text in texts) >= 20
    dropped = sum(place != group for place, group in enumerate(groups_of(near_pairs(texts, ngram=5, threshold=0.8), 100_000)))
    loose = sum(place != group for place, group in enumerate(groups_of(near_pairs(texts, ngram=5, threshold=0.5), 100_000)))
    assert 15_000 < dropped < loose - 3_000


def test_ratios_and_bounds() -> None:
    def side(seconds: float, finished: bool = True) -> Mapping[str, object]:
        return {"seconds": seconds, "peak_bytes": 2**30, "finished": finished}

    sides = {
        "millrace": [side(9.0), side(4.0), side(5.0)],
        "spark_ml": [side(600.0, finished=False), side(12.0), side(400.0)],
        "spark_ml_3_tables": [side(18.0), side(8.0), side(10.0)],
        "datatrove": [side(50.0)],
        "datatrove_words": [side(12.6), side(4.0), side(7.0)],
    }
    stages = {"reading": 1.0, "shingling_alone": 2.0, "shingling_and_signatures": 3.5, "near_duplicates/candidates": 0.5}
    result = bench.summarise(sides, stages, {"rows/f1": 0.99}, 100, tables=4)
    assert {(bound.name, bound.value, bound.holds) for bound in result.bounds} == {
        ("minhash_f1", 0.99, True),
        ("minhash_vs_datatrove", 10.0, True),
        ("minhash_vs_datatrove_same_tokenizer", 1.4, False),
        ("minhash_vs_spark_ml", 200 / 3, True),
    }
    figures = {figure.name: figure.value for figure in result.figures}
    assert figures["minhash/spark_ml_finished"] == 0.0
    assert (figures["minhash/spark_ml/tables"], figures["minhash_vs_spark_ml_3_tables"]) == (4, 2.0)
    assert figures["minhash/millrace/peak_memory"] == 1.0
    account = {name.rpartition("/")[2]: value for name, value in figures.items() if "/account/" in name}
    assert account == {"reading": 1.0, "shingling": 2.0, "signatures": 1.5, "candidates": 0.5}


def test_recall_is_of_near_pairs_that_came_into_one_group(tmp_path: Path) -> None:
    (tmp_path / "near.json").write_text(json.dumps([[0, 1], [1, 2], [3, 4], [5, 6]]))
    rows = {
        "millrace-dropped": [{"row_id": "1", "kept": "0"}, {"row_id": "2", "kept": "0"}, {"row_id": "6", "kept": "5"}],
        "spark_ml": [{"left": "0", "right": "2"}, {"left": "1", "right": "2"}],
    }
    for name, lines in rows.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "part-0").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert bench.recalls(tmp_path) == {"millrace": 0.75, "spark_ml": 0.5}


def test_memory_of_the_tree_is_seen() -> None:
    with TreeMemory() as memory:
        pass
    assert memory.peak_bytes > 2**20
