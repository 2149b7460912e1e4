"""How texts are cut, and tokenizers as they are saved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.config.tokens import KERAS_FILTERS
from millrace.contracts.cutting import Cutter, jieba_dictionary, texts_of, without_surrogates
from millrace.contracts.tokenizer import SavedTokenizer
from millrace.errors import ContractError

WORDS = Cutter("words", lower=True, filters=KERAS_FILTERS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \t\n ", []),
        ("The cat, the CAT!", ["the", "cat", "the", "cat"]),
        ("don't stop-it", ["don't", "stop", "it"]),  # the apostrophe is no filter of Keras
        ("a\u00a0b\u3000c", ["a\u00a0b\u3000c"]),  # only the split splits
        ("\U0001f600 ΑΣ İ", ["\U0001f600", "ας", "i\u0307"]),  # lower() of Python, which minds the end of a word
        ("a\x00b\rc", ["a\x00b\rc"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert WORDS(text) == words


def test_other_splits_and_filters() -> None:
    assert Cutter("words", lower=False, filters="xy", split="--")("AxB--y--C") == ["A", "B", "C"]


def test_characters_are_code_points() -> None:
    assert Cutter("characters", lower=False)("A\u0301\U0001f600 \n") == ["A", "\u0301", "\U0001f600", " ", "\n"]


def test_jieba_cuts_as_it_does_by_itself_without_a_file_or_a_word_on_stderr(tmp_path: Path) -> None:
    """In a process of its own, because the first use decides. jieba's own start would read jieba.cache."""
    (tmp_path / "jieba.cache").write_bytes(b"not for reading")
    program = (
        "from millrace.contracts.cutting import Cutter\n"
        "import json\n"
        "text = '我来到北京清华大学 小明\\u3000硕士毕业于中国科学院计算所,后在Python 3'\n"
        "print(json.dumps([Cutter('jieba', False, hmm=hmm)(text) for hmm in (True, False)]))\n"
        "import jieba, logging\n"
        "print(json.dumps([[w for w in jieba.Tokenizer().lcut(text, HMM=hmm) if w.strip()] for hmm in (True, False)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    ours, theirs = map(json.loads, done.stdout.splitlines())
    assert ours == theirs
    assert "北京" in ours[0]
    assert ours[0] != ours[1] or "小明" in ours[1]
    assert done.stderr == ""


def test_texts_of_bytes_that_are_no_utf8() -> None:
    raw = pa.array([b"a\xed\xa0\x80b", None, "中".encode(), b"\xff", b""], pa.binary())
    strings = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    assert texts_of(strings) == ["a\ufffd\ufffd\ufffdb", "", "中", "\ufffd", ""]
    assert without_surrogates("a\ud800b") == "a\ufffd\ufffd\ufffdb"


@given(st.text(st.characters(codec=None, exclude_categories=())))
@settings(deadline=None)
def test_a_text_without_surrogates_stays(text: str) -> None:
    clean = without_surrogates(text)
    assert without_surrogates(clean) == clean
    assert clean == text or any("\ud800" <= character <= "\udfff" for character in text)


def test_saved_tokenizers_come_back() -> None:
    saved = SavedTokenizer("words", WORDS, ("<oov>", "the", "cat"), oov_token="<oov>", boundary_token="cat")  # noqa: S106
    again = SavedTokenizer.from_json(json.loads(json.dumps(saved.to_json())))
    assert again == saved
    assert again.hash == saved.hash != SavedTokenizer("words", WORDS, ("the", "cat")).hash
    assert (saved.oov_id, saved.boundary_id, saved.num_ids) == (1, 3, 4)


@pytest.mark.parametrize(
    "found", [{}, {"format": "millrace-tokenizer-1", "kind": "letters"}, {"format": "other", "kind": "words"}]
)
def test_other_files_are_refused(found: dict[str, str]) -> None:
    with pytest.raises(ContractError, match=r"tokenizer: expected a saved tokenizer; found .* Fit it again: run preprocess"):
        SavedTokenizer.from_json(found)


def test_another_dictionary_is_refused() -> None:
    saved = SavedTokenizer("jieba", Cutter("jieba", lower=False), ("的",), dictionary="0" * 64)
    with pytest.raises(ContractError) as caught:
        saved.check()
    assert str(caught.value) == (
        f"tokenizer: expected jieba's dictionary with SHA-256 {'0' * 16}; found {jieba_dictionary()[:16]}. "
        "Install the jieba that it was fitted with, or fit it again."
    )
