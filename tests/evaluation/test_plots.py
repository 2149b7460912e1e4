"""Pictures: what is drawn, and that nothing global is touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from millrace.evaluation.plots import confusion_figure, epochs_figure, png_bytes, write_png

COUNTS = np.array([[8, 2], [0, 5]])
EPOCHS = pd.DataFrame(
    {
        "epoch": [0, 0, 1, 1, 1],
        "step": [10, 10, 15, 20, 20],
        "split": ["train", "validation", "train", "train", "validation"],
        "metric": ["loss"] * 5,
        "value": [0.9, 0.8, 9.9, 0.5, 0.6],
    }
)


def test_confusion_shows_counts_and_classes() -> None:
    figure = confusion_figure(COUNTS, classes=["no", "yes"], title="test split")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["8", "2", "0", "5"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["no", "yes"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.8, 0.2], [0.0, 1.0]])
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("predicted", "label", "test split")


def test_many_classes_are_drawn_without_numbers() -> None:
    figure = confusion_figure(np.eye(60, dtype=int), classes=[str(index) for index in range(60)])
    assert len(figure.axes[0].texts) == 0
    assert png_bytes(figure).startswith(b"\x89PNG")


def test_epochs_have_a_line_for_each_split_and_the_last_value_stands() -> None:
    axes = epochs_figure(EPOCHS, title="loss").axes[0]
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines == {"train": [[0.0, 0.9], [1.0, 0.5]], "validation": [[0.0, 0.8], [1.0, 0.6]]}


def test_a_metric_that_was_not_measured_leaves_an_empty_picture() -> None:
    figure = epochs_figure(EPOCHS, metric="accuracy")
    assert len(figure.axes[0].lines) == 0
    assert png_bytes(figure).startswith(b"\x89PNG")


def test_written_whole_and_the_same_again(tmp_path: Path) -> None:
    path = write_png(confusion_figure(COUNTS, classes=["no", "yes"]), tmp_path / "confusion.png")
    first = path.read_bytes()
    write_png(confusion_figure(COUNTS, classes=["no", "yes"]), path)
    assert path.read_bytes() == first
    assert [found.name for found in tmp_path.iterdir()] == ["confusion.png"]


def test_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_png(confusion_figure(COUNTS, classes=["no", "yes"]), tmp_path / "nowhere" / "confusion.png")


def test_evaluation_imports_neither_spark_nor_tensorflow_nor_pyplot() -> None:
    program = (
        "import sys, millrace.evaluation.metrics as m; assert 'pandas' not in sys.modules and 'pyarrow' not in sys.modules;"
        "import millrace.evaluation.tables, millrace.evaluation.plots;"
        "print([name for name in ('pyspark', 'tensorflow', 'keras', 'matplotlib.pyplot') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
