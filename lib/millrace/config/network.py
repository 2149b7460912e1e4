"""The `model` section: one class for each family, so that an option that a family does not have is refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from millrace.config.section import Positive, Section

Activation = Literal["relu", "gelu", "tanh", "sigmoid", "elu", "selu"]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]


class _Regularised(Section):
    """What keeps a network from learning its train split by heart."""

    batch_norm: bool = False
    """Normalise before each hidden activation over the rows that a worker has in a step (Ioffe and Szegedy, 2015)."""
    dropout: Rate = 0.0
    """Share of values that is dropped in training after each hidden layer or block (Srivastava et al., 2014)."""
    l2: float = Field(default=0.0, ge=0.0)
    """l2 * sum(kernel ** 2) of every kernel is added to the mean loss; biases go free."""


class MlpConfig(_Regularised):
    """A multilayer perceptron."""

    family: Literal["mlp"] = "mlp"
    hidden: tuple[Positive, ...] = (512,)
    """Units of each hidden layer."""
    activation: Activation = "relu"


class CnnConfig(_Regularised):
    """A convolutional network for images of shape (height, width, channel)."""

    family: Literal["cnn"] = "cnn"
    filters: tuple[Positive, ...] = Field(default=(32, 64), min_length=1)
    """Filters of each block: convolution, batch norm, activation, pooling, dropout."""
    kernel_size: int = Field(default=3, gt=0)
    """Height and width of every kernel; the image's border is padded, so that a convolution keeps its size."""
    pooling: Literal["max", "average", "none"] = "max"
    """Each block halves height and width, rounded up, by the greatest or the mean of 2 x 2 values; none: it keeps them."""
    hidden: tuple[Positive, ...] = (128,)
    """Units of each dense layer after the blocks."""
    activation: Activation = "relu"


ModelConfig = Annotated[MlpConfig | CnnConfig, Field(discriminator="family")]
"""The network, by its family."""
