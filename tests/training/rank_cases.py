"""Steps that ranks take together, described so that every process of a run can take them; and a run of such processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from millrace.models.target import STANDARD, Target

SHAPE, NUM_CLASSES, SHARDS = (6, 6, 1), 3, 8
Weights = list[npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, how it is trained, and the rows of each global batch."""

    model: Mapping[str, Any] = field(default_factory=lambda: {"family": "mlp", "hidden": [12]})
    training: Mapping[str, Any] = field(default_factory=dict)
    class_weights: tuple[float, ...] | None = None
    target: Target | None = None
    """Of a number; the label is then the class's index as a number."""
    batches: tuple[int, ...] = (48, 29, 3)
    """With 8 shards no number of ranks above 1 shares the last two evenly, and in the very last some ranks have no row."""


MLP = {"family": "mlp", "hidden": [12], "activation": "tanh"}
CNN = {"family": "cnn", "filters": [4, 6], "hidden": [8], "activation": "tanh"}
SGD = {"optimizer": {"name": "sgd", "learning_rate": 0.05}}
WEIGHTS = (1.0, 0.25, 3.0)
EQUAL: Mapping[str, Case] = MappingProxyType(
    {
        "mlp, all at once": Case(model=MLP | {"l2": 0.01}, class_weights=WEIGHTS, training={"micro_batches": 3}),
        "cnn": Case(model=CNN, training=SGD),
        "mlp": Case(model=MLP),
        "mlp, l2": Case(model=MLP | {"l2": 0.1}, training=SGD),
        "cnn, l2, class weights": Case(model=CNN | {"l2": 0.01}, class_weights=WEIGHTS),
        "mlp, a class that does not count": Case(model=MLP, class_weights=(0.0, 1.0, 0.0)),
        "number, mse": Case(model=MLP | {"l2": 0.01}, training=SGD | {"loss": "mse"}, target=Target(1.2, 0.7)),
        "number, mae, micro-batches": Case(
            model=MLP, training=SGD | {"loss": "mae", "micro_batches": 2}, target=Target(1.2, 0.7)
        ),
        "mlp, clipped": Case(model=MLP, training={"optimizer": {"name": "sgd", "clip": {"by": "global_norm", "limit": 0.1}}}),
        "cnn, rmsprop, micro-batches": Case(model=CNN, training={"optimizer": {"name": "rmsprop"}, "micro_batches": 2}),
    }
)
"""Cases that end with equal weights on any number of ranks."""

ALIKE: Mapping[str, Case] = MappingProxyType(
    {
        "batch norm and dropout": Case(model=CNN | {"batch_norm": True, "dropout": 0.5}),
        "the same in float16": Case(
            model=CNN | {"batch_norm": True, "dropout": 0.5}, training={"precision": "mixed_float16", "compression": "fp16"}
        ),
        "half-precision transport": Case(model=MLP, training=SGD | {"compression": "fp16"}),
    }
)
"""Cases where the ranks of a run agree to the last bit, but runs on other numbers of ranks do not."""

CASES = {**EQUAL, **ALIKE}


@dataclass(frozen=True)
class Taken:
    """What one rank has after all steps of a case."""

    weights: tuple[Weights, ...]
    """After each step, in the order of the model's weights."""
    hash: str
    """Of weights and optimizer state, on which the ranks have agreed."""
    seeds: Weights
    """States of the model's dropout."""
    sums: tuple[tuple[float, float, float], ...]
    """What each step has given."""


def take_steps(case: Case, ranks: Any) -> Taken:
    """All steps of a case, as one rank of `ranks`."""
    from millrace.config.training import TrainingConfig
    from millrace.models.build import build_model
    from millrace.training.optimizers import build_optimizer
    from millrace.training.request import MODEL
    from millrace.training.step import StepOptions, TrainStep

    training = TrainingConfig.model_validate({"batch_size": 48, "seed": 3, **case.training})
    config = MODEL.validate_python(case.model)
    sizes = {"num_classes": NUM_CLASSES} if case.target is None else {"num_classes": 1, "target": STANDARD}
    model = build_model(config, input_shape=SHAPE, divisor=16, **sizes, seed=3, precision=training.precision)
    parts = 1 if training.micro_batches == "auto" else training.micro_batches
    options = StepOptions.of(training, case.class_weights, micro_batches=parts, target=case.target or STANDARD)
    optimizer = build_optimizer(training.optimizer, model)
    step = TrainStep(model, optimizer, options, rank=ranks.rank, world_size=ranks.world_size, add=ranks.add)
    ranks.broadcast([*model.weights, *step.variables])
    after, sums = [], []
    for number, num_rows in enumerate(case.batches):
        batch = share_of(num_rows, number, ranks.rank, ranks.world_size, label="int32" if case.target is None else "float32")
        rate = training.optimizer.learning_rate
        given = step(*batch, step=number, learning_rate=rate, where=f"step {number}")
        sums.append((given.loss, given.weight, given.correct))
        after.append([variable.numpy() for variable in model.weights])
    agreed = ranks.same_hash([*model.weights, *step.variables], where="after all steps")
    known = {id(variable) for variable in model.weights}
    seeds = [variable.numpy() for variable in model.variables if id(variable) not in known]
    return Taken(tuple(after), agreed, seeds, tuple(sums))


def share_of(num_rows: int, number: int, rank: int, world_size: int, *, label: str = "int32") -> tuple[Any, Any, Any]:
    """The rank's rows of a global batch, by shards as the plan has them; one row of weight 0 where it has none."""
    from millrace.loading.buffers import aligned_empty
    from millrace.loading.columns import ColumnSpec
    from millrace.loading.plan import shards_of_rank

    random = np.random.default_rng(number)
    all_images, all_labels = random.integers(0, 17, (num_rows, *SHAPE)), random.integers(0, NUM_CLASSES, num_rows)
    shards = shards_of_rank(SHARDS, world_size, rank)
    first, end = shards.start * num_rows // SHARDS, shards.stop * num_rows // SHARDS
    rows = max(1, end - first)
    images = aligned_empty(rows, ColumnSpec(name="image", dtype="uint8", shape=SHAPE))
    labels = aligned_empty(rows, ColumnSpec(name="digit", dtype=label))
    images[:], labels[:] = 0, 0
    images[: end - first], labels[: end - first] = all_images[first:end], all_labels[first:end]
    weights = np.zeros(rows, dtype=np.float32)
    weights[: end - first] = 1.0
    return images, labels, weights


@dataclass(frozen=True)
class Found:
    """What one rank of a run has."""

    taken: Mapping[tuple[str, str], Taken]
    """By the way that gradients go and the name of the case."""
    added: Weights
    """Whole numbers of every rank, added up in many small chunks."""


WAYS = ("HostSum", "horovod_sum")


def as_rank(names: Sequence[str]) -> Found:
    """The cases in a process that Horovod has started: by the host's memory, which ranks of one host find, and by Horovod."""
    import tensorflow as tf

    from millrace.training.ranks import Ranks
    from millrace.training.reduction import horovod_sum

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    ranks = Ranks(rank=int(os.environ["HOROVOD_RANK"]), world_size=int(os.environ["HOROVOD_SIZE"]))
    found = {(type(ranks.add).__name__, name): take_steps(CASES[name], ranks) for name in names}
    ranks.add = horovod_sum
    found |= {("horovod_sum", name): take_steps(CASES[name], ranks) for name in names}
    return Found(found, add_up_numbers(ranks.rank))


def numbers_of(rank: int) -> Weights:
    """Tensors of a rank's own numbers."""
    starts = ((12, (3, 4)), (5, (5,)), (1, (1,)))
    return [np.arange(size, dtype=np.float32).reshape(shape) + 100 * rank for size, shape in starts]


def add_up_numbers(rank: int) -> Weights:
    """The sum of every rank's numbers, which travel 4 at a time."""
    import tensorflow as tf

    from millrace.training.reduction import horovod_sum

    @tf.function(autograph=False)
    def run() -> list[tf.Tensor]:
        return horovod_sum([tf.constant(numbers) for numbers in numbers_of(rank)], name="numbers", chunk_numbers=4)

    return [tensor.numpy() for tensor in run()]


def run_ranks(world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function`, found by its name, gives in each rank of a Horovod run on this machine, without Spark."""
    import horovod
    import horovod.runner.launch

    horovod.runner.launch.gloo_built = lambda **_: True  # it would import TensorFlow here to ask
    root = Path(__file__).parents[2]
    environment = {
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "lib")]),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "HOROVOD_GLOO_TIMEOUT_SECONDS": "60",
    }
    with mock.patch.dict(os.environ, environment):
        found: list[Any] = horovod.run(function, args=arguments, num_proc=world_size, use_gloo=True, network_interfaces=["lo"])
    return found
