"""Which language a text is in, by the model inside py3langid's wheel (Lui and Baldwin, 2012: byte n-grams, naive Bayes)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

from millrace.config.texts import LanguageConfig
from millrace.transforms.text import sound

UNDETERMINED = "und"
"""ISO 639-2's code for a text without a letter."""
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class Language:
    """An ISO 639-1 code and its probability among the model's 97 languages, rounded to six digits."""

    code: str
    probability: float


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_pickled_model(MODEL_FILE)


def known_languages() -> tuple[str, ...]:
    """The codes that the model can give."""
    return tuple(_identifier().nb_classes)


def language_of(text: str | None, *, max_chars: int = 5_000) -> Language:
    """The most probable language of the text's first characters; `und` with 0 for NULL and texts without a letter."""
    start = sound((text or "")[:max_chars])
    if not _LETTER.search(start):
        return Language(UNDETERMINED, 0.0)
    model = _identifier()
    counts = model.instance2fv(start, datatype="uint32")  # with its default, uint16, counts of a long text wrap around
    there = np.flatnonzero(counts)
    # a plain sum in float64: BLAS gives other last digits on other numbers of threads
    scores = (model.nb_ptc[there].astype(np.float64) * counts[there, None]).sum(axis=0) + model.nb_pc
    best = int(np.argmax(scores))
    return Language(model.nb_classes[best], round(float(1.0 / np.exp(scores - scores[best]).sum()), 6))


def why_not(found: Language, config: LanguageConfig) -> str | None:
    """Why a text of this language is dropped; None where it stays."""
    if config.languages and found.code not in config.languages:
        return f"language {found.code} ({found.probability:.2f}), not {' or '.join(config.languages)}"
    if found.probability < config.min_probability:
        return f"language {found.code} with probability {found.probability:.2f}, at least {config.min_probability:g} wanted"
    return None
