"""The exported graph beside the NumPy encoder, for tests that hold them together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf

from millrace.contracts.features import FittedFeatures
from millrace.models.feature_graph import feature_graph
from millrace.transforms.encoding import Floats, Ids, encode_batch, graph_inputs


def as_model(fitted: FittedFeatures) -> keras.Model:
    graph = feature_graph(fitted)
    outputs = {name: tensor for name, tensor in (("features", graph.features), ("ids", graph.ids)) if tensor is not None}
    return keras.Model(dict(graph.inputs), outputs)


def tensors(batch: pa.RecordBatch, fitted: FittedFeatures) -> dict[str, Any]:
    given = graph_inputs(batch, fitted)
    return {column.name: tf.constant(given[column.name], column.dtype) for column in fitted.inputs}


def assert_twins(found: Mapping[str, Any], batch: pa.RecordBatch, fitted: FittedFeatures) -> None:
    """The graph's outputs for a batch, and what the NumPy encoder gives for it."""
    assert_equal(found, *encode_batch(batch, fitted), fitted)


def assert_equal(found: Mapping[str, Any], features: Floats, ids: Ids, fitted: FittedFeatures) -> None:
    """The graph's outputs, and features (B, D) and ids (B, K) of the same rows: within 1e-6 * max(1, |x|), and exactly."""
    if fitted.width:
        values = np.asarray(found["features"], np.float64)
        assert found["features"].dtype == "float32" and values.shape == features.shape
        assert np.array_equal(np.isnan(values), np.isnan(features))
        wrong = np.abs(values - features) > 1e-6 * np.maximum(1, np.abs(features.astype(np.float64)))
        assert not wrong.any(), [
            (fitted.names[place], values[row, place], features[row, place]) for row, place in np.argwhere(wrong)[:20]
        ]
    if fitted.id_names:
        assert found["ids"].dtype == "int32"
        np.testing.assert_array_equal(np.asarray(found["ids"]), ids)
        assert (ids < np.array(fitted.id_sizes)).all() and (ids >= 0).all()
