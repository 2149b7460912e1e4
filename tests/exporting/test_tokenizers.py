"""A model of token ids and its saved tokenizer: what both give for silver's texts is what Spark's ids give."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pyarrow as pa
import pytest

from millrace.config.tokens import KERAS_FILTERS, BpeFeature, WordPieceFeature
from millrace.contracts.cutting import Cutter, jieba_dictionary
from millrace.contracts.tokenizer import SavedTokenizer
from millrace.errors import ContractError, ExportError
from millrace.exporting import tokenizers
from millrace.exporting.formats import FORMATS, export, load_predictor
from millrace.exporting.predictor import Predictor
from millrace.exporting.serving_model import predictor, serving_model
from millrace.exporting.tokenizers import TextInput
from millrace.fit.tokenizer import train_tokenizer
from millrace.transforms.encoders import Fit, encode_column, make_encoder

OOV = "<oov>"
CORPUS = ["the cat sat on the mat", "北京的学生，来到北京。", "naïve café ΑΣ"] * 3  # noqa: RUF001
TEXTS = [
    None,
    "",
    " ",
    "The cat sat, unseen",
    "北京的大学",
    "\U0001f600 mat",
    "a\ud800b",
    "\ud83d\ude00",
    "ΑΣ'",
    "\\N",
    "\x00",
    "cat " * 50_000,
]
SAVED = {
    "words": SavedTokenizer(
        "words", Cutter("words", lower=True, filters=KERAS_FILTERS), (OOV, "the", "cat", "mat", "ας", "n"), oov_token=OOV
    ),
    "characters": SavedTokenizer("characters", Cutter("characters", lower=False), tuple("thecas北京\ufffd")[3:]),
    "jieba": SavedTokenizer(
        "jieba", Cutter("jieba", lower=False), (OOV, "北京", "的", "cat"), oov_token=OOV, dictionary=jieba_dictionary()
    ),
    "bpe": train_tokenizer(CORPUS, feature=BpeFeature(column="review", encode="bpe", vocab_size=320)),
    "wordpiece": train_tokenizer(CORPUS, feature=WordPieceFeature(column="review", encode="wordpiece", vocab_size=300)),
}
FIT = Fit(6, truncating="post")


def model_of(saved: SavedTokenizer) -> keras.Model:
    """review: (B, 6) int32 ids -> (B, 3) probabilities, in which every id and its place counts."""
    ids = keras.Input((FIT.length,), dtype="int32", name="review")
    random = keras.initializers.RandomNormal(seed=2)
    embedded = keras.layers.Embedding(saved.num_ids, 4, embeddings_initializer=random)(ids)
    return serving_model(keras.Model(ids, keras.layers.Dense(3)(keras.layers.Flatten()(embedded))))


def ids_of_spark(saved: SavedTokenizer) -> np.ndarray:
    """(texts, 6): as Spark encodes the column, in which a lone surrogate is three bytes."""
    data = pa.array([None if text is None else text.encode("utf-8", "surrogatepass") for text in TEXTS], pa.binary())
    column = pa.Array.from_buffers(pa.string(), len(data), data.buffers(), data.null_count)
    rows = encode_column(column, make_encoder(saved), FIT).to_pylist()
    return np.stack([np.frombuffer(row, np.int32) for row in rows])


def exported(kind: str, name: str, directory: Path) -> tuple[Predictor, keras.Model]:
    texts = {"review": TextInput(SAVED[kind], FIT)}
    model = model_of(SAVED[kind])
    path = export(model, name, directory, texts=texts)
    tokenizers.write(texts, directory)
    return load_predictor(path, name), model


FULL = pytest.mark.full
OFTEN = {("words", "keras"), ("words", "saved_model"), ("bpe", "h5"), ("jieba", "saved_model")}


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) if (kind, name) in OFTEN else pytest.param(kind, name, marks=FULL) for kind in SAVED for name in FORMATS],
)
def test_every_format_takes_texts(kind: str, name: str, tmp_path: Path) -> None:
    """NULL, empty, unseen words, Chinese, emoji, lone surrogates, what stands for NULL elsewhere, a long text."""
    predict, model = exported(kind, name, tmp_path)
    expected = predictor(model)(ids_of_spark(SAVED[kind]))
    as_bytes = [None if text is None else text.encode("utf-8", "surrogatepass") for text in TEXTS]
    for texts in (TEXTS, as_bytes):
        np.testing.assert_allclose(predict({"review": np.array(texts, dtype=object)}), expected, rtol=1e-6)
    assert predict(np.array([], dtype=object)).shape == (0, 3)
    assert len({row.tobytes() for row in expected}) > 3


def test_without_the_tokenizers_an_export_takes_ids(tmp_path: Path) -> None:
    predict, model = exported("words", "keras", tmp_path)
    ids = ids_of_spark(SAVED["words"])
    with pytest.raises(ExportError) as error:
        predict(ids)
    assert str(error.value) == (
        "predict: expected a string batch of shape (rows); found int32 of shape (12, 6). "
        "Give the raw column as silver has it: scaling is inside the model."
    )
    (tmp_path / tokenizers.FILE_NAME).unlink()
    np.testing.assert_allclose(load_predictor(tmp_path / "model.keras", "keras")(ids), predictor(model)(ids), rtol=1e-6)


def test_a_saved_model_alone_takes_texts_where_tensorflow_can_cut_them(tmp_path: Path) -> None:
    """As a server that knows nothing of us does."""
    import tensorflow as tf

    predict, _ = exported("words", "saved_model", tmp_path)
    serve = tf.saved_model.load(str(tmp_path / "saved_model")).signatures["serving_default"]
    (found,) = serve(review=tf.constant(["the cat", ""])).values()
    np.testing.assert_allclose(found.numpy(), predict(np.array(["the cat", ""], dtype=object)), rtol=1e-6)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    texts = {kind: TextInput(saved, FIT) for kind, saved in SAVED.items()}
    assert tokenizers.read(tmp_path) == {}
    path = tokenizers.write(texts, tmp_path)
    assert tokenizers.read(tmp_path) == texts
    assert [found.name for found in tmp_path.iterdir()] == ["tokenizers.json"]
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ExportError, match=r"^load: expected the tokenizers of the export in .*tokenizers.json; found ") as error:
        tokenizers.read(tmp_path)
    assert str(error.value).endswith(" Publish the run again.")


def test_another_jieba_is_refused(tmp_path: Path) -> None:
    other = SavedTokenizer("jieba", Cutter("jieba", lower=False), ("的",), dictionary="0" * 64)
    with pytest.raises(ContractError, match="expected jieba's dictionary with SHA-256 0000000000000000"):
        export(model_of(other), "keras", tmp_path, texts={"review": TextInput(other, FIT)})


def test_ids_of_any_length_are_no_input() -> None:
    with pytest.raises(ExportError) as error:
        TextInput(SAVED["bpe"], Fit())
    assert str(error.value) == (
        "export: expected texts as ids of one length; found ids of bpe, as many as a text has. Give the feature a length."
    )
