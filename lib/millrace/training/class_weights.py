"""What a row counts in the loss, by its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from millrace.config.load import nearest
from millrace.errors import ConfigError


def named_weights(weights: Mapping[str, float], classes: Sequence[str]) -> tuple[float, ...]:
    """The weights in the order of the classes, 1 where none is given. (classes,)

    Raises ConfigError for a name that no class has, and where all weights are 0.
    """
    for name in weights:
        if name not in classes:
            raise ConfigError(
                "config",
                expected="training.class_weights to name classes of the label",
                found=f"'{name}'",
                remedy=nearest(name, classes),
            )
    found = tuple(float(weights.get(name, 1.0)) for name in classes)
    if not any(found):
        raise ConfigError(
            "config",
            expected="a class that counts in training.class_weights",
            found="0 for each",
            remedy="Raise one.",
        )
    return found


def balanced_weights(num_rows: Sequence[int]) -> tuple[float, ...]:
    """Weights with which every class counts the same in all: rows / (classes * rows of the class), as scikit-learn has it.

    num_rows: rows of each class in the train split, (classes,). A class without rows counts for nothing and gets 1.
    """
    num_classes = sum(rows > 0 for rows in num_rows)
    return tuple(sum(num_rows) / (num_classes * rows) if rows else 1.0 for rows in num_rows)
