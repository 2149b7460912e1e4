"""Texts to ids without Spark: exactly what the saved tokenizer's own encode gives, and Keras' sequences."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from millrace.config.tokens import KERAS_FILTERS, BpeFeature, WordPieceFeature
from millrace.contracts.cutting import Cutter
from millrace.contracts.tokenizer import SavedTokenizer
from millrace.fit.tokenizer import train_tokenizer
from millrace.transforms import encoders
from millrace.transforms.encoders import Fit, PieceEncoder, encode_column, make_encoder, packed, pieces_of

SOURCE = Path(encoders.__file__).read_text()
TRAINED = {
    feature.encode: train_tokenizer([SOURCE, "北京的学生，来到北京。" * 9, "naïve café — “ΑΣ” 12 345"] * 2, feature=feature)  # noqa: RUF001
    for feature in (
        BpeFeature(column="text", encode="bpe", vocab_size=900),
        WordPieceFeature(column="text", encode="wordpiece", vocab_size=900),
    )
}
ALPHABET = "ab'sZ0 \n\t\r.,-é\u0301ΑΣİ中文，\u3000\u00a0\x85\x1c\x1f\u2028\u200b\u00ad\x00\ufffd\U0001f600<pad>[UNK]##"  # noqa: RUF001
texts = st.text(st.sampled_from(ALPHABET), max_size=40) | st.text(max_size=20)
LONG = ["word " * 200_000, "x" * 1_000_000, " " * 1_000_000, "中" * 300_000, "\U0001f600 " * 100_000]


def ids_of(row: bytes) -> list[int]:
    return array("i", row).tolist()


@pytest.mark.parametrize("kind", TRAINED)
@given(st.lists(texts, max_size=8))
@settings(deadline=None)
def test_pieces_give_what_the_whole_text_gives(kind: str, rows: list[str]) -> None:
    """Every other batch comes to an encoder that knows the pieces already."""
    tokenizer = Tokenizer.from_str(TRAINED[kind].tokenizer_json)
    encoder = PieceEncoder(tokenizer)
    expected = [tokenizer.encode(text).ids for text in rows]
    for _ in range(2):
        assert [ids_of(row) for row in encoder(rows)] == expected


@given(st.lists(st.text(st.sampled_from("ab \t\n\x1c\u00a0，"), max_size=12), max_size=3).map(" ".join))  # noqa: RUF001
@settings(deadline=None)
def test_pieces_are_cut_at_single_spaces_between_other_characters(text: str) -> None:
    pieces = pieces_of(text)
    assert pieces == re.split(r"(?<=\S) (?=\S)", text)
    assert " ".join(pieces) == text


@pytest.mark.parametrize("kind", TRAINED)
def test_long_texts_and_full_tables(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer.from_str(TRAINED[kind].tokenizer_json)
    encoder = PieceEncoder(tokenizer)
    monkeypatch.setattr(encoders, "_MAX_BYTES", 500)
    for rows in (LONG, [f"a{number} b{number} c" for number in range(20)], ["c a1 b1", ""]):
        assert [ids_of(row) for row in encoder(rows)] == [tokenizer.encode(text).ids for text in rows]


class Keras:
    """What Keras' preprocessing.text.Tokenizer and pad_sequences say of themselves, as plainly as can be."""

    def __init__(self, words: Sequence[str], num_words: int | None, oov: str | None) -> None:
        self.index = {word: number for number, word in enumerate([*([oov] if oov else []), *words], start=1)}
        self.num_words, self.oov = num_words, oov

    def sequence(self, text: str) -> list[int]:
        for character in KERAS_FILTERS:
            text = text.lower().replace(character, " ")
        found = []
        for word in text.split(" "):
            number = self.index.get(word)
            if word and (number is None or (self.num_words and number >= self.num_words)):
                found += [self.index[self.oov]] if self.oov else []
            elif word and number is not None:
                found.append(number)
        return found


@pytest.mark.parametrize("oov", [None, "<oov>"])
@pytest.mark.parametrize("num_words", [None, 4])
@given(st.lists(st.sampled_from(["the", "Cat", "cat,", "dog\t", "ÉTÉ", "--", "", "mouse", "\U0001f600", "<oov>"]), max_size=12))
@settings(deadline=None)
def test_words_are_those_of_keras(oov: str | None, num_words: int | None, words: list[str]) -> None:
    known = ["the", "cat", "dog", "été", "\U0001f600"]
    kept = known[: num_words - (2 if oov else 1)] if num_words else known
    cutter = Cutter("words", lower=True, filters=KERAS_FILTERS)
    saved = SavedTokenizer("words", cutter, (*([oov] if oov else []), *kept), oov_token=oov)
    text = " ".join(words)
    assert ids_of(make_encoder(saved)([text])[0]) == Keras(known, num_words, oov).sequence(text)


@pytest.mark.parametrize(
    ("fit", "ids", "expected"),
    [
        (Fit(), [1, 2, 3], [1, 2, 3]),
        (Fit(5), [1, 2, 3], [0, 0, 1, 2, 3]),
        (Fit(5, padding="post", pad_id=9), [1, 2, 3], [1, 2, 3, 9, 9]),
        (Fit(2), [1, 2, 3], [2, 3]),
        (Fit(2, truncating="post"), [1, 2, 3], [1, 2]),
        (Fit(3, padding="post", truncating="post"), [1, 2, 3], [1, 2, 3]),
        (Fit(2), [], [0, 0]),
    ],
)
def test_rows_of_one_length(fit: Fit, ids: list[int], expected: list[int]) -> None:
    assert ids_of(fit(packed(ids))) == expected


def test_a_column() -> None:
    characters = SavedTokenizer("characters", Cutter("characters", lower=True), ("a", "中", "\ufffd"))
    raw = pa.array(["A中b".encode(), None, b"", b"\xed\xa0\x80"], pa.binary())
    column = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    found = encode_column(column, make_encoder(characters), Fit())
    assert found.type == pa.binary()
    assert [ids_of(row) for row in found.to_pylist()] == [[1, 2], [], [], [3, 3, 3]]  # a NULL has no tokens, as an empty text


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
def test_keras_itself_agrees() -> None:
    """Loads Keras."""
    import keras
    from keras.src.legacy.preprocessing.text import Tokenizer as KerasTokenizer

    corpus = ["the cat the dog", "The CAT, the mouse!", "été \U0001f600 the cat dog", "the the dog"]
    for oov in (None, "<oov>"):
        for num_words in (None, 3, 4):
            theirs = KerasTokenizer(num_words=num_words, oov_token=oov)
            theirs.fit_on_texts(corpus)
            words = [word for word in theirs.word_index if word != oov]
            kept = words[: num_words - (2 if oov else 1)] if num_words else words
            tokens = (*([oov] if oov else []), *kept)
            saved = SavedTokenizer("words", Cutter("words", lower=True, filters=KERAS_FILTERS), tokens, oov_token=oov)
            sequences = theirs.texts_to_sequences(corpus)
            rows = make_encoder(saved)(corpus)
            assert [ids_of(row) for row in rows] == sequences
            for side in ("pre", "post"):
                padded = keras.utils.pad_sequences(sequences, maxlen=3, padding=side, truncating=side)
                assert [ids_of(Fit(3, side, side)(row)) for row in rows] == padded.tolist()
