"""MinHash signatures in bands, on NumPy and Arrow. No Spark.

A signature has one hash per bin: the shingles of a text are spread over bands x rows bins and the least of each counts (Li, Owen,
Zhang: One permutation hashing, 2012). An empty bin takes the value of the first full one in an order of its own (Shrivastava:
Optimal densification for fast and accurate minwise hashing, 2017). Two texts agree in a bin by a chance that is their Jaccard
similarity. One pass over the shingles makes all hashes, where n hash functions would take n.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from millrace.transforms.shingles import Hashes, Places, Shingles, Unit, mix, shingle_blocks

SCHEME = "signatures 1"
"""How signatures are made of texts. Another one makes stored ones useless: then all are made anew."""
_DIGEST_BYTES = 16
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)

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
        orders = np.argsort(draws[: num_bins * num_bins].reshape(num_bins, num_bins), axis=1, kind="stable")
        self._donors = np.ascontiguousarray(orders.T)  # (step, bin)
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
        num_bins = least.shape[1]
        flat = least.ravel()
        dense = flat.copy()
        empty = np.flatnonzero(flat == _EMPTY)
        bins = empty % num_bins
        for donors in self._donors:
            if empty.size == 0:
                break
            given = flat[empty - bins + donors[bins]]
            found = given != _EMPTY
            dense[empty[found]] = given[found]
            empty, bins = empty[~found], bins[~found]
        return dense.reshape(least.shape)


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
            data, ends = shingles.values.astype("<u8", copy=False).tobytes(), shingles.offsets * 8
            yield pa.RecordBatch.from_arrays(
                [
                    *kept.columns[:3],
                    _binaries(_digests(data, ends), np.arange(has_any.size + 1) * _DIGEST_BYTES),
                    pa.ListArray.from_arrays(np.arange(0, keys.size + 1, minhash.bands, dtype=np.int32), keys.ravel()),
                    _binaries(data, ends),
                ],
                schema=SIGNED,
            )


def _digests(data: bytes, ends: Places) -> bytes:
    """Of each set, one after the other."""
    view = memoryview(data)
    return b"".join(blake2b(view[low:high], digest_size=_DIGEST_BYTES).digest() for low, high in pairwise(ends.tolist()))


def _binaries(data: bytes, ends: Places) -> pa.Array:
    """Cuts of `data`, which is about a MiB or one text."""
    return pa.Array.from_buffers(pa.large_binary(), ends.size - 1, [None, pa.py_buffer(ends), pa.py_buffer(data)]).cast(
        pa.binary()
    )
