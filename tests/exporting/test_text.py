"""The graph of a tokenizer gives the ids that Spark gives."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest

from millrace.config.tokens import KERAS_FILTERS
from millrace.contracts.cutting import Cutter
from millrace.contracts.tokenizer import SavedTokenizer
from millrace.errors import ExportError
from millrace.exporting.text import is_exportable, lower_tables, text_to_ids
from millrace.transforms.encoders import Fit, make_encoder

ALPHABET = "aAbΣσςİıé É'\u0301\u00ad\u0345.:,\t\n\r\x00 中 \u00a0\u3000\U0001f600\U00010400ßẞÀǅ"  # noqa: RUF001
OOV = "<oov>"


def assert_equal(saved: SavedTokenizer, fit: Fit, texts: Sequence[str]) -> None:
    import tensorflow as tf

    found = text_to_ids(saved, fit)(tf.constant([text.encode() for text in texts])).numpy()
    expected = [array("i", fit(row)).tolist() for row in make_encoder(saved)(texts)]
    assert found.dtype == np.int32
    assert found.tolist() == expected


def fuzz(count: int) -> list[str]:
    random = Random(5)
    return ["".join(random.choice(ALPHABET) for _ in range(random.randrange(14))) for _ in range(count)]


@pytest.mark.parametrize(("fit", "oov"), [(Fit(6), OOV), (Fit(3, padding="post", truncating="post", pad_id=7), None)])
@pytest.mark.parametrize("kind", ["words", "characters"])
def test_the_graph_gives_the_same_ids(kind: str, fit: Fit, oov: str | None) -> None:
    """NULL comes as an empty text; emoji, sigmas at all places, what is longer when lowered, unseen tokens, a long text."""
    texts = ["", " ", "ΑΣ ΑΣΑ Σ 'Σ' ΑΣ. ΑΣ\u0301Α", "İİ", "the cat", "a" * 100_000, *fuzz(300)]  # noqa: RUF001
    cutter = Cutter(kind, lower=True, filters=KERAS_FILTERS)
    tokens = sorted({token for text in texts for token in cutter(text)})
    known = tokens[:: 2 if oov else 1][:5_000]
    assert_equal(SavedTokenizer(kind, cutter, (*([oov] if oov else []), *known), oov_token=oov), fit, texts)


def test_without_lower_and_with_another_split() -> None:
    cutter = Cutter("words", lower=False, filters="b", split="中")
    assert_equal(SavedTokenizer("words", cutter, ("aA", "Σ", " ")), Fit(4), ["aA中Σ", "aAb 中中", *fuzz(50)])


def test_the_module_is_saved_with_its_tables(tmp_path: Path) -> None:
    import tensorflow as tf

    saved = SavedTokenizer("words", Cutter("words", lower=True, filters=KERAS_FILTERS), (OOV, "ας"), oov_token=OOV)
    tf.saved_model.save(text_to_ids(saved, Fit(2)), str(tmp_path))
    assert tf.saved_model.load(str(tmp_path))(tf.constant(["ΑΣ", "x ΑΣ"])).numpy().tolist() == [[0, 2], [1, 2]]


def test_what_is_no_tensorflow_operation_is_refused() -> None:
    jieba = SavedTokenizer("jieba", Cutter("jieba", lower=False), ("的",))
    assert not is_exportable(jieba)
    with pytest.raises(ExportError) as caught:
        text_to_ids(jieba, Fit(3))
    assert str(caught.value) == (
        "export: expected words cut at one character, or characters, padded to a length; found jieba of length 3. "
        "Export a model that takes ids, and the saved tokenizer beside it."
    )


@pytest.mark.full
def test_every_code_point_at_every_place_of_a_sigma() -> None:
    """1.1 million code points, in a row each."""
    points = [chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point <= 0xDFFF]
    cutter = Cutter("characters", lower=True)
    saved = SavedTokenizer("characters", cutter, tuple(sorted({lower for each in points for lower in each.lower()} | {"ς"})))
    for pattern in ("{}", "{}Σ", "a{}Σ", "aΣ{}", "aΣ{}a", "Σ{}"):
        for first in range(0, len(points), 200_000):
            assert_equal(saved, Fit(4, padding="post"), [pattern.format(point) for point in points[first : first + 200_000]])
    assert len(lower_tables()[0]) > 1_000
