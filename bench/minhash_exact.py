"""What is near-duplicate in truth: the exact join on Jaccard similarity of word 5-grams, and figures against it.

Prefix filter (Bayardo, Ma, Srikant: Scaling up all pairs similarity search, 2007): of two sets with similarity >= t each has one
of its |A| - ceil(t |A|) + 1 rarest members in common with the other's. Shares no code with millrace.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]


def near_pairs(texts: Sequence[str], *, ngram: int, threshold: float) -> list[Pair]:
    """All pairs (i, j), i < j, of documents with at least that similarity."""
    sets = [set(grams.tolist()) for grams in _grams(texts, ngram)]
    num_documents: dict[int, int] = defaultdict(int)
    for grams in sets:
        for gram in grams:
            num_documents[gram] += 1
    index: dict[int, list[int]] = defaultdict(list)
    found = []
    for place, grams in enumerate(sets):
        rarest = sorted(grams, key=lambda gram: (num_documents[gram], gram))
        prefix = [gram for gram in rarest[: len(grams) - math.ceil(threshold * len(grams) - 1e-9) + 1] if num_documents[gram] > 1]
        for other in {other for gram in prefix for other in index[gram]}:
            shared = len(grams & sets[other])
            if shared / (len(grams) + len(sets[other]) - shared) >= threshold:
                found.append((other, place))
        for gram in prefix:
            index[gram].append(place)
    return found


def groups_of(pairs: Iterable[Pair], num_documents: int) -> list[int]:
    """The first document of each one's connected component."""
    parent = list(range(num_documents))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for left, right in pairs:
        low, high = sorted((root(left), root(right)))
        parent[high] = low
    return [root(node) for node in range(num_documents)]


def scores(found: set[Pair] | set[int], truth: set[Pair] | set[int]) -> dict[str, float]:
    """Precision, recall and F1 of a set."""
    shared = len(found & truth)
    precision, recall = shared / max(1, len(found)), shared / max(1, len(truth))
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / max(1e-9, precision + recall)}


def pairs_within(groups: Sequence[int]) -> set[Pair]:
    """All pairs of documents of the same group."""
    members: dict[int, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        members[group].append(place)
    return {(low, high) for each in members.values() for at, low in enumerate(each) for high in each[at + 1 :]}


def _grams(texts: Sequence[str], ngram: int) -> list[NDArray[np.int64]]:
    """The n-grams of each document as numbers that are equal where the words are; documents have at least n words."""
    vocabulary: dict[str, int] = {}
    words = [[vocabulary.setdefault(word, len(vocabulary)) for word in text.split()] for text in texts]
    counts = np.array([len(each) for each in words])
    assert counts.min() >= ngram
    tokens = np.concatenate([np.array(each, np.int64) for each in words])
    grams = tokens
    for place in range(1, ngram):  # numbers of pairs (k-gram, next word), made dense again each time
        keys = grams[: tokens.size - place] * len(vocabulary) + tokens[place:]
        grams = np.unique(keys, return_inverse=True)[1].astype(np.int64)
    starts = np.cumsum(counts) - counts
    return [grams[start : start + count - ngram + 1] for start, count in zip(starts, counts, strict=True)]
