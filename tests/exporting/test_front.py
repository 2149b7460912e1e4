"""Models that take several raw columns, and models that give a number."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from millrace.config.network import MlpConfig
from millrace.errors import ExportError
from millrace.exporting.formats import FORMATS, export, load_predictor
from millrace.exporting.serving_model import input_specs, predictor, serving_model, signature
from millrace.models.build import build_model
from millrace.models.target import Target

ROWS = 1500


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    """(B, 4) float32 -> (B, 1) in a unit of its own."""
    config = MlpConfig(hidden=(8,))
    return build_model(config, input_shape=(4,), divisor=None, num_classes=1, seed=1, target=Target(1000.0, 50.0))


@pytest.fixture(scope="module")
def front() -> keras.Model:
    """age and pay, standardised, and one of two towns -> (B, 4) float32"""
    age = keras.Input((), dtype="float32", name="age")
    pay = keras.Input((), dtype="float32", name="pay")
    town = keras.Input((), dtype="string", name="town")
    numbers = keras.layers.Concatenate()([keras.layers.Reshape((1,))(each) for each in (age, pay)])
    scaled = keras.layers.Normalization(mean=[40.0, 3000.0], variance=[100.0, 1e6])(numbers)
    towns = keras.layers.StringLookup(vocabulary=["Köln", "北京"], num_oov_indices=0, output_mode="one_hot")(town)
    return keras.Model([age, pay, town], keras.layers.Concatenate()([scaled, keras.layers.Reshape((2,))(towns)]))


@pytest.fixture(scope="module")
def raw() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    towns = np.array(["Köln", "北京"], dtype=object)[random.integers(0, 2, ROWS)]
    ages, pays = random.integers(18, 80, ROWS), random.normal(3000, 1000, ROWS)
    return {"age": ages.astype(np.float32), "pay": pays.astype(np.float32), "town": towns}


def by_hand(raw: dict[str, np.ndarray], trained: keras.Model) -> np.ndarray:
    towns = np.stack([raw["town"] == "Köln", raw["town"] == "北京"], axis=1)
    vectors = np.column_stack([(raw["age"] - 40) / 10, (raw["pay"] - 3000) / 1000, towns]).astype(np.float32)
    return trained.predict(vectors, verbose=0)


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_takes_raw_columns(name, trained, front, raw, tmp_path: Path) -> None:
    served = serving_model(trained, front=front, kind="number")
    probe = {column: values[:4] for column, values in raw.items()}
    predict = load_predictor(export(served, name, tmp_path, probe=probe), name)
    found = predict(raw)
    assert (found.shape, found.dtype) == ((ROWS, 1), np.float32)
    np.testing.assert_allclose(found, by_hand(raw, trained), rtol=1e-6)
    np.testing.assert_allclose(found, predictor(served)(raw), rtol=1e-6)
    assert predict({column: values[:0] for column, values in raw.items()}).shape == (0, 1)


def test_a_class_behind_a_front(front, raw) -> None:
    model = build_model(MlpConfig(hidden=(8,)), input_shape=(4,), divisor=None, num_classes=3, seed=1)
    found = predictor(serving_model(model, front=front))(raw)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_number_without_a_front(name, trained, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    predict = load_predictor(export(serving_model(trained, kind="number"), name, tmp_path), name)
    np.testing.assert_allclose(predict(vectors), trained.predict(vectors, verbose=0), rtol=1e-6)


def test_signature_and_specs_name_every_column(trained, front) -> None:
    served = serving_model(trained, front=front, kind="number")
    assert {name: (spec.shape, spec.dtype) for name, spec in input_specs(served).items()} == {
        "age": ((), "float32"),
        "pay": ((), "float32"),
        "town": ((), "string"),
    }
    assert signature(served)["outputs"] == {"prediction": {"dtype": "float32", "shape": [1]}}
    assert sorted(signature(served)["inputs"]) == ["age", "pay", "town"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda raw: raw["age"],
            "predict: expected the inputs age, pay, town by name; found a single array. Give a mapping of raw columns.",
        ),
        (
            lambda raw: {"age": raw["age"]},
            "predict: expected the inputs age, pay, town; found age. Give each raw column by its name.",
        ),
        (
            lambda raw: raw | {"age": raw["age"].astype(np.int64)},
            "predict: expected age as a float32 batch of shape (rows); found int64 of shape (1500,). "
            "Give the raw column as silver has it: scaling is inside the model.",
        ),
        (
            lambda raw: raw | {"pay": raw["pay"][:3]},
            "predict: expected as many rows of each input; found 1500 of age, 3 of pay, 1500 of town. "
            "Give the columns of the same rows.",
        ),
    ],
)
def test_columns_that_do_not_fit(change, message, trained, front, raw) -> None:
    with pytest.raises(ExportError) as error:
        predictor(serving_model(trained, front=front, kind="number"))(change(raw))
    assert str(error.value) == message


def test_a_front_of_another_width_is_refused(front) -> None:
    wide = build_model(MlpConfig(hidden=(8,)), input_shape=(5,), divisor=None, num_classes=3, seed=1)
    with pytest.raises(ExportError) as error:
        serving_model(wide, front=front)
    assert str(error.value) == (
        "export: expected a front that gives a float32 batch of shape (rows, 5); found a float32 batch of shape (rows, 4). "
        "Fit the features again: gold and the front must come from the same state."
    )
