"""Tokenizing on Spark: the same ids as the saved tokenizer's, in every row."""

from __future__ import annotations

import logging
import warnings
from array import array
from pathlib import Path

import pytest
from pyspark.errors import PythonException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from tokenizers import Tokenizer

from millrace.config.tokens import KERAS_FILTERS, BpeFeature, WordPieceFeature
from millrace.contracts.cutting import Cutter, jieba_dictionary, without_surrogates
from millrace.contracts.tokenizer import SavedTokenizer
from millrace.errors import ContractError, find_in
from millrace.fit.tokenizer import train_tokenizer
from millrace.transforms.encoders import Fit
from millrace.transforms.tokens import TokenColumn, tokenize

TEXTS = [None, "", " ", "the cat  sat", "北京的学生", "\U0001f600<pad>", "a\ud800b", "long " * 200_000, "\x00"]


def test_ids_are_those_of_the_saved_tokenizer(spark: SparkSession) -> None:
    """NULL, empty, emoji, a lone surrogate (as bytes, which is all that Spark can hold of it), a text of 1 MB."""
    bpe = train_tokenizer(["the cat sat on the mat 北京"] * 3, feature=BpeFeature(column="x", encode="bpe", vocab_size=300))
    letters = SavedTokenizer("characters", Cutter("characters", lower=False), ("a", "t", "北"))
    rows = [
        (number, None if text is None else bytearray(text.encode("utf-8", "surrogatepass"))) for number, text in enumerate(TEXTS)
    ]
    frame = spark.createDataFrame(rows, "number int, raw binary").repartition(3)
    frame = frame.select("number", F.col("raw").cast("string").alias("text"), F.col("raw").cast("string").alias("letters"))
    found = tokenize(frame, columns=[TokenColumn("text", bpe), TokenColumn("letters", letters, Fit(4, padding="post"))])
    assert found.schema.simpleString() == "struct<number:int,text:binary,letters:binary>"
    tokenizer = Tokenizer.from_str(bpe.tokenizer_json)
    got = {row["number"]: row for row in found.collect()}
    assert len(got) == len(TEXTS)
    for number, text in enumerate(TEXTS):
        clean = without_surrogates(text or "")
        assert array("i", got[number]["text"]).tolist() == tokenizer.encode(clean).ids, repr(text)[:40]
    assert array("i", got[3]["letters"]).tolist() == [1, 2, 1, 2]
    assert array("i", got[0]["letters"]).tolist() == [0, 0, 0, 0]


OOV = "<oov>"
CORPUS = ["the cat sat on the mat", "北京的学生，来到北京。", "naïve café ΑΣ"] * 3  # noqa: RUF001
SAVED = {
    "words": SavedTokenizer("words", Cutter("words", lower=True, filters=KERAS_FILTERS), (OOV, "the", "cat"), oov_token=OOV),
    "jieba": SavedTokenizer(
        "jieba", Cutter("jieba", lower=False), (OOV, "北京", "的", "cat"), oov_token=OOV, dictionary=jieba_dictionary()
    ),
    "wordpiece": train_tokenizer(CORPUS, feature=WordPieceFeature(column="x", encode="wordpiece", vocab_size=300)),
}
MORE_TEXTS = [*TEXTS, "The CAT, unseen!", "北京的大学生活动", "naïve cafe\u0301 ΑΣ'", "\ud83d\ude00 [UNK] <oov>", "\n\t"]


def plain_ids(kind: str, text: str, directory: Path) -> list[int]:
    """By the libraries alone, and by plain look-ups."""
    saved = SAVED[kind]
    if kind == "wordpiece":
        return list(Tokenizer.from_str(saved.tokenizer_json).encode(text).ids)
    if kind == "jieba":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import jieba
        jieba.setLogLevel(logging.ERROR)
        cutter = jieba.Tokenizer()
        cutter.tmp_dir = str(directory)
        words = [word for word in cutter.lcut(text) if word.strip()]
    else:
        words = text.lower().translate(str.maketrans(KERAS_FILTERS, " " * len(KERAS_FILTERS))).split(" ")
    ids = {word: number for number, word in enumerate(saved.tokens, start=1)}
    return [ids.get(word, 1) for word in words if word]


@pytest.mark.parametrize("kind", SAVED)
def test_spark_gives_what_the_libraries_give(spark: SparkSession, tmp_path: Path, kind: str) -> None:
    rows = [
        (number, None if text is None else bytearray(text.encode("utf-8", "surrogatepass")))
        for number, text in enumerate(MORE_TEXTS)
    ]
    frame = spark.createDataFrame(rows, "number int, raw binary").repartition(3)
    frame = frame.select("number", F.col("raw").cast("string").alias("text"))
    got = {row["number"]: row["text"] for row in tokenize(frame, columns=[TokenColumn("text", SAVED[kind])]).collect()}
    for number, text in enumerate(MORE_TEXTS):
        clean = (text or "").encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        assert array("i", got[number]).tolist() == plain_ids(kind, clean, tmp_path), repr(text)[:40]


def test_another_jieba_on_an_executor_is_one_clear_error(spark: SparkSession) -> None:
    saved = SavedTokenizer("jieba", Cutter("jieba", lower=False), ("的",), dictionary="0" * 64)
    with pytest.raises(PythonException) as caught:
        tokenize(spark.createDataFrame([("的",)], "text string"), columns=[TokenColumn("text", saved)]).collect()
    error = find_in(str(caught.value))
    assert isinstance(error, ContractError)
    assert error.remedy == "Install the jieba that it was fitted with, or fit it again."
