"""A dataset's batches as tf.data. The only module here that imports TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from millrace.loading.columns import STRING, ColumnSpec
from millrace.loading.dataset import Dataset
from millrace.loading.reader import Batch

_ELEMENT_BYTES = 1024**2  # handing an element over costs half a millisecond, so small batches travel together
_BATCHES_READY = 2

Arrays = tuple[npt.NDArray[Any], ...]


def as_tf_data(data: Dataset, *, first_epoch: int, first_step: int, with_lengths: bool) -> tf.data.Dataset:
    """See Dataset.tf_data."""
    ragged = [spec.name for spec in data.columns if spec.is_ragged and with_lengths]
    weighted = data.world_size > 1  # a rank without rows in a step gets one of weight 0, which nothing else tells from a real one
    signature = [tf.TensorSpec((None, *_shape(spec)), _dtype(spec), name=spec.name) for spec in data.columns]
    signature += [tf.TensorSpec((None,), tf.int64, name=f"{name}_length") for name in ragged]
    signature += [tf.TensorSpec((None,), tf.float32, name="weights")] * weighted

    def arrays(batch: Batch) -> Arrays:
        values = [batch.columns[spec.name] for spec in data.columns] + [batch.lengths[name] for name in ragged]
        return (*values, batch.weights) if weighted else tuple(values)

    def stacks() -> Iterator[Arrays]:
        return _stacks(arrays(batch) for batch in data.stream(first_epoch=first_epoch, first_step=first_step))

    def structured(*tensors: tf.Tensor) -> Any:
        named = dict(zip([spec.name for spec in data.columns] + [f"{name}_length" for name in ragged], tensors, strict=False))
        label = None if data.label is None else named.pop(data.label.name)
        features = named if len(named) > 1 else next(iter(named.values()))
        if weighted:
            return features, label, tensors[-1]  # also where the label is None: Keras would take two for features and label
        return features if label is None else (features, label)

    stacked = tuple(tf.TensorSpec((None, *spec.shape), spec.dtype) for spec in signature)
    num_steps = (data.epochs - first_epoch) * data.steps_per_epoch - first_step
    # unbatch takes the stack apart into whole batches
    elements = tf.data.Dataset.from_generator(stacks, output_signature=stacked).unbatch()
    return elements.map(structured).apply(tf.data.experimental.assert_cardinality(num_steps)).prefetch(_BATCHES_READY)


def _stacks(batches: Iterator[Arrays]) -> Iterator[Arrays]:
    """Batches of equal shapes that follow one another, stacked up to a size: (batches, rows, *shape) each."""
    for _, alike in groupby(batches, key=lambda arrays: [array.shape for array in arrays]):
        waiting: list[Arrays] = []
        for arrays in alike:
            waiting.append(arrays)
            if len(waiting) * sum(array.nbytes for array in arrays) >= _ELEMENT_BYTES:
                yield _stack(waiting)
                waiting = []
        if waiting:
            yield _stack(waiting)


def _stack(batches: Sequence[Arrays]) -> Arrays:
    if len(batches) == 1:
        return tuple(array[np.newaxis] for array in batches[0])
    return tuple(np.stack(columns) for columns in zip(*batches, strict=True))


def _shape(spec: ColumnSpec) -> tuple[int | None, ...]:
    return (None, *spec.shape) if spec.is_ragged else spec.shape


def _dtype(spec: ColumnSpec) -> tf.DType:
    return tf.string if spec.dtype == STRING else tf.as_dtype(spec.dtype)
