"""How weights are changed, how fast, and when that ends: the sections under `training` for them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from millrace.config.section import Fraction, OffIsAWord, Section


class ClipConfig(Section):
    """Bounds for the gradients of the mean loss over the global batch (Pascanu et al., 2013)."""

    by: Literal["value", "norm", "global_norm"]
    """value: each number by itself; norm: each variable's gradient; global_norm: all gradients together."""
    limit: float = Field(gt=0.0)


class ConstantDecay(Section):
    """The rate stays."""

    kind: Literal["constant"] = "constant"


class CosineDecay(Section):
    """The rate falls along half a cosine (Loshchilov and Hutter, 2017)."""

    kind: Literal["cosine"] = "cosine"
    steps: int | None = Field(default=None, gt=0)
    """From the end of the warm-up. None: to the last step of the last epoch; another number of epochs is then another run."""
    final_ratio: Fraction = 0.0
    """What is left of the rate then, and stays."""


class StepDecay(Section):
    """The rate is multiplied by `factor` after every `steps` steps from the end of the warm-up."""

    kind: Literal["step"] = "step"
    steps: int = Field(gt=0)
    factor: float = Field(default=0.1, gt=0.0, lt=1.0)


DecayConfig = Annotated[ConstantDecay | CosineDecay | StepDecay, Field(discriminator="kind")]


class ScheduleConfig(Section):
    """What becomes of the learning rate from step to step."""

    scaling: Annotated[Literal["off", "linear", "sqrt"], OffIsAWord] = "off"
    """linear: learning_rate * batch_size / reference_batch (Goyal et al., 2017); sqrt: its root (Krizhevsky, 2014)."""
    reference_batch: int | None = Field(default=None, gt=0)
    """The global batch that `learning_rate` was found for; goes with `scaling`."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps in which the rate rises from nothing, by equal amounts, to what it then is."""
    decay: DecayConfig = ConstantDecay()

    @model_validator(mode="after")
    def _scaling_has_reference(self) -> ScheduleConfig:
        if (self.scaling == "off") != (self.reference_batch is None):
            raise ValueError("scaling linear or sqrt and reference_batch go together: give both, or neither")
        return self


class OptimizerConfig(Section):
    """The optimizer, by its Keras name."""

    name: Literal["adam", "sgd", "rmsprop"] = "adam"
    learning_rate: float = Field(default=0.001, gt=0.0)
    schedule: ScheduleConfig = ScheduleConfig()
    clip: ClipConfig | None = None


class EarlyStopConfig(Section):
    """Ends training when validation gets no better (Prechelt, 1998)."""

    metric: Literal["loss", "accuracy", "mae", "rmse"] = "loss"
    """Of the validation split after each epoch: loss, for a class accuracy, for a number mae or rmse. Accuracy is better when it
    is higher, all others when they are lower."""
    patience: int = Field(default=3, gt=0)
    """Epochs in a row without an improvement, after which training ends."""
    min_delta: float = Field(default=0.0, ge=0.0)
    """How much better than the best so far counts as an improvement; it must always be better."""
    restore_best: bool = True
    """The weights of the best epoch are the run's, not those of the last."""
