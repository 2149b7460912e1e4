"""Vocabularies of words and characters by a distributed count. Counts of several nights add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from millrace.config.tokens import CharactersFeature, JiebaFeature, WordsFeature
from millrace.contracts.cutting import Cutter, jieba_dictionary, texts_of
from millrace.contracts.tokenizer import SavedTokenizer

VocabularyFeature = WordsFeature | CharactersFeature | JiebaFeature
_MAX_HELD = 200_000  # distinct tokens that a task holds before it hands its counts on


def cutter_of(feature: VocabularyFeature) -> Cutter:
    """How a feature's texts are cut."""
    if isinstance(feature, WordsFeature):
        return Cutter("words", feature.lower, feature.filters, feature.split)
    if isinstance(feature, JiebaFeature):
        return Cutter("jieba", feature.lower, hmm=feature.hmm)
    return Cutter("characters", feature.lower)


def token_counts(rows: DataFrame, *, column: str, cutter: Cutter) -> DataFrame:
    """One row per distinct token: token, count. Give it the rows of the train split. A NULL text has no tokens."""

    def count(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held: Counter[str] = Counter()
        for batch in batches:
            for text in texts_of(batch.column(0)):
                held.update(cutter(text))
            if len(held) > _MAX_HELD:
                yield _as_batch(held)
                held = Counter()
        yield _as_batch(held)

    parts = rows.select(column).mapInArrow(count, "token string, count bigint")
    return parts.groupBy("token").agg(F.sum("count").alias("count"))


def fit_vocabulary(counts: DataFrame, *, feature: VocabularyFeature, boundary_token: str | None = None) -> SavedTokenizer:
    """The vocabulary of counted tokens: the OOV token, the boundary token, then tokens by (-count, code points).

    Runs one Spark job. `num_words` counts the special tokens and padding, as in Keras.
    """
    special = special_tokens(feature.oov_token, boundary_token)
    frequent = counts.filter((F.col("count") >= feature.min_frequency) & ~F.col("token").isin(special))
    ordered = frequent.orderBy(F.desc("count"), "token")
    if feature.num_words is not None:
        ordered = ordered.limit(max(0, feature.num_words - 1 - len(special)))
    table = ordered.select("token").toArrow()
    return SavedTokenizer(
        kind=feature.encode,
        cutter=cutter_of(feature),
        tokens=(*special, *table.column(0).to_pylist()),
        oov_token=feature.oov_token,
        boundary_token=boundary_token,
        dictionary=jieba_dictionary() if feature.encode == "jieba" else "",
    )


def special_tokens(*tokens: str | None) -> list[str]:
    """Those that are given, each once."""
    return list(dict.fromkeys(token for token in tokens if token is not None))


def _as_batch(counts: Counter[str]) -> pa.RecordBatch:
    arrays = [pa.array(list(counts), pa.string()), pa.array(list(counts.values()), pa.int64())]
    return pa.RecordBatch.from_arrays(arrays, names=["token", "count"])
