"""A text as words or characters: one definition for those who count them, those who number them, and what is served."""

from __future__ import annotations

import hashlib
import logging
import warnings
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import jieba  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Cutter:
    """Cuts a text. `kind` is words, characters or jieba; words are those of Keras' classic Tokenizer."""

    kind: str
    lower: bool
    filters: str = ""
    split: str = " "
    hmm: bool = True

    @cached_property
    def _filtered(self) -> dict[int, str]:
        return {ord(character): self.split for character in self.filters}

    def __call__(self, text: str) -> list[str]:
        """The tokens of a text in their order."""
        if self.lower:
            text = text.lower()
        if self.kind == "characters":
            return list(text)
        if self.kind == "jieba":
            return [word for word in _jieba().cut(text, HMM=self.hmm) if not word.isspace()]
        words = text.translate(self._filtered).split(self.split)
        return [word for word in words if word]


def texts_of(array: pa.Array) -> list[str]:
    """The texts of a column of strings, "" where one is NULL.

    What is no UTF-8 becomes U+FFFD, each byte of a lone surrogate too: Spark's strings are bytes, and may be any.
    """
    try:
        return [text or "" for text in array.to_pylist()]
    except UnicodeDecodeError:
        binary = array.cast(pa.large_binary() if pa.types.is_large_string(array.type) else pa.binary())
        return [(data or b"").decode("utf-8", "replace") for data in binary.to_pylist()]


def without_surrogates(text: str) -> str:
    """What `texts_of` makes of a Python text, which may hold lone surrogates, on its way through UTF-8."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


@cache
def jieba_dictionary() -> str:
    """SHA-256 of jieba's dictionary, which decides how a text is cut."""
    with _jieba().get_dict_file() as stream:
        return hashlib.sha256(stream.read()).hexdigest()


@cache
def _jieba() -> jieba.Tokenizer:
    """jieba's tokenizer, once in a process.

    Built from the dictionary inside the package. jieba's own start would unmarshal a file from the directory that everybody can
    write temporary files to, and write it there; it would also speak on standard error.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports
        import jieba

    jieba.setLogLevel(logging.ERROR)
    tokenizer = jieba.Tokenizer()
    with tokenizer.get_dict_file() as stream:
        tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(stream)
    tokenizer.initialized = True
    return tokenizer
