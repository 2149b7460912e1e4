"""BPE and WordPiece: the sample and the training give the same whatever the partitions, threads and hash seeds are."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from tokenizers import Tokenizer

from millrace.config.tokens import BpeFeature, WordPieceFeature, WordsFeature
from millrace.contracts.tokenizer import SavedTokenizer
from millrace.fit.tokenizer import first_texts, fit_tokens, sample_texts, train_tokenizer

WORDS = [hashlib.sha256(str(number % 97).encode()).hexdigest()[: 3 + number % 7] for number in range(2_000)]
TEXTS = [" ".join(WORDS[first : first + 9]) + " 北京的学生，来到北京。" for first in range(0, 2_000, 7)]  # noqa: RUF001
BPE = BpeFeature(column="text", encode="bpe", vocab_size=600)
WORDPIECE = WordPieceFeature(column="text", encode="wordpiece", vocab_size=600)


def test_the_sample_is_that_of_the_smallest_hashes(spark: SparkSession) -> None:
    rows = [(f"{number:04d}", "x" * (number % 40) if number % 9 else None) for number in range(500)]
    by_hash = sorted((row for row in rows if row[1]), key=lambda row: hashlib.sha256(f"3:{row[0]}".encode()).hexdigest())
    frame = spark.createDataFrame(rows, "row_id string, text string")
    for partitions in (1, 5):
        parts = frame.repartition(partitions)
        assert sample_texts(parts, column="text", max_rows=17, max_bytes=10**6, seed=3) == [text for _, text in by_hash[:17]]
        found = sample_texts(parts, column="text", max_rows=10**6, max_bytes=1_000, seed=3)
        expected = [text or "" for _, text in by_hash[: len(found)]]
        assert found[:-1] == expected[:-1] and expected[-1].startswith(found[-1])
        assert sum(map(len, found)) == 1_000 <= sum(map(len, expected))
    assert sample_texts(frame, column="text", max_rows=10**6, max_bytes=10**9, seed=3) == [text for _, text in by_hash]
    assert sample_texts(frame.filter("false"), column="text", max_rows=9, max_bytes=9, seed=3) == []


def test_a_text_that_reaches_the_limit_is_cut_at_a_character() -> None:
    texts = pa.chunked_array([["中文", "b"], ["c"]])
    assert first_texts(texts, max_rows=9, max_bytes=5) == ["中"]
    assert first_texts(texts, max_rows=9, max_bytes=6) == ["中文"]
    assert first_texts(texts, max_rows=9, max_bytes=8) == ["中文", "b", "c"]
    assert first_texts(pa.chunked_array([["b", "中文" * 9, "c"]]), max_rows=9, max_bytes=8) == ["b", "中文"]
    assert first_texts(texts, max_rows=2, max_bytes=8) == ["中文", "b"]


@pytest.mark.parametrize("feature", [BPE, WORDPIECE], ids=["bpe", "wordpiece"])
def test_two_trainings_give_the_same(feature: BpeFeature | WordPieceFeature) -> None:
    """The second in a process with one thread and another hash seed, on the texts in another order."""
    first = train_tokenizer(TEXTS, feature=feature, boundary_token="<|end|>")  # noqa: S106
    program = (
        "import json, sys\n"
        "from millrace.config.tokens import BpeFeature, WordPieceFeature\n"
        "from millrace.fit.tokenizer import train_tokenizer\n"
        "kind, values, texts = json.load(sys.stdin)\n"
        "feature = (BpeFeature if kind == 'bpe' else WordPieceFeature).model_validate(values)\n"
        "print(train_tokenizer(texts, feature=feature, boundary_token='<|end|>').hash)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps([feature.encode, feature.model_dump(), TEXTS[::-1]]),
        env={**os.environ, "RAYON_NUM_THREADS": "1", "PYTHONHASHSEED": "11"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == first.hash
    assert SavedTokenizer.from_json(json.loads(json.dumps(first.to_json()))) == first
    assert first.num_ids <= 600
    assert {first.ids["<pad>" if feature is BPE else "[PAD]"], first.boundary_id} == {0, 1 if feature is BPE else 5}


@pytest.mark.parametrize("feature", [BPE, WORDPIECE], ids=["bpe", "wordpiece"])
def test_no_text_is_taken_for_a_special_token(feature: BpeFeature | WordPieceFeature) -> None:
    saved = train_tokenizer(TEXTS, feature=feature, boundary_token="<|end|>")  # noqa: S106
    tokenizer = Tokenizer.from_str(saved.tokenizer_json)
    for text in ("<pad>", "<|end|>", "[PAD]", "a<|end|>b"):
        assert not {0, saved.boundary_id} & set(tokenizer.encode(text).ids), text


def test_each_kind_is_fitted_on_rows(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(str(number), text) for number, text in enumerate(TEXTS)], "row_id string, text string")
    options = {"column": "text", "seed": 3, "sample_bytes": 2_000, "vocab_size": 400}
    feature = BpeFeature.model_validate({"encode": "bpe", **options})
    texts = sample_texts(rows, column="text", max_rows=10**6, max_bytes=2_000, seed=3)
    assert fit_tokens(rows.repartition(3), feature=feature) == train_tokenizer(texts, feature=feature)
    words = WordsFeature(column="text", encode="words", num_words=5, oov_token="<oov>")  # noqa: S106
    saved = fit_tokens(rows, feature=words, boundary_token="<end>")  # noqa: S106
    assert saved.tokens[:2] == ("<oov>", "<end>")
    assert (len(saved.tokens), saved.boundary_id) == (4, 2)


def test_bpe_knows_every_text() -> None:
    tokenizer = Tokenizer.from_str(train_tokenizer(TEXTS, feature=BPE).tokenizer_json)
    for text in ("", " ", "北京 \U0001f600\x00\u200b\n", "ß" * 50):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
