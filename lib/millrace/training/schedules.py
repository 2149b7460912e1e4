"""The learning rate of every step, a pure function of config and step.

Vocabulary: steps count from 0 over all epochs; `peak` is the base rate after the scaling rule.

    step            0 ... warmup_steps - 1                  warmup_steps ...
    rate            peak * (step + 1) / warmup_steps        peak * what the decay leaves after step - warmup_steps steps

Example: base 0.1 at a reference batch of 256, batch 1024, linear: the peak is 0.4; with 4 warm-up steps the rates are 0.1, 0.2,
0.3, 0.4, and the decay begins at 0.4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from millrace.config.optimizing import CosineDecay, OptimizerConfig, StepDecay


@dataclass(frozen=True, kw_only=True)
class LearningRate:
    """The schedule of one run."""

    config: OptimizerConfig
    batch_size: int
    """Rows per optimizer step over all workers."""
    num_steps: int
    """Optimizer steps of the whole run; matters only to a cosine that is to end with it."""

    def at(self, step: int) -> float:
        """The rate that step `step` is taken with."""
        schedule = self.config.schedule
        if step < schedule.warmup_steps:
            return self.peak * (step + 1) / schedule.warmup_steps
        return self.peak * self._left(step - schedule.warmup_steps)

    @property
    def peak(self) -> float:
        """The base rate scaled to the batch: linearly (Goyal et al., 2017) or by the root (Krizhevsky, 2014)."""
        schedule = self.config.schedule
        if schedule.reference_batch is None:
            return self.config.learning_rate
        ratio = self.batch_size / schedule.reference_batch
        return self.config.learning_rate * (ratio if schedule.scaling == "linear" else math.sqrt(ratio))

    def _left(self, step: int) -> float:
        """What the decay leaves of the peak, from 1 downwards; steps count from the end of the warm-up."""
        decay = self.config.schedule.decay
        if isinstance(decay, StepDecay):
            return decay.factor ** (step // decay.steps)
        if isinstance(decay, CosineDecay):
            steps = decay.steps or max(1, self.num_steps - self.config.schedule.warmup_steps)
            part = min(1.0, step / steps)
            return decay.final_ratio + (1.0 - decay.final_ratio) * 0.5 * (1.0 + math.cos(math.pi * part))
        return 1.0


def depends_on_num_steps(config: OptimizerConfig) -> bool:
    """Whether a run of more epochs takes other rates from the beginning."""
    decay = config.schedule.decay
    return isinstance(decay, CosineDecay) and decay.steps is None
