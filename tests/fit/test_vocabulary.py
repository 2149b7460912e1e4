"""Vocabularies: equal to a plain count and to Keras' Tokenizer, whatever the partitioning."""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from millrace.config.tokens import CharactersFeature, JiebaFeature, WordsFeature
from millrace.contracts.cutting import jieba_dictionary
from millrace.fit.vocabulary import cutter_of, fit_vocabulary, token_counts

TEXTS = ["b a, c a", "A b B", None, "", "ü c b a \U0001f600", "中 b 中", "unk Unk unk"]
WORDS = WordsFeature(column="text", encode="words")


def frame(spark: SparkSession, texts: list[str | None], partitions: int = 3) -> DataFrame:
    return spark.createDataFrame([(text,) for text in texts], "text string").repartition(partitions)


def counted(texts: list[str | None], feature: WordsFeature | CharactersFeature | JiebaFeature) -> Counter[str]:
    return Counter(token for text in texts for token in cutter_of(feature)(text or ""))


def test_words_by_count_then_code_points(spark: SparkSession) -> None:
    counts = token_counts(frame(spark, TEXTS), column="text", cutter=cutter_of(WORDS))
    expected = counted(TEXTS, WORDS)
    assert {row["token"]: row["count"] for row in counts.collect()} == expected
    ordered = sorted(expected, key=lambda token: (-expected[token], token))
    saved = fit_vocabulary(counts, feature=WORDS)
    assert list(saved.tokens) == ordered == ["b", "a", "unk", "c", "中", "ü", "\U0001f600"]
    assert saved.ids["b"] == 1
    assert (saved.oov_id, saved.boundary_id, saved.num_ids) == (None, None, 8)

    def fit(**options: object) -> tuple[str, ...]:
        boundary = options.pop("boundary", None)
        feature = WordsFeature.model_validate({"column": "text", "encode": "words", **options})
        return fit_vocabulary(counts, feature=feature, boundary_token=boundary and str(boundary)).tokens

    assert fit(num_words=4) == ("b", "a", "unk")  # ids below 4
    assert fit(num_words=4, oov_token="unk") == ("unk", "b", "a")  # no token has two ids  # noqa: S106
    assert fit(num_words=4, oov_token="<oov>", boundary="<end>") == ("<oov>", "<end>", "b")  # noqa: S106
    assert fit(min_frequency=4) == ("b", "a")
    assert fit(num_words=2, oov_token="<oov>", boundary="<end>") == ("<oov>", "<end>")  # noqa: S106


def test_characters_and_jieba(spark: SparkSession) -> None:
    characters = CharactersFeature(column="text", encode="characters")
    chinese: list[str | None] = ["我来到北京清华大学", "北京大学的学生,来到 北京", "ΑΣ\ta"]
    counts = token_counts(frame(spark, chinese), column="text", cutter=cutter_of(characters))
    assert {row["token"]: row["count"] for row in counts.collect()} == counted(chinese, characters)
    jieba = JiebaFeature(column="text", encode="jieba")
    saved = fit_vocabulary(token_counts(frame(spark, chinese), column="text", cutter=cutter_of(jieba)), feature=jieba)
    expected = counted(chinese, jieba)
    assert list(saved.tokens) == sorted(expected, key=lambda token: (-expected[token], token))
    assert saved.tokens[0] == "北京"
    assert saved.dictionary == jieba_dictionary()
    assert not any(token.isspace() for token in saved.tokens)


def test_validation_rows_change_nothing(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("a b a", "train"), ("c", "test")], "text string, split string")

    def fit(rows: DataFrame) -> tuple[str, ...]:
        train = rows.filter(F.col("split") == "train")
        return fit_vocabulary(token_counts(train, column="text", cutter=cutter_of(WORDS)), feature=WORDS).tokens

    more = rows.unionByName(spark.createDataFrame([("d d d b", "validation")], rows.schema))
    assert fit(rows) == fit(more) == ("a", "b")


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
def test_imdb_is_counted_as_keras_does(spark: SparkSession) -> None:
    """Reads 10,000 reviews twice."""
    path = Path(os.environ.get("MILLRACE_DATA", "../shared/data"), "imdb", "aclImdb_train.tar.gz")
    if not path.exists():
        pytest.skip(f"no {path}: set MILLRACE_DATA")
    from keras.src.legacy.preprocessing.text import Tokenizer

    with tarfile.open(path) as archive:
        texts = [stream.read().decode() for member in archive if (stream := archive.extractfile(member)) is not None]
    theirs = Tokenizer()
    theirs.fit_on_texts(texts)
    saved = fit_vocabulary(token_counts(frame(spark, list(texts)), column="text", cutter=cutter_of(WORDS)), feature=WORDS)
    counts = theirs.word_counts
    assert set(saved.tokens) == set(counts)
    assert list(saved.tokens) == sorted(counts, key=lambda word: (-counts[word], word))
    assert [counts[word] for word in saved.tokens] == [
        counts[word] for word in theirs.word_index
    ]  # only ties are ordered otherwise
