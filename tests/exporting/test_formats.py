"""Each format: agreement with the model in memory, safe reloading, whole files or none."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from millrace.errors import ExportError
from millrace.exporting.formats import FORMATS, export, load_predictor
from millrace.exporting.serving_model import predictor

NAMES = list(FORMATS)
PLACES = {"keras": "model.keras", "h5": "model.h5", "saved_model": "saved_model"}


@pytest.fixture(scope="module")
def exported(model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every format."""
    directory = tmp_path_factory.mktemp("run") / "exports"
    for name in NAMES:
        export(model, name, directory)
    return directory


def test_the_formats_and_their_places(exported: Path) -> None:
    assert sorted(found.name for found in exported.iterdir()) == sorted(PLACES.values())
    assert list(PLACES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_reloaded_export_agrees_with_the_model(name: str, exported: Path, model: keras.Model, images: np.ndarray) -> None:
    predict = load_predictor(exported / PLACES[name], name)
    found = predict(images)
    assert (found.shape, found.dtype) == ((2500, 4), np.float32)
    np.testing.assert_allclose(found, predictor(model)(images), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found, model(images, training=False).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_rows", [0, 1, 1024, 1025])
def test_any_number_of_rows(name: str, num_rows: int, exported: Path, images: np.ndarray) -> None:
    predict = load_predictor(exported / PLACES[name], name)
    found = predict(images[:num_rows])
    assert found.shape == (num_rows, 4)
    np.testing.assert_allclose(found, predict(images)[:num_rows], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (np.zeros((2, 6, 5, 1), np.float32), "float32 of shape (2, 6, 5, 1)"),
        (np.zeros((2, 30), np.uint8), "uint8 of shape (2, 30)"),
        (np.zeros((6, 5, 1), np.uint8), "uint8 of shape (6, 5, 1)"),
    ],
)
def test_a_batch_of_another_kind_is_refused(name: str, wrong: np.ndarray, found: str, exported: Path) -> None:
    with pytest.raises(ExportError) as error:
        load_predictor(exported / PLACES[name], name)(wrong)
    assert str(error.value) == (
        f"predict: expected a uint8 batch of shape (rows, 6, 5, 1); found {found}. "
        "Give the raw column as silver has it: scaling is inside the model."
    )


@pytest.mark.parametrize("name", NAMES)
def test_exported_again_the_new_one_stands(name: str, training_model: keras.Model, model: keras.Model, tmp_path: Path) -> None:
    path = export(model, name, tmp_path)
    other = keras.models.clone_model(model)
    leftover = tmp_path / f".partial-{PLACES[name]}"
    leftover.mkdir()
    (leftover / "torn").write_bytes(b"left by a killed run")
    rows = np.full((3, 6, 5, 1), 200, np.uint8)
    assert export(other, name, tmp_path) == path
    np.testing.assert_allclose(load_predictor(path, name)(rows), predictor(other)(rows), rtol=0, atol=1e-6)
    assert [found.name for found in tmp_path.iterdir()] == [PLACES[name]]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_with_nan_is_not_put_in_place(name: str, model: keras.Model, tmp_path: Path) -> None:
    export(model, name, tmp_path)
    broken = keras.models.clone_model(model)
    broken.set_weights([np.full_like(weights, np.nan) for weights in broken.get_weights()])
    with pytest.raises(ExportError) as error:
        export(broken, name, tmp_path)
    assert str(error.value) == (
        f"export {name}: expected the reloaded export to answer as the model does, within 1e-05; found a difference of nan. "
        "Look for NaN in the weights; else drop the format from publish.exports and report it."
    )
    rows = np.zeros((1, 6, 5, 1), np.uint8)
    assert np.isfinite(load_predictor(tmp_path / PLACES[name], name)(rows)).all()
    assert [found.name for found in tmp_path.iterdir()] == [PLACES[name]]


@pytest.mark.parametrize("name", ["keras", "h5"])
def test_code_in_a_file_is_not_run(name: str, tmp_path: Path) -> None:
    rows = keras.Input((2,))
    unsafe = keras.Model(rows, keras.layers.Lambda(lambda values: values + 1, name="program")(rows))
    path = tmp_path / PLACES[name]
    FORMATS[name].write(unsafe, path)
    with pytest.raises(ExportError, match=rf"^load {name}: expected a readable export at .*; found ValueError: .*[Ll]ambda"):
        load_predictor(path, name)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_export_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / PLACES[name]
    with pytest.raises(ExportError) as error:
        load_predictor(path, name)
    assert str(error.value) == (
        f"load {name}: expected an export at {path}; found nothing there. "
        "Publish the run again, or give the path that registry/models names."
    )
    assert error.value.exit_code == 2


def _tear_keras(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def _tear_h5(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def _tear_saved_model(path: Path) -> None:
    (path / "variables" / "variables.index").unlink()


@pytest.mark.parametrize(("name", "tear"), [("keras", _tear_keras), ("h5", _tear_h5), ("saved_model", _tear_saved_model)])
def test_a_torn_export_is_an_export_error(name: str, tear: object, model: keras.Model, tmp_path: Path) -> None:
    path = export(model, name, tmp_path)
    tear(path)
    with pytest.raises(ExportError, match=rf"^load {name}: expected a readable export at ") as error:
        load_predictor(path, name)
    assert str(error.value).endswith(". Publish the run again.")
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_a_place_that_cannot_be_written_may_be_tried_again(model: keras.Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    directory = tmp_path / "file" / "exports"
    with pytest.raises(ExportError) as error:
        export(model, "keras", directory)
    assert str(error.value) == (
        f"export keras: expected to write {directory}/model.keras; "
        f"found NotADirectoryError: [Errno 20] Not a directory: '{directory}'. Free the place, or drop the format."
    )
    assert error.value.exit_code == 1


def test_an_unknown_format_is_refused(model: keras.Model, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as error:
        export(model, "pickle", tmp_path)
    assert str(error.value) == (
        "export: expected one of the formats keras, h5, saved_model; found 'pickle'. Correct publish.exports."
    )


def test_a_keras_file_holds_no_optimizer_and_no_code(exported: Path) -> None:
    with zipfile.ZipFile(exported / "model.keras") as archive:
        assert sorted(archive.namelist()) == ["config.json", "metadata.json", "model.weights.h5"]
        assert b"optimizer" not in archive.read("config.json")


def test_h5_gives_no_legacy_warning_and_leaves_other_warnings_alone(
    model: keras.Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("absl")
    before = list(logger.filters)
    with caplog.at_level(logging.DEBUG):
        export(model, "h5", tmp_path)
        logger.warning("something else")
    assert [record.getMessage() for record in caplog.records if record.name == "absl"] == ["something else"]
    assert logger.filters == before


def test_exporting_says_nothing(tmp_path: Path) -> None:
    """In a process of its own: the noise comes from loggers and prints, of which pytest catches only some."""
    program = """
import sys, keras
from pathlib import Path
from millrace.exporting.formats import FORMATS, export
from millrace.exporting.serving_model import serving_model
image = keras.Input((4,), dtype="uint8", name="image")
hidden = keras.layers.Rescaling(1 / 255)(image)
model = serving_model(keras.Model(image, keras.layers.Dense(2)(hidden)))
for name in FORMATS:
    export(model, name, Path(sys.argv[1]))
"""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_naming_the_formats_loads_neither_tensorflow_nor_spark() -> None:
    program = "import sys, millrace.exporting.formats; print([n for n in ('tensorflow', 'keras', 'pyspark') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
