"""What a training run is asked to do and what it gives back; both travel as JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from millrace.config.network import ModelConfig
from millrace.config.training import TrainingConfig
from millrace.errors import PlanError
from millrace.loading import draws
from millrace.loading.augment import Change, changes_of
from millrace.loading.columns import ColumnSpec
from millrace.loading.files import read_bytes
from millrace.loading.index import DatasetIndex
from millrace.loading.plan import PlanSpec, plan_for
from millrace.models.target import Target
from millrace.training.objective import is_number, label_dtype
from millrace.training.schedules import depends_on_num_steps

Value = str | int | float

MODEL: TypeAdapter[ModelConfig] = TypeAdapter(ModelConfig)
NOT_IN_FINGERPRINT = {
    # the plan's fingerprint has them
    *("batch_size", "seed", "virtual_shards", "shuffle_bytes"),
    # the request has what comes of it
    "class_weights",
    # it stands there where there is some
    "augment",
    # how far, by whom and with what care a run is done, not what comes of it
    *("epochs", "num_workers", "threads_per_worker", "memory_limit_bytes", "loading", "checkpoints", "early_stop"),
    *("first_step_timeout_seconds", "heartbeat_timeout_seconds", "idle_timeout_seconds", "start_timeout_seconds", "max_restarts"),
}
"""Of `TrainingConfig`; all others are part of a run's fingerprint."""


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """One training run."""

    train: DatasetIndex | str
    """The rows to train on: an index, or the address of one as JSON."""
    validation: DatasetIndex | str | None
    """The rows that each epoch is validated on; None or no rows: no validation."""
    feature: ColumnSpec
    """The model's input: a uint8 tensor column, or a float32 one."""
    divisor: float | None
    """The model divides raw uint8 values by it; None: they are float32 and taken as they are."""
    label: str
    """Column of integers from 0 to num_classes - 1; of finite numbers where training.loss is mse or mae."""
    num_classes: int
    """1 where the label is a number."""
    model: ModelConfig
    training: TrainingConfig
    checkpoints: str
    """Directory of the run's checkpoints, a path or an fsspec address that every worker's host can reach."""
    board: str | None = None
    """Directory of TensorBoard's event file, likewise; None: there is none."""
    class_weights: tuple[float, ...] | None = None
    """What a row counts in the loss, by its label; None: all the same. (num_classes,)"""
    target: Target | None = None
    """Of a number: its mean and scale in the train split, or STANDARD for its own unit; None: the label is a class."""
    places: dict[str, tuple[int, ...]] | None = None
    """Of a vector the places of the numbers that training.augment may change, by raw column; None: the feature is an image."""

    def __post_init__(self) -> None:
        fits = self.num_classes == 1 and self.class_weights is None
        assert is_number(self.training.loss) == (self.target is not None), "the loss is that of the label's kind"
        assert self.target is None or fits, "a number has no classes"
        assert (self.feature.dtype == "uint8") == (self.divisor is not None), "bytes are scaled inside the model, numbers before"

    @property
    def columns(self) -> tuple[ColumnSpec, ColumnSpec]:
        """What is read of each row: the feature, and the label as int32 or float32."""
        return self.feature, ColumnSpec(name=self.label, dtype=label_dtype(self.training.loss))

    @property
    def changes(self) -> tuple[Change, ...]:
        """What is changed at random in training rows. Raises ConfigError where it does not fit the feature."""
        return changes_of(self.training.augment, (self.feature,), where="training.augment", places=self.places)

    def plan(self, train: DatasetIndex) -> PlanSpec:
        """The plan of the run. Raises PlanError."""
        training = self.training
        return plan_for(
            train.row_group_rows(),
            row_bytes=sum(column.row_bytes for column in self.columns),
            seed=training.seed,
            global_batch=training.batch_size,
            virtual_shards=training.virtual_shards,
            shuffle_bytes=training.shuffle_bytes,
            dataset=train.fingerprint(),
        )

    def fingerprint(self, plan: PlanSpec) -> str:
        """SHA-256 in hex of all that the weights after an epoch depend on, the number of workers and of epochs aside."""
        parts: list[Any] = [
            plan.fingerprint(),
            self.model.model_dump(mode="json"),
            self.training.model_dump(mode="json", exclude=NOT_IN_FINGERPRINT),
            self.training.epochs if depends_on_num_steps(self.training.optimizer) else None,
            self.class_weights,
            asdict(self.feature),
            self.divisor,
            self.label,
            self.num_classes,
        ]
        if self.target is not None:  # left out otherwise: what a class's run was called, it is called for ever
            parts.append(asdict(self.target))
        if self.changes:
            parts.append([draws.SCHEME, [[change.config.model_dump(mode="json"), change.places] for change in self.changes]])
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """A text that `from_json` reads."""
        content = {
            "train": _index_out(self.train),
            "validation": _index_out(self.validation),
            "feature": asdict(self.feature),
            "divisor": self.divisor,
            "label": self.label,
            "num_classes": self.num_classes,
            "model": self.model.model_dump(mode="json"),
            "training": self.training.model_dump(mode="json"),
            "checkpoints": self.checkpoints,
            "board": self.board,
            "class_weights": self.class_weights,
            "target": None if self.target is None else asdict(self.target),
            "places": self.places,
        }
        return json.dumps(content)

    @staticmethod
    def from_json(text: str) -> TrainRequest:
        """The request that `to_json` wrote."""
        content = json.loads(text)
        train = _index_in(content["train"])
        assert train is not None
        feature = content["feature"] | {"shape": tuple(content["feature"]["shape"])}
        return TrainRequest(
            train=train,
            validation=_index_in(content["validation"]),
            feature=ColumnSpec(**feature),
            divisor=content["divisor"],
            label=content["label"],
            num_classes=content["num_classes"],
            model=MODEL.validate_python(content["model"]),
            training=TrainingConfig.model_validate(content["training"]),
            checkpoints=content["checkpoints"],
            board=content["board"],
            class_weights=None if content["class_weights"] is None else tuple(content["class_weights"]),
            target=None if content["target"] is None else Target(**content["target"]),
            places=None if content["places"] is None else {name: tuple(own) for name, own in content["places"].items()},
        )


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run that finished gives back."""

    rows: tuple[dict[str, Value], ...]
    """Rows of metrics/epochs: epoch (from 1), step (steps so far), split, metric (loss, and accuracy or mae and rmse), value,
    learning_rate, rows_per_second."""
    weights: str
    """Address of the last checkpoint; `millrace.training.checkpoint.load_weights` reads it."""
    weight_hash: str
    """SHA-256 in hex of weights and optimizer state, equal on all ranks."""
    epoch: int
    """The epoch, from 1, after which the weights were so: the last one, or the best."""
    num_steps: int
    """Optimizer steps in the lineage of the weights."""
    num_rows_seen: int
    """Rows trained on in the lineage of the weights, over all epochs."""
    num_workers: int
    first_epoch: int
    """The epoch, from 1, that this call started with: above 1 where it went on from a checkpoint, above the last where nothing
    was left to do."""
    first_step: int
    """The step, from 1 over all epochs, that it started with."""
    notes: tuple[str, ...]
    """What the log has warned of, such as a damaged checkpoint that was passed over."""

    def to_json(self) -> str:
        """A text that `from_json` reads."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> TrainResult:
        """The result that `to_json` wrote."""
        content: dict[str, Any] = json.loads(text)
        return TrainResult(**(content | {"rows": tuple(content["rows"]), "notes": tuple(content["notes"])}))


def resolve_index(index: DatasetIndex | str) -> DatasetIndex:
    """The index itself, read where only its address is given. Raises LakeError and OSError."""
    return index if isinstance(index, DatasetIndex) else DatasetIndex.from_json(read_bytes(index).decode())


def validation_of(request: TrainRequest) -> DatasetIndex | None:
    """The rows to validate on; None where there are none. Raises PlanError where early stopping needs some."""
    index = None if request.validation is None else resolve_index(request.validation)
    if index is not None and index.num_rows:
        return index
    if request.training.early_stop is not None:
        raise PlanError(
            "training",
            expected="rows to validate on, for training.early_stop",
            found="none",
            remedy="Give split.validation or split.fractions.validation some rows, or leave early_stop out.",
        )
    return None


def _index_out(index: DatasetIndex | str | None) -> dict[str, str] | None:
    if index is None:
        return None
    return {"uri": index} if isinstance(index, str) else {"index": index.to_json()}


def _index_in(content: dict[str, str] | None) -> DatasetIndex | str | None:
    if content is None:
        return None
    return content["uri"] if "uri" in content else DatasetIndex.from_json(content["index"])
