"""What `training.augment` may say of a pipeline's features."""

from __future__ import annotations

from typing import Any

import pytest

from millrace.errors import ConfigError
from millrace.flows.check import check_pipeline
from tests.factories import image_contract, make_pipeline

NUMBERS = {"age": {"type": "double"}, "fare": {"type": "double"}, "sex": {"type": "string"}}
VECTOR = [{"columns": ["age", "fare"], "encode": "zscore", "indicator": True}, {"column": "sex", "encode": "one_hot"}]
NOISE = {"apply": "noise", "scale": 1}


def check(*augment: dict[str, Any], **sections: Any) -> None:
    check_pipeline(make_pipeline(training={"augment": list(augment)}, **sections), image_contract(columns=NUMBERS))


def test_what_fits() -> None:
    check({"apply": "flip"}, {"apply": "crop", "padding": 1, "column": "image"}, {"apply": "brightness", "max_delta": 3}, NOISE)
    check(NOISE, {**NOISE, "column": "fare", "distribution": "uniform"}, features=VECTOR)


@pytest.mark.parametrize(
    ("augment", "sections", "message"),
    [
        (
            {"apply": "flip"},
            {"features": VECTOR},
            "training.augment.0 to change an image of shape [height, width, channel], as flip does; found features, which is a "
            "vector of float32. features takes noise: use that, or leave it out.",
        ),
        (
            {"apply": "token_dropout", "rate": 0.5, "replacement_id": 1},
            {},
            "training.augment.0 to change a sequence of token ids, as token_dropout does; found image, which is uint8 of shape "
            "[2, 2, 1]. image takes noise or flip or crop or cutout or brightness: use that, or leave it out.",
        ),
        (
            {**NOISE, "column": "sex"},
            {"features": VECTOR},
            "training.augment.0.column to name a feature that noise can change; found 'sex'. Known: age, fare.",
        ),
        (
            NOISE,
            {"features": VECTOR[1:]},
            "training.augment.0.column to name a feature that noise can change; found no column. "
            "Leave it out: the features have no numbers.",
        ),
        (
            {"apply": "crop", "padding": 2},
            {},
            "training.augment.0.padding below the smaller side of image, 2 pixels; found 2, which may leave nothing of an image. "
            "An eighth to a quarter of the side is usual.",
        ),
        (
            NOISE,
            {"model": None},
            "no training.augment, since there is no model to train; found noise. "
            "Leave it out; millrace.loading.dataset(augment=...) does it for a training of your own.",
        ),
    ],
    ids=["kind", "tokens", "one-hot", "no numbers", "size", "no model"],
)
def test_what_does_not_fit_is_refused(augment: dict[str, Any], sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(augment, **sections)
    assert str(caught.value) == f"config: expected {message}"
