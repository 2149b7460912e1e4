"""Spark's encoder and the exported graph are twins: on every encoder, on awkward rows, and after each kind of reload."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, settings

from millrace.contracts.features import FittedFeatures
from millrace.exporting import h5, keras_file, saved_model
from millrace.models.feature_graph import feature_graph
from millrace.transforms.encoding import encode_batch
from tests import feature_tables as tables
from tests.feature_tables import awkward
from tests.feature_twins import as_model, assert_twins, tensors

ANY = partial(
    settings, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.reuse, Phase.generate)
)
"""A graph takes most of a second to make: no shrinking."""
ALL = [tables.feature(**options) for options in tables.FEATURES.values()]


@pytest.mark.parametrize("name", tables.FEATURES)
def test_each_encoder_on_awkward_rows(name: str) -> None:
    feature = tables.feature(**tables.FEATURES[name])
    train, others = tables.batch_of(awkward()[: len(awkward()) // 2]), tables.batch_of(awkward())
    fitted = tables.fitted_on([feature], train)
    assert_twins(as_model(fitted)(tensors(others, fitted)), others, fitted)


@pytest.mark.parametrize("name", tables.FEATURES)
def test_each_encoder_where_the_train_split_is_all_null(name: str) -> None:
    fitted = tables.fitted_on([tables.feature(**tables.FEATURES[name])], tables.batch_of([dict.fromkeys(tables.TYPES)]))
    others = tables.batch_of(awkward())
    assert_twins(as_model(fitted)(tensors(others, fitted)), others, fitted)


def check_on_any_table(train: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
    fitted = tables.fitted_on(ALL, tables.batch_of(train))
    assert FittedFeatures.from_json(fitted.to_json()) == fitted
    batch = tables.batch_of(train + others)
    assert_twins(as_model(fitted)(tensors(batch, fitted)), batch, fitted)


@ANY(max_examples=5)
@given(tables.wild_tables, tables.wild_tables)
def test_all_encoders_on_any_table(train: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
    check_on_any_table(train, others)


@pytest.mark.full
@ANY(max_examples=150)
@given(tables.wild_tables, tables.wild_tables)
def test_all_encoders_on_many_tables(train: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
    check_on_any_table(train, others)


FORMS = ("keras", "h5", "saved_model")
Run = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def reloaded(fitted: FittedFeatures, directory: Path) -> dict[str, Run]:
    """The graph as a .keras and an .h5 file, read in safe mode and without custom objects, and as a SavedModel."""
    model = as_model(fitted)
    keras_file.write(model, directory / "model.keras")
    h5.write(model, directory / "model.h5")
    saved_model.write(model, directory / "saved")
    loaded = tf.saved_model.load(str(directory / "saved"))
    runs: dict[str, Run] = {"saved_model": lambda given: loaded.signatures["serving_default"](**given)}
    for form in ("keras", "h5"):
        runs[form] = keras.models.load_model(directory / f"model.{form}", compile=False, safe_mode=True)
    return runs


@pytest.fixture(scope="module")
def of_all_encoders(tmp_path_factory: pytest.TempPathFactory) -> tuple[FittedFeatures, dict[str, Run]]:
    """All encoders fitted on every other awkward row, and their graph in each form that it is saved in."""
    fitted = tables.fitted_on(ALL, tables.batch_of(awkward()[::2]))
    return fitted, reloaded(fitted, tmp_path_factory.mktemp("graph"))


def check_form(form: str, of_all_encoders: tuple[FittedFeatures, dict[str, Run]], num_tables: int) -> None:
    fitted, runs = of_all_encoders

    def check(rows: list[dict[str, Any]]) -> None:
        batch = tables.batch_of(rows)
        assert_twins(runs[form](tensors(batch, fitted)), batch, fitted)

    check(awkward())
    ANY(max_examples=num_tables)(given(tables.wild_tables)(check))()


@pytest.mark.parametrize("form", FORMS)
def test_all_encoders_after_each_reload(form: str, of_all_encoders: tuple[FittedFeatures, dict[str, Run]]) -> None:
    """On awkward rows, and on any others: what the graph was fitted on stays, what comes is new."""
    check_form(form, of_all_encoders, 2)


@pytest.mark.full
@pytest.mark.parametrize("form", FORMS)
def test_all_encoders_after_each_reload_on_many_tables(form: str, of_all_encoders: tuple[FittedFeatures, dict[str, Run]]) -> None:
    check_form(form, of_all_encoders, 100)


@pytest.mark.full
@ANY(max_examples=15)
@given(tables.wild_tables, tables.wild_tables)
def test_all_encoders_of_any_table_after_each_reload(train: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
    """Fitted on other rows each time. Three files of a graph take some seconds to write and read."""
    fitted, batch = tables.fitted_on(ALL, tables.batch_of(train)), tables.batch_of(train + others)
    with tempfile.TemporaryDirectory() as directory:
        for run in reloaded(fitted, Path(directory)).values():
            assert_twins(run(tensors(batch, fitted)), batch, fitted)


def test_inputs_have_the_types_of_the_contract() -> None:
    fitted = tables.fitted_on(ALL, tables.batch_of(awkward()))
    types = {name: tensor.dtype for name, tensor in feature_graph(fitted).inputs.items()}
    whole = dict.fromkeys(("n", "small", "flag", "day", "moment"), "int64")
    assert types == {"x": "float64", "y": "float32", "text": "string", "other": "string", **whole}


def test_a_tiny_deviation_around_a_great_mean_is_kept() -> None:
    contract = tables.contract_of({"x": "double"})
    values = 1e9 + np.random.default_rng(0).normal(size=500) * 1e-3
    batch = tables.batch_of([{"x": value} for value in values], contract)
    fitted = tables.fitted_on([tables.feature(encode="zscore", column="x")], batch, contract)
    assert_twins(as_model(fitted)(tensors(batch, fitted)), batch, fitted)
    exact = values.astype(np.longdouble)
    expected = (exact - exact.mean()) / exact.std()
    np.testing.assert_allclose(encode_batch(batch, fitted)[0][:, 0], expected.astype(float), atol=2e-4)
