"""The tokenizer of a column as it is saved: all that Spark and whoever serves the model need to give the same ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from millrace.contracts.cutting import Cutter, jieba_dictionary
from millrace.errors import ContractError

FORMAT = "millrace-tokenizer-1"
TRAINED = ("bpe", "wordpiece")
KINDS = ("words", "characters", "jieba", *TRAINED)


@dataclass(frozen=True)
class SavedTokenizer:
    """Either a cutter and its tokens, or the JSON of a Hugging Face tokenizer. Id 0 is padding in all of them.

    The JSON has no added tokens: a text that spells "<pad>" is encoded as those five letters, never as padding.
    """

    kind: str
    cutter: Cutter | None = None
    tokens: tuple[str, ...] = ()
    """Token i has the id i + 1."""
    oov_token: str | None = None
    boundary_token: str | None = None
    dictionary: str = ""
    """SHA-256 of jieba's dictionary."""
    tokenizer_json: str = ""

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of every token."""
        if self.tokenizer_json:
            vocabulary: dict[str, int] = json.loads(self.tokenizer_json)["model"]["vocab"]
            return vocabulary
        return {token: number for number, token in enumerate(self.tokens, start=1)}

    @property
    def num_ids(self) -> int:
        """Ids from 0 to the largest: the rows of an embedding."""
        return max(self.ids.values(), default=0) + 1

    @property
    def oov_id(self) -> int | None:
        """What an unknown token becomes; None where it is left out."""
        return None if self.oov_token is None else self.ids[self.oov_token]

    @property
    def boundary_id(self) -> int | None:
        """What stands behind a document in blocks; None without a boundary token."""
        return None if self.boundary_token is None else self.ids[self.boundary_token]

    @cached_property
    def hash(self) -> str:
        """SHA-256 of everything that decides the ids."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """For a JSON file."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> SavedTokenizer:
        """What `to_json` gave. Raises ContractError where it is something else, or of another jieba."""
        values = dict(found)
        try:
            if values.pop("format", None) != FORMAT or values["kind"] not in KINDS:
                raise ValueError(f"no tokenizer of the format {FORMAT}")
            values["cutter"] = Cutter(**values["cutter"]) if values["cutter"] else None
            saved = cls(**{**values, "tokens": tuple(values["tokens"])})
        except (KeyError, TypeError, ValueError) as error:
            raise ContractError(
                "tokenizer",
                expected="a saved tokenizer",
                found=str(error),
                remedy="Fit it again: run preprocess with --force.",
            ) from None
        return saved

    def check(self) -> None:
        """Raises ContractError where this machine's jieba would cut texts in another way than the one that was fitted."""
        if self.kind == "jieba" and self.dictionary != jieba_dictionary():
            raise ContractError(
                "tokenizer",
                expected=f"jieba's dictionary with SHA-256 {self.dictionary[:16]}",
                found=jieba_dictionary()[:16],
                remedy="Install the jieba that it was fitted with, or fit it again.",
            )
