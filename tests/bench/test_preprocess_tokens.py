"""The tokenizing benchmark: its inputs, its figures, and a real run at a small size."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from bench import preprocess_tokens as benchmark
from bench.preprocess_tokens_sides import BareSide, check
from millrace.errors import MillraceError
from millrace.transforms.encoders import make_encoder

TEXTS = [f"text {number} of {number * number}，北京的学生" for number in range(60)]  # noqa: RUF001


def test_the_loop_gives_the_ids_of_every_text(tmp_path: Path) -> None:
    benchmark.write_inputs(tmp_path, TEXTS, 400)
    saved = benchmark.saved_tokenizer(tmp_path, number=3)
    assert saved.hash != benchmark.saved_tokenizer(tmp_path, number=4).hash
    expected = list(enumerate(make_encoder(saved)(TEXTS)))
    found = sorted(BareSide().ids(tmp_path))
    assert found == expected
    answer = check(iter(found))
    assert answer == check(iter(expected[::-1]))
    tokenizer = Tokenizer.from_str(saved.tokenizer_json)
    assert (answer["num_rows"], answer["num_ids"]) == (60, sum(len(tokenizer.encode(text).ids) for text in TEXTS))
    assert answer != check(iter([(0, b"\x01\x00\x00\x00"), *expected[1:]]))


def test_ratios_are_medians_of_each_rounds_own() -> None:
    pairs = [((2.0, 8.0), (1.0, 2.0)), ((3.0, 3.0), (4.0, 3.0)), ((9.0, 9.0), (10.0, 9.0))]
    rounds = [
        {side: {"seconds": wall, "cpu_seconds": cpu} for side, (wall, cpu) in zip(("spark", "bare"), pair, strict=True)}
        for pair in pairs
    ]
    result = benchmark.summarise(rounds, 3_000_000, [])
    figures = {figure.name: figure.value for figure in result.figures}
    assert figures == pytest.approx(
        {"tokenize/spark": 1.0, "tokenize/bare": 0.75, "tokenize_vs_bare": 10 / 9, "cpu_vs_bare": 1.0}
    )
    assert result.holds


def test_missing_data_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MillraceError, match=r"bench: expected text data sets under MILLRACE_DATA; found .*aclImdb_train"):
        benchmark.distinct_texts(tmp_path)
    with pytest.raises(MillraceError, match="at least 20,000,000 bytes of distinct text; found 4"):
        benchmark.measure(1, texts=["a", "bcd"], min_bytes=benchmark.MIN_BYTES, vocabulary=400)


@pytest.mark.full
def test_both_sides_are_measured() -> None:
    """Starts a Spark session of its own."""
    result = benchmark.measure(1, texts=TEXTS, min_bytes=1, vocabulary=400)
    assert {"tokenize_vs_bare", "cpu_vs_bare", "peak_memory/spark"} <= {figure.name for figure in result.figures}
