"""Near-duplicates of several nights that are done together: what stays is what stays when the nights come one by one. No Spark.

A night's texts are compared with each other and with those that stay of the nights before it, and never with what these have
dropped. Links over all nights at once would let a new text join two old ones of which both had stayed, or let one that is gone
take a new one. They only tell which texts have to do with each other: a group. Within a group this goes through the nights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from millrace.transforms.buckets import ALL_PAIRS, star
from millrace.transforms.comparing import LATER, components, similarities, unpacked
from millrace.transforms.runs import runs

KEYS = ("_group", "_stands", "_night")

Numbers = NDArray[np.int64]


def later_by_night(batches: Iterable[pa.RecordBatch], *, threshold: float) -> Iterator[pa.RecordBatch]:
    """One row per new row that another one stays for: row_id, and _kept, that one's row_id.

    `batches` have _group, _stands, _night, row_id, _content, _shingles, sorted by group, in it standing rows first, then by night
    and by what comes first. Memory holds one night of a group, and the texts that stay.
    """
    for _, of_group in groupby(runs(batches, KEYS), key=lambda run: run[0][0]):
        stays = _Stays(threshold)
        for (_, stands, _), parts in groupby(of_group, key=lambda run: run[0]):
            rows = pa.Table.from_batches([part for _, part in parts])
            later = stays.add(rows, stands=stands)
            if later:
                yield pa.RecordBatch.from_pylist(later, schema=LATER)


class _Stays:
    """What stays of a group, night after night, in order of row_id: of several the first is named as the one that stays."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._row_ids: list[str] = []
        self._shingles: list[bytes] = []

    def add(self, rows: pa.Table, *, stands: bool) -> list[dict[str, str]]:
        """The rows of a night that another one stays for."""
        row_ids, contents = rows.column("row_id").to_pylist(), rows.column("_content").to_pylist()
        first: dict[bytes, int] = {}
        for place, content in enumerate(contents):
            first.setdefault(content, place)
        places = list(first.values())
        names = [*self._row_ids, *(row_ids[place] for place in places)]
        shingles = [*self._shingles, *rows.column("_shingles").take(pa.array(places)).to_pylist()]
        num_old = len(self._row_ids)
        roots = np.arange(len(names)) if stands else self._roots(shingles, num_old)
        node_of = dict(zip(first, range(num_old, len(names)), strict=True))
        later = []
        for row_id, content in zip(row_ids, contents, strict=True):
            root = int(roots[node_of[content]])
            if not stands and (root < num_old or names[root] != row_id):
                later.append({"row_id": row_id, "_kept": names[root]})
        stay = sorted((node for node in range(len(names)) if node < num_old or roots[node] == node), key=names.__getitem__)
        self._row_ids, self._shingles = [names[node] for node in stay], [shingles[node] for node in stay]
        return later

    def _roots(self, shingles: list[bytes], num_old: int) -> Numbers:
        """The least text of each one's component; the first `num_old` are those that stay. (texts,)"""
        left, right = _pairs(num_old, len(shingles))
        near = similarities(unpacked(pa.chunked_array([shingles], pa.binary())), left, right) >= self._threshold
        return components(left[near], right[near], len(shingles))


def _pairs(num_old: int, num_texts: int) -> tuple[Numbers, Numbers]:
    """Each new text with each old one, and new ones with each other: all pairs, or where they are many each with some."""
    num_new = num_texts - num_old
    left, right = np.triu_indices(num_new, 1) if num_new <= ALL_PAIRS else star(num_new)
    old = np.repeat(np.arange(num_old), num_new), np.tile(np.arange(num_old, num_texts), num_old)
    return np.concatenate((old[0], left + num_old)), np.concatenate((old[1], right + num_old))
