"""Columns of texts to columns of token ids, in Arrow batches on Spark's executors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.types import BinaryType, StructField, StructType

from millrace.contracts.tokenizer import SavedTokenizer
from millrace.errors import MillraceError, WireError
from millrace.transforms.encoders import Encode, Fit, encode_column, make_encoder


@dataclass(frozen=True)
class TokenColumn:
    """`column`, a column of texts, becomes packed int32 ids under the same name."""

    column: str
    tokenizer: SavedTokenizer
    fit: Fit = field(default_factory=Fit)


def tokenize(rows: DataFrame, *, columns: Sequence[TokenColumn]) -> DataFrame:
    """The same rows, with each of `columns` as bytes: (length,) or (any,) little-endian int32 ids. Never NULL."""
    wanted = {each.column: each for each in columns}
    schema = StructType([StructField(f.name, BinaryType()) if f.name in wanted else f for f in rows.schema.fields])

    def encode(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # Spark has a task for every core already
        try:
            encoders = {name: encoder_of(each.tokenizer) for name, each in wanted.items()}
        except MillraceError as error:
            raise WireError(error) from None
        for batch in batches:
            arrays = [
                encode_column(array, encoders[name], wanted[name].fit) if name in wanted else array
                for name, array in zip(batch.schema.names, batch.columns, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)

    return rows.mapInArrow(encode, schema)


@lru_cache(maxsize=4)
def _encoder(saved: _ByHash) -> Encode:
    return make_encoder(saved.tokenizer)


@dataclass(frozen=True)
class _ByHash:
    """A tokenizer as a key: Spark's workers outlive their tasks, and so do what they have parsed and the pieces they know."""

    hash: str
    tokenizer: SavedTokenizer

    def __hash__(self) -> int:
        return hash(self.hash)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByHash) and self.hash == other.hash


def encoder_of(saved: SavedTokenizer) -> Encode:
    """The encoder of a saved tokenizer, made once in a process."""
    return _encoder(_ByHash(saved.hash, saved))
