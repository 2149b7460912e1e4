"""MinHash signatures in bands, buckets, exact comparison and connected components, on NumPy and Arrow. No Spark.

A signature has one hash per bin: the shingles of a text are spread over bands x rows bins and the least of each counts (Li, Owen,
Zhang: One permutation hashing, 2012). An empty bin takes the value of the first full one in an order of its own (Shrivastava:
Optimal densification for fast and accurate minwise hashing, 2017). Two texts agree in a bin by a chance that is their Jaccard
similarity. One pass over the shingles makes all hashes, where n hash functions would take n.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from millrace.transforms.shingles import BITS, BLOCK, Hashes, Shingles, Unit, mix, shingle_blocks

_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_PAIRS_AT_ONCE = 4096

SIGNED = pa.schema(
    [
        pa.field("row_id", pa.string()),
        pa.field("_night", pa.string()),
        pa.field("_source_file", pa.string()),
        pa.field("_content", pa.binary()),
        pa.field("_bands", pa.list_(pa.int64())),
        pa.field("_shingles", pa.binary()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class MinHash:
    """How signatures are made."""

    ngram: int
    unit: Unit
    bands: int
    rows_per_band: int
    seed: int


class Banding:
    """Band keys of shingles."""

    def __init__(self, minhash: MinHash) -> None:
        self._bands, self._rows = minhash.bands, minhash.rows_per_band
        num_bins = minhash.bands * minhash.rows_per_band
        # random_raw and a stable argsort: other methods of a Generator may change between NumPy versions.
        draws = np.random.PCG64(minhash.seed).random_raw(num_bins * num_bins + num_bins + 1)
        self._donors = np.argsort(draws[: num_bins * num_bins].reshape(num_bins, num_bins), axis=1, kind="stable")
        self._factors = draws[num_bins * num_bins : -1] | np.uint64(1)  # (bins,)
        self._salt = draws[-1]

    def keys(self, shingles: Shingles) -> NDArray[np.int64]:
        """(text, band): equal numbers in a band mean that the band's hashes are equal. Every text has a shingle."""
        signatures = self.signatures(shingles) * self._factors
        sums = signatures.reshape(-1, self._bands, self._rows).sum(axis=2, dtype=np.uint64)
        return mix(sums + np.arange(self._bands, dtype=np.uint64)).view(np.int64)

    def signatures(self, shingles: Shingles) -> Hashes:
        """(text, bin) uint64."""
        num_texts, num_bins = shingles.counts.size, self._bands * self._rows
        hashes = mix(shingles.values ^ self._salt)
        bins = ((hashes >> np.uint64(32)) * np.uint64(num_bins)) >> np.uint64(32)
        places = np.repeat(np.arange(num_texts, dtype=np.int64) * num_bins, shingles.counts) + bins.astype(np.int64)
        least = np.full(num_texts * num_bins, _EMPTY)
        np.minimum.at(least, places, hashes)
        return self._densified(least.reshape(num_texts, num_bins))

    def _densified(self, least: Hashes) -> Hashes:
        full = least != _EMPTY
        texts, bins = np.nonzero(~full)
        dense = least.copy()
        for step in range(least.shape[1]):
            if texts.size == 0:
                break
            donors = self._donors[bins, step]
            found = full[texts, donors]
            dense[texts[found], bins[found]] = least[texts[found], donors[found]]
            texts, bins = texts[~found], bins[~found]
        return dense


def sign(batches: Iterable[pa.RecordBatch], *, minhash: MinHash) -> Iterator[pa.RecordBatch]:
    """Batches of (row_id, _night, _source_file, text without NULL) -> batches of SIGNED. Texts without tokens are left out.

    _content is a digest of the set of shingles (16 bytes), _bands has one key a band, _shingles are little-endian 64-bit numbers.
    """
    banding = Banding(minhash)
    for batch in batches:
        first = 0
        for block in shingle_blocks(batch.column(3), ngram=minhash.ngram, unit=minhash.unit):
            num_texts = block.counts.size
            has_any = np.flatnonzero(block.counts)
            kept = batch.slice(first, num_texts).take(pa.array(has_any))
            first += num_texts
            if kept.num_rows == 0:
                continue
            shingles = Shingles(block.values, np.append(block.offsets[has_any], block.values.size))
            keys = banding.keys(shingles)
            rows = _packed(shingles)
            digests = [hashlib.blake2b(row, digest_size=16).digest() for row in rows]
            list_offsets = np.arange(0, keys.size + 1, minhash.bands, dtype=np.int32)
            arrays = [
                *kept.columns[:3],
                pa.array(digests, pa.binary()),
                pa.ListArray.from_arrays(list_offsets, keys.ravel()),
                pa.array(rows, pa.binary()),
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=SIGNED)


def _packed(shingles: Shingles) -> list[bytes]:
    data, ends = shingles.values.astype("<u8").tobytes(), (shingles.offsets * 8).tolist()
    return [data[low:high] for low, high in pairwise(ends)]


def similarities(left: list[bytes], right: list[bytes]) -> NDArray[np.float64]:
    """The Jaccard similarity of each pair of packed shingle sets: (pairs,)."""
    assert len(left) == len(right)
    parts = [
        _similarities(left[first : first + _PAIRS_AT_ONCE], right[first : first + _PAIRS_AT_ONCE])
        for first in range(0, len(left), _PAIRS_AT_ONCE)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def _similarities(left: list[bytes], right: list[bytes]) -> NDArray[np.float64]:
    assert len(left) <= BLOCK
    sides, totals = [], np.zeros(len(left), np.int64)
    for side in (left, right):
        counts = np.fromiter((len(packed) // 8 for packed in side), np.int64, len(side))
        pairs = np.repeat(np.arange(len(side), dtype=np.uint64) << np.uint64(BITS), counts)
        sides.append(np.frombuffer(b"".join(side), "<u8") | pairs)
        totals += counts
    # Two sorted runs, which a stable sort merges in one pass.
    merged = np.sort(np.concatenate(sides), kind="stable")
    twice = merged[1:][merged[1:] == merged[:-1]]
    shared = np.bincount((twice >> np.uint64(BITS)).astype(np.int64), minlength=len(left))
    # A division rounds to the nearest double, as the threshold's text did: equal fractions compare equal.
    similarity: NDArray[np.float64] = shared / (totals - shared)
    return similarity


def components(left: NDArray[np.int64], right: NDArray[np.int64], num_nodes: int) -> NDArray[np.int64]:
    """The least node of each node's connected component: (nodes,). Roots hook to lesser roots until none has one beside it."""
    parent = np.arange(num_nodes)
    while True:
        a, b = parent[left], parent[right]
        apart = a != b
        if not apart.any():
            return parent
        left, right, a, b = left[apart], right[apart], a[apart], b[apart]
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(above := parent[parent], parent):
            parent = above
