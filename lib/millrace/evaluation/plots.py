"""Pictures of metrics, for the run's artifacts and for notebooks.

Drawn with Matplotlib's Figure objects: pyplot keeps every figure of the process alive and picks a backend for the user.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from millrace.evaluation.metrics import Counts

MAX_CLASSES_WITH_NUMBERS = 25
"""Above this many classes the numbers in the cells would overlap."""


def confusion_figure(counts: Counts, *, classes: Sequence[str], title: str = "") -> Figure:
    """The confusion matrix, coloured by the share of each label's rows, with the number of rows in each cell.

    counts: (K, K), rows are labels and columns predictions; classes: the K class names.
    """
    num_classes = len(classes)
    side_inches = min(4.0 + 0.35 * num_classes, 16.0)
    figure = _figure(width_inches=side_inches, height_inches=side_inches)
    axes = figure.add_subplot()
    num_labelled = counts.sum(axis=1, keepdims=True)
    shares = counts / num_labelled.clip(min=1)
    picture = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    figure.colorbar(picture, ax=axes, label="share of the label's rows", fraction=0.046)
    if num_classes <= MAX_CLASSES_WITH_NUMBERS:
        axes.set_xticks(range(num_classes), classes, rotation=90 if max(map(len, classes)) > 3 else 0)
        axes.set_yticks(range(num_classes), classes)
        for label in range(num_classes):
            for predicted in range(num_classes):
                color = "white" if shares[label, predicted] > 0.5 else "black"
                axes.text(predicted, label, f"{counts[label, predicted]}", ha="center", va="center", color=color, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    axes.set_title(title)
    return figure


def epochs_figure(epochs: pd.DataFrame, *, metric: str = "loss", title: str = "") -> Figure:
    """A metric over the epochs, a line for each split.

    epochs: rows of metrics/epochs of one run (columns epoch, split, metric, value). Where an epoch has several values, as after a
    restart, the last step's stands.
    """
    figure = _figure(width_inches=6.4, height_inches=4.0)
    axes = figure.add_subplot()
    wanted = epochs[epochs["metric"] == metric]
    order = ["epoch", "step"] if "step" in wanted else ["epoch"]
    last = wanted.sort_values(order, kind="stable").drop_duplicates(["split", "epoch"], keep="last")
    for split, rows in last.groupby("split", sort=True):
        axes.plot(rows["epoch"].to_numpy(), rows["value"].to_numpy(), marker="o", label=str(split))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(metric)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    if len(last):
        axes.legend()
    return figure


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG, as `IPython.display.Image(data=...)` takes it. The same figure gives the same bytes."""
    buffer = io.BytesIO()
    # No Software entry: the file would change with Matplotlib's version.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def write_png(figure: Figure, path: Path) -> Path:
    """Write the figure to `path`, whole or not at all; the directory must exist. Raises OSError where it cannot."""
    partial = path.with_name(f".partial-{path.name}")
    partial.write_bytes(png_bytes(figure))
    return partial.replace(path)


def _figure(*, width_inches: float, height_inches: float) -> Figure:
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
