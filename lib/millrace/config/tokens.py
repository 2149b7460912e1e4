"""Features that are text or series: how text becomes token ids, ids become blocks, and rows of a series become windows."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from millrace.config.section import Column, Positive, Section

Side = Literal["pre", "post"]
KERAS_FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
"""What Keras' classic Tokenizer takes out of a text by default."""


class TokenFeature(Section):
    """A column of texts that becomes a column of token ids, packed int32. A text that is NULL is a sequence of no tokens."""

    column: Column
    length: Positive | None = None
    """Ids of every row, cut or padded to this many. None: as many as the text has."""
    padding: Side = "pre"
    """On which side pad_id is put where a text is shorter; pre as in Keras' pad_sequences."""
    truncating: Side = "pre"
    """On which side ids are taken away where a text is longer; pre as in Keras' pad_sequences."""
    pad_id: int = Field(default=0, ge=0)
    """0 stands for no token in any of our vocabularies."""


class _Vocabulary(TokenFeature):
    """Tokens are numbered from 1 by falling count; equal counts by code point (Keras: by first occurrence)."""

    num_words: int | None = Field(default=None, ge=2)
    """Ids stay below this, as in Keras' Tokenizer: num_words - 1 tokens are kept. None: all of them."""
    oov_token: str | None = Field(default=None, min_length=1)
    """Stands, as id 1, for tokens that the vocabulary does not have. None: they are left out."""
    min_frequency: Positive = 1
    """Tokens that occur less often in the train split are left out of the vocabulary."""


class WordsFeature(_Vocabulary):
    """The words of Keras' classic Tokenizer: lower(), then each of the filters' characters becomes the split, then split."""

    encode: Literal["words"]
    lower: bool = True
    filters: str = KERAS_FILTERS
    split: str = Field(default=" ", min_length=1)

    model_config = ConfigDict(str_strip_whitespace=False)  # a split of one space is what it says


class CharactersFeature(_Vocabulary):
    """Code points, as in Keras' Tokenizer with char_level."""

    encode: Literal["characters"]
    lower: bool = True


class JiebaFeature(_Vocabulary):
    """Chinese words by the dictionary inside the jieba package; pieces that are only white space are left out."""

    encode: Literal["jieba"]
    lower: bool = False
    hmm: bool = True
    """Whether jieba also joins characters to words that its dictionary does not have, as it does by default."""


class _Trained(TokenFeature):
    """A vocabulary of word parts, trained on a sample of the train split: the rows with the smallest hash(seed, row_id)."""

    vocab_size: int = Field(default=32_000, ge=300)
    """Ids at most, those of special tokens included; all characters of a WordPiece's sample stay, were they more."""
    min_frequency: Positive = 2
    """How often a pair of parts must occur to be joined."""
    sample_rows: Positive = 1_000_000
    sample_bytes: Positive = 64 * 1024**2
    """UTF-8 bytes of the sample's texts at most. It is brought to the driver."""
    seed: int = Field(default=0, ge=0)


class BpeFeature(_Trained):
    """Byte-level byte-pair encoding (Sennrich et al., 2016; GPT-2's pieces): no text is unknown to it."""

    encode: Literal["bpe"]


class WordPieceFeature(_Trained):
    """WordPiece as BERT has it (Devlin et al., 2019): a word without parts in the vocabulary becomes [UNK]."""

    encode: Literal["wordpiece"]
    lower: bool = True
    """Also takes accents away, as BERT's uncased vocabularies do."""


Tokens = WordsFeature | CharactersFeature | JiebaFeature | BpeFeature | WordPieceFeature
"""A feature of tokens."""


class BlocksConfig(Section):
    """Documents behind one another, cut into blocks of one length, for language models."""

    length: Positive
    """Tokens of a block. A model that predicts the next token trains on length - 1 of them."""
    stride: Positive | None = None
    """From one block's first token to the next one's. None: length, so that every token is in exactly one block."""
    boundary_token: str | None = Field(default=None, min_length=1)
    """Put behind every document. None: documents touch each other, and only `starts` tells where they begin."""
    tail: Literal["drop", "pad"] = "drop"
    """What does not fill a block at the end of a bucket: dropped by the rule block_is_not_full, or padded with pad_id."""
    order: Literal["hash", "given"] = "hash"
    """hash: by hash(seed, row_id). given: by `order_by`, for texts whose rows follow one another."""
    order_by: tuple[Column, ...] = ()
    group_by: tuple[Column, ...] = ()
    """With order: given, rows that differ here do not share a block."""
    buckets: Positive = 16
    """With order: hash, the parts that are packed side by side, each with a tail of its own. Changes the blocks."""
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> BlocksConfig:
        if self.stride is not None and self.stride > self.length:
            raise ValueError(f"stride {self.stride} is above length {self.length}: tokens between blocks would be lost")
        if (self.order == "given") != bool(self.order_by):
            raise ValueError("order: given and order_by go together: give both, or neither")
        if self.group_by and self.order == "hash":
            raise ValueError("group_by goes with order: given")
        return self


class WindowsConfig(Section):
    """Rows of a time series as windows: input_length rows of the inputs, and the target of the horizon rows that follow."""

    by: tuple[Column, ...] = ()
    """Rows that differ here belong to different series."""
    time: Column
    """Orders the rows of a series: an integer, a date or a timestamp."""
    inputs: tuple[Column, ...] = Field(min_length=1)
    target: Column
    input_length: Positive
    """Rows of the inputs."""
    horizon: Positive = 1
    """Rows of the target, those right after the inputs."""
    stride: Positive = 1
    """Rows from one window's start to the next one's."""
    every_seconds: float | None = Field(default=None, gt=0.0)
    """What lies between two rows (of an integer time: its unit). A window with another distance in it is dropped by the rule
    window_has_a_gap. None: distances are not looked at, but no two rows may have the same time."""
