"""The sections of augmentations."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from millrace.config.augmentation import AugmentationConfig

augmentation = TypeAdapter(AugmentationConfig)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"apply": "noise", "scale": 0}, "greater than 0"),
        ({"apply": "flip", "horizontal": 1.5}, "less than or equal to 1"),
        ({"apply": "turn"}, "does not match any of the expected tags"),
        ({"apply": "crop", "padding": 4, "size": 3}, "Extra inputs are not permitted"),
        ({"apply": "token_dropout", "rate": 0.1, "replacement_id": 0}, "a dropped token must not look like padding"),
    ],
)
def test_what_cannot_be_applied_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        augmentation.validate_python(values)
