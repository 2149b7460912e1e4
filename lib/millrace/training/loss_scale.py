"""The factor that keeps float16 gradients from vanishing, found while training (Micikevicius et al., 2018)."""

from __future__ import annotations

import keras
import tensorflow as tf

FIRST = 2.0**15
LEAST, MOST = 1.0, 2.0**24
GROWS_AFTER = 2000  # steps in a row without an overflow


class LossScale:
    """Halved when a gradient overflows, doubled after many steps that went well. The same on every rank, as its verdicts are."""

    def __init__(self) -> None:
        self._scale = keras.Variable(FIRST, trainable=False, dtype="float32", name="loss_scale")
        self._streak = keras.Variable(0, trainable=False, dtype="int32", name="loss_scale_streak")

    @property
    def variables(self) -> list[keras.Variable]:
        """What a checkpoint keeps."""
        return [self._scale, self._streak]

    @property
    def value(self) -> tf.Tensor:
        """What the mean loss is multiplied by."""
        return tf.convert_to_tensor(self._scale.value)

    @property
    def can_fall(self) -> tf.Tensor:
        """Whether an overflow may still be the scale's fault."""
        return self.value > LEAST

    def went_well(self) -> None:
        """After a step whose gradients are finite."""
        streak = self._streak.value + 1
        grows = streak >= GROWS_AFTER
        self._scale.assign(tf.where(grows, tf.minimum(self.value * 2.0, MOST), self.value))
        self._streak.assign(tf.where(grows, 0, streak))

    def overflowed(self) -> None:
        """After a step whose gradients are not."""
        self._scale.assign(tf.maximum(self.value / 2.0, LEAST))
        self._streak.assign(0)
