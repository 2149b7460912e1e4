"""Texts to ids inside the exported graph, for words and characters: exactly the ids that Spark gave.

Keras' TextVectorization lowers ASCII or asks ICU, whose tables are of another Unicode version than Python's. So the graph is made
of code points, and what lower() does to each is taken from the Python that exports: which letters change, to what, and where a
sigma is a final one. jieba, BPE and WordPiece cannot be TensorFlow operations: their models take ids from the saved tokenizer
(`exporting/tokenizers.py`).

Both sides are equal on all valid UTF-8; bytes that are none become U+FFFD on both, but not always as many.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from millrace.contracts.cutting import Cutter
from millrace.contracts.tokenizer import SavedTokenizer
from millrace.errors import ExportError
from millrace.transforms.encoders import Fit

if TYPE_CHECKING:
    import tensorflow as tf

_SIGMA, _FINAL_SIGMA = ord("Σ"), ord("ς")
_OTHER, _CASED, _IGNORABLE = 0, 1, 2


def is_exportable(saved: SavedTokenizer) -> bool:
    """Whether `text_to_ids` can make a graph of a tokenizer."""
    cutter = saved.cutter
    return cutter is not None and (cutter.kind == "characters" or (cutter.kind == "words" and len(cutter.split) == 1))


def text_to_ids(saved: SavedTokenizer, fit: Fit) -> tf.Module:
    """A module whose call takes texts, (rows,) of UTF-8 strings, and gives ids, (rows, fit.length) int32; "" for a NULL text.

    Its tables are tracked, so that a module that holds it can be saved. Raises ExportError for a tokenizer that is not
    exportable, and for rows without one length.
    """
    cutter = saved.cutter
    if not is_exportable(saved) or cutter is None or fit.length is None:
        raise ExportError(
            "export",
            expected="words cut at one character, or characters, padded to a length",
            found=f"{saved.kind} of {'any length' if fit.length is None else f'length {fit.length}'}",
            remedy="Export a model that takes ids, and the saved tokenizer beside it.",
        )
    return _module(saved, cutter, fit)


def _module(saved: SavedTokenizer, cutter: Cutter, fit: Fit) -> tf.Module:
    import tensorflow as tf

    class TextToIds(tf.Module):  # type: ignore[misc, name-defined, unused-ignore]
        """See text_to_ids."""

        def __init__(self) -> None:
            super().__init__(name="text_to_ids")
            self._lower = _Lower() if cutter.lower else None
            self._vocabulary = _vocabulary(saved)

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])  # type: ignore[misc, untyped-decorator, unused-ignore]
        def __call__(self, texts: Any) -> Any:
            points = tf.strings.unicode_decode(texts, "UTF-8")  # ragged (rows, code points) int32
            if self._lower is not None:
                points = self._lower(points)
            tokens = _words(points, cutter) if cutter.kind == "words" else tf.cast(points, tf.int64)
            ids = tf.ragged.map_flat_values(self._vocabulary.lookup, tokens)
            return _fitted(tf.ragged.boolean_mask(ids, ids >= 0), fit)

    class _Lower(tf.Module):  # type: ignore[misc, name-defined, unused-ignore]
        """Python's str.lower() on ragged (rows, code points)."""

        def __init__(self) -> None:
            super().__init__(name="lower")
            lowered, classes = lower_tables()
            self._first = _table({point: ord(text[0]) for point, text in lowered.items()}, default=-1)
            self._second = _table({point: ord(text[1]) for point, text in lowered.items() if len(text) > 1}, default=-1)
            self._classes = _table(classes, default=_OTHER)

        def __call__(self, points: Any) -> Any:
            ended = tf.concat([tf.cast(points, tf.int64), tf.zeros((points.nrows(), 1), tf.int64)], axis=1)  # a 0 ends each row
            flat = ended.flat_values
            first = self._first.lookup(flat)
            first = tf.where(first < 0, flat, first)
            first = tf.where(self._final_sigmas(flat), tf.constant(_FINAL_SIGMA, tf.int64), first)
            second = self._second.lookup(flat)
            both = tf.ragged.boolean_mask(tf.stack([first, second], 1), tf.stack([tf.ones_like(second) > 0, second >= 0], 1))
            lengths = tf.reduce_sum(ended.with_flat_values(both.row_lengths()), axis=1)
            whole = tf.RaggedTensor.from_row_lengths(both.flat_values, lengths)
            return whole[:, :-1]

        def _final_sigmas(self, flat: Any) -> Any:
            """Which are a capital sigma behind a cased letter and before none, what is ignorable between them not counted."""
            classes = tf.concat([[tf.constant(_OTHER, tf.int64)], self._classes.lookup(flat)], 0)  # one before all rows
            seen = tf.where(classes != _IGNORABLE)[:, 0]
            place = tf.searchsorted(seen, tf.range(1, tf.size(classes, tf.int64), dtype=tf.int64))
            last = tf.size(seen) - 1
            before = tf.gather(classes, tf.gather(seen, tf.maximum(place - 1, 0)))
            after = tf.gather(classes, tf.gather(seen, tf.minimum(place + 1, last)))
            return (flat == _SIGMA) & (before == _CASED) & (after != _CASED)

    return TextToIds()


@cache
def lower_tables() -> tuple[dict[int, str], dict[int, int]]:
    """What this Python's lower() does: (code points that change -> what to, code points -> cased or ignorable).

    The classes are found by asking where a sigma becomes a final one, as the interpreter does not give its tables away.
    """
    lowered, classes = {}, {}
    for point in range(sys.maxunicode + 1):
        letter = chr(point)
        if letter.lower() != letter:
            lowered[point] = letter.lower()
        if (letter + "Σ").lower()[-1] == "ς":
            classes[point] = _CASED
        elif ("a" + letter + "Σ").lower()[-1] == "ς":
            classes[point] = _IGNORABLE
    return lowered, classes


def _words(points: Any, cutter: Cutter) -> Any:
    """Ragged (rows, code points) -> ragged (rows, words) of strings."""
    import tensorflow as tf

    split = ord(cutter.split)
    filters = tf.constant(sorted({ord(character) for character in cutter.filters} | {split}), tf.int64)
    flat = tf.cast(points.flat_values, tf.int64)
    is_filtered = tf.reduce_any(flat[:, tf.newaxis] == filters, axis=1)
    filtered = points.with_flat_values(tf.cast(tf.where(is_filtered, tf.constant(split, tf.int64), flat), tf.int32))
    words = tf.strings.split(tf.strings.unicode_encode(filtered, "UTF-8"), sep=cutter.split)
    return tf.ragged.boolean_mask(words, words != "")


def _vocabulary(saved: SavedTokenizer) -> Any:
    """From words, or code points as int64, to int64 ids; -1 for what is left out."""
    import tensorflow as tf

    default = -1 if saved.oov_id is None else saved.oov_id
    if saved.kind == "characters":
        return _table({ord(token): number for token, number in saved.ids.items() if len(token) == 1}, default=default)
    words = tf.lookup.KeyValueTensorInitializer(list(saved.ids), list(saved.ids.values()), tf.string, tf.int64)
    return tf.lookup.StaticHashTable(words, default)


def _table(values: dict[int, int], *, default: int) -> Any:
    import tensorflow as tf

    initializer = tf.lookup.KeyValueTensorInitializer(list(values), list(values.values()), tf.int64, tf.int64)
    return tf.lookup.StaticHashTable(initializer, default)


def _fitted(ids: Any, fit: Fit) -> Any:
    """Ragged (rows, ids) int64 -> (rows, length) int32, as Fit does."""
    import tensorflow as tf

    assert fit.length is not None
    kept = tf.cast(ids[:, -fit.length :] if fit.truncating == "pre" else ids[:, : fit.length], tf.int32)
    shape = (None, fit.length)
    if fit.padding == "post":
        return kept.to_tensor(default_value=fit.pad_id, shape=shape)
    return tf.reverse(kept[:, ::-1].to_tensor(default_value=fit.pad_id, shape=shape), axis=[1])
