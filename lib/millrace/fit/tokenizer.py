"""Tokenizers fitted on the train split; BPE and WordPiece on a sample of it that is the same whatever the partitioning."""

from __future__ import annotations

import json

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from millrace.config.tokens import BpeFeature, Tokens, WordPieceFeature
from millrace.contracts.cutting import texts_of
from millrace.contracts.tokenizer import SavedTokenizer
from millrace.fit.vocabulary import cutter_of, fit_vocabulary, token_counts

TrainedFeature = BpeFeature | WordPieceFeature
PAD = "<pad>"
_WORDPIECE_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_BUCKET_DIGITS = 4  # hex digits of a hash: 65,536 buckets, so that what is collected beyond the sample is a sliver of the data


def fit_tokens(rows: DataFrame, *, feature: Tokens, boundary_token: str | None = None) -> SavedTokenizer:
    """The tokenizer of a feature, fitted on `rows`: those of the train split, with row_id. Runs one or two Spark jobs."""
    if isinstance(feature, BpeFeature | WordPieceFeature):
        limits = {"max_rows": feature.sample_rows, "max_bytes": feature.sample_bytes}
        texts = sample_texts(rows, column=feature.column, seed=feature.seed, **limits)
        return train_tokenizer(texts, feature=feature, boundary_token=boundary_token)
    counts = token_counts(rows, column=feature.column, cutter=cutter_of(feature))
    return fit_vocabulary(counts, feature=feature, boundary_token=boundary_token)


def sample_texts(rows: DataFrame, *, column: str, max_rows: int, max_bytes: int, seed: int) -> list[str]:
    """The texts of the rows with the smallest hash(seed, row_id), as many as fit both limits, in the order of their hashes.

    Two Spark jobs: bytes by bucket of the hash, then the rows of the buckets that are needed. The text that reaches the limit of
    bytes is cut.
    """
    digest = F.sha2(F.concat(F.lit(f"{seed}:"), F.col("row_id")), 256)
    hashed = rows.filter(F.octet_length(column) > 0).select(digest.alias("hash"), F.col(column).alias("text"))
    bucket = F.substring("hash", 1, _BUCKET_DIGITS)
    sizes = hashed.groupBy(bucket.alias("bucket")).agg(F.count("*").alias("rows"), F.sum(F.octet_length("text")).alias("bytes"))
    last = ""
    num_rows = num_bytes = 0
    for found in sorted(sizes.collect()):
        last = found["bucket"]
        num_rows, num_bytes = num_rows + found["rows"], num_bytes + found["bytes"]
        if num_rows >= max_rows or num_bytes >= max_bytes:
            break
    table = hashed.filter(bucket <= last).toArrow().sort_by("hash")
    return first_texts(table.column("text"), max_rows=max_rows, max_bytes=max_bytes)


def first_texts(texts: pa.ChunkedArray, *, max_rows: int, max_bytes: int) -> list[str]:
    """The first texts, as many as fit both limits; the one that reaches the limit of bytes is cut at a character."""
    chosen: list[str] = []
    left = max_bytes
    for chunk in texts.chunks:
        for text in texts_of(chunk):
            if len(chosen) == max_rows or left <= 0:
                return chosen
            data = text.encode()
            chosen.append(data[:left].decode(errors="ignore"))
            left -= len(data)
    return chosen


def train_tokenizer(texts: list[str], *, feature: TrainedFeature, boundary_token: str | None = None) -> SavedTokenizer:
    """A tokenizer trained on texts. The same texts in any order give the same JSON, whatever the number of threads.

    BPE's special tokens are <pad> (id 0) and the boundary token; WordPiece has BERT's five, and the boundary token.
    """
    bpe = isinstance(feature, BpeFeature)
    base = (PAD,) if bpe else _WORDPIECE_SPECIAL
    special = list(dict.fromkeys([*base, *([boundary_token] if boundary_token else [])]))
    tokenizer = _bpe(texts, feature, special) if isinstance(feature, BpeFeature) else _wordpiece(texts, feature, special)
    return SavedTokenizer(kind=feature.encode, boundary_token=boundary_token, tokenizer_json=plain_json(tokenizer))


def plain_json(tokenizer: Tokenizer) -> str:
    """A tokenizer's JSON without its added tokens: they stay in the vocabulary, but no text is ever taken for one of them."""
    saved = json.loads(tokenizer.to_str())
    saved["added_tokens"] = []
    return json.dumps(saved, ensure_ascii=False, separators=(",", ":"))


def _bpe(texts: list[str], feature: BpeFeature, special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=feature.vocab_size,
        min_frequency=feature.min_frequency,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _wordpiece(texts: list[str], feature: WordPieceFeature, special: list[str]) -> Tokenizer:
    """The trainer numbers the characters inside of words as it meets them in a hash table, so that two trainings would differ.

    A first training, without a single join, finds these characters; the second gets them sorted, as if they were special.
    """

    def train(vocab_size: int, first: list[str]) -> Tokenizer:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 (no secret)
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=feature.lower)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocab_size, min_frequency=feature.min_frequency, special_tokens=first, show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        return tokenizer

    inside = sorted(token for token in train(0, special).get_vocab() if token.startswith("##") and len(token) == 3)
    return train(feature.vocab_size, [*special, *inside])
