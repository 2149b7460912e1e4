"""Texts to packed int32 ids by a saved tokenizer, exactly as its own encode gives them. Needs no Spark.

What makes it fast: both tokenizers that we train (GPT-2's pieces, BERT's words) cut a text at every single space between two
characters that are no white space, so the ids of the pieces between such spaces never depend on their neighbours: each is encoded
once in a process.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from tokenizers import Tokenizer

from millrace.config.tokens import TokenFeature
from millrace.contracts.cutting import texts_of
from millrace.contracts.tokenizer import SavedTokenizer

_ID_BYTES = 4
_MAX_BYTES = 96 * 1024**2  # that a process remembers pieces in, about; then it starts anew
_PIECE_BYTES = 160  # what Python takes for one, its text and ids aside
_LONG_PIECE = 24  # code points; pieces that are longer on average (Chinese) seldom come again, and are not looked up
_IRREGULAR = re.compile(r"\s\s|^\s|\s\Z|[^\S ]")
_SPACE = re.compile(r"(?<=\S) (?=\S)")

Encode = Callable[[Sequence[str]], list[bytes]]
"""Texts to the little-endian int32 ids of each."""


@dataclass(frozen=True)
class Fit:
    """How ids become a row of one length. `length` None: they stay as many as they are. As Keras' pad_sequences."""

    length: int | None = None
    padding: str = "pre"
    truncating: str = "pre"
    pad_id: int = 0

    @classmethod
    def of(cls, feature: TokenFeature) -> Fit:
        """What a feature's section says."""
        return cls(feature.length, feature.padding, feature.truncating, feature.pad_id)

    def __call__(self, ids: bytes) -> bytes:
        """Ids, (any,) int32 as bytes -> (length,) int32 as bytes."""
        if self.length is None:
            return ids
        size = self.length * _ID_BYTES
        missing = size - len(ids)
        if missing > 0:
            padding = packed([self.pad_id]) * (missing // _ID_BYTES)
            return padding + ids if self.padding == "pre" else ids + padding
        return ids[-size:] if self.truncating == "pre" else ids[:size]


def packed(ids: Iterable[int]) -> bytes:
    """Ids as int32 in the machine's order of bytes, little-endian on all that we run on."""
    return array("i", ids).tobytes()


def encode_column(texts: pa.Array, encode: Encode, fit: Fit) -> pa.Array:
    """A column of texts -> one of bytes, (length,) or (any,) int32 in each. A NULL text has no tokens."""
    rows = encode(texts_of(texts))
    return pa.array(rows if fit.length is None else [fit(ids) for ids in rows], pa.binary())


def make_encoder(saved: SavedTokenizer) -> Encode:
    """The encoder of a saved tokenizer. Raises ContractError where this machine's jieba is another one."""
    saved.check()
    if saved.tokenizer_json:
        return PieceEncoder(Tokenizer.from_str(saved.tokenizer_json))
    return VocabularyEncoder(saved)


class _Known(dict[str, bytes]):
    """The bytes of each token; a token that is not there has those of OOV, or none."""

    def __init__(self, saved: SavedTokenizer) -> None:
        super().__init__({token: packed([number]) for token, number in saved.ids.items()})
        self._unknown = b"" if saved.oov_id is None else packed([saved.oov_id])

    def __missing__(self, token: str) -> bytes:
        return self._unknown


class VocabularyEncoder:
    """Words, characters and jieba."""

    def __init__(self, saved: SavedTokenizer) -> None:
        assert saved.cutter is not None
        self._cut, self._known = saved.cutter, _Known(saved)

    def __call__(self, texts: Sequence[str]) -> list[bytes]:
        known = self._known.__getitem__
        return [b"".join(map(known, self._cut(text))) for text in texts]


class PieceEncoder:
    """BPE and WordPiece. Remembers the ids of pieces, in one table for a text's first and in another for those after a space."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._first: dict[str, bytes] = {}
        self._later: dict[str, bytes] = {}
        self._num_bytes = 0

    def __call__(self, texts: Sequence[str]) -> list[bytes]:
        pieces = [pieces_of(text) for text in texts]
        whole = [number for number, each in enumerate(pieces) if each is None]
        encoded = dict(zip(whole, self._encode([texts[number] for number in whole]), strict=True))
        self._learn([each for each in pieces if each])
        first, later = self._first, self._later.__getitem__
        return [
            encoded[number] if each is None else first[each[0]] + b"".join(map(later, each[1:]))
            for number, each in enumerate(pieces)
        ]

    def _learn(self, rows: Sequence[list[str]]) -> None:
        """Encodes the pieces that are not known yet. A batch may go beyond the limit, until the next."""
        if self._num_bytes > _MAX_BYTES:
            self._first.clear()
            self._later.clear()
            self._num_bytes = 0
        for table, prefix, wanted in (
            (self._first, "", {row[0] for row in rows}),
            (self._later, " ", set().union(*[row[1:] for row in rows])),
        ):
            new = list(wanted - table.keys())
            encoded = self._encode([prefix + piece for piece in new])
            table.update(zip(new, encoded, strict=True))
            self._num_bytes += _PIECE_BYTES * len(new) + sum(map(len, new)) + sum(map(len, encoded))

    def _encode(self, texts: list[str]) -> list[bytes]:
        if not texts:
            return []
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [packed(encoding.ids) for encoding in encodings]


def pieces_of(text: str) -> list[str] | None:
    """What lies between single spaces that have no white space beside them; None where it is not worth looking up."""
    if (text.count(" ") + 1) * _LONG_PIECE < len(text):
        return None
    return _SPACE.split(text) if _IRREGULAR.search(text) else text.split(" ")
