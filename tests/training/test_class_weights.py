"""What a row of each class counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.errors import ConfigError
from millrace.training.class_weights import balanced_weights, named_weights


def test_classes_without_a_weight_count_once():
    assert named_weights({"7": 2.5, "0": 0.0}, ["0", "3", "7"]) == (0.0, 1.0, 2.5)


def test_unknown_class():
    with pytest.raises(ConfigError) as caught:
        named_weights({"shirts": 2.0}, ["shirt", "shoe"])
    assert str(caught.value) == (
        "config: expected training.class_weights to name classes of the label; found 'shirts'. Did you mean 'shirt'?"
    )


def test_some_class_must_count():
    with pytest.raises(ConfigError) as caught:
        named_weights({"shirt": 0.0, "shoe": 0.0}, ["shirt", "shoe"])
    assert str(caught.value) == "config: expected a class that counts in training.class_weights; found 0 for each. Raise one."


def test_balanced_as_scikit_learn_has_it():
    from sklearn.utils.class_weight import compute_class_weight

    labels = [0] * 5 + [1] * 2 + [2]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=np.array(labels))
    assert balanced_weights([5, 2, 1]) == pytest.approx(expected)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=8).filter(any))
def test_balanced_classes_count_the_same_and_rows_once_on_average(num_rows):
    weights = balanced_weights(num_rows)
    totals = [weight * rows for weight, rows in zip(weights, num_rows, strict=True) if rows]
    assert totals == pytest.approx([totals[0]] * len(totals))
    assert sum(totals) == pytest.approx(sum(num_rows))
    assert all(weight == 1.0 for weight, rows in zip(weights, num_rows, strict=True) if not rows)
