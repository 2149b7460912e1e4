"""Whether a pipeline's features can be changed as `training.augment` says."""

from __future__ import annotations

from millrace.config.encoding import NumberFeatures, ScaleFeature
from millrace.config.models import PipelineConfig
from millrace.errors import ConfigError
from millrace.loading.augment import changes_of
from millrace.loading.columns import ColumnSpec
from millrace.transforms.features import FEATURES

WHERE = "training.augment"


def image_spec(image: ScaleFeature) -> ColumnSpec:
    """An image as the loader reads it from gold: its bytes."""
    return ColumnSpec(name=image.column, dtype="uint8", shape=image.shape)


def vector_spec(width: int) -> ColumnSpec:
    """The vector of all numbers and one-hots as the loader reads it from gold."""
    return ColumnSpec(name=FEATURES, dtype="float32", shape=(width,))


def check_augment(config: PipelineConfig) -> None:
    """Raises ConfigError for an augmentation of a column that the model does not take, or of another kind of column."""
    augmentations = config.training.augment
    if not augmentations:
        return
    if config.model is None:
        found = ", ".join(dict.fromkeys(each.apply for each in augmentations))
        remedy = "Leave it out; millrace.loading.dataset(augment=...) does it for a training of your own."
        raise ConfigError("config", expected=f"no {WHERE}, since there is no model to train", found=found, remedy=remedy)
    if config.image_features:
        changes_of(augmentations, [image_spec(image) for image in config.image_features], where=WHERE)
        return
    numbers = [feature for feature in config.fitted_features if isinstance(feature, NumberFeatures)]
    places = {column: (0,) for feature in numbers for column in feature.columns}  # how many there will be, fitting says
    changes_of(augmentations, [vector_spec(1)], where=WHERE, places=places)
