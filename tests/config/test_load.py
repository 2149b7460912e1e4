"""Pipeline files: what is read, what overrides it, and what is said about each kind of mistake."""

# ruff: noqa: E501 (whole messages)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from millrace.config.augmentation import CropConfig
from millrace.config.load import hash_of, load_pipeline, nearest, read_yaml
from millrace.config.models import PipelineConfig
from millrace.config.places import Places, project_root
from millrace.errors import ConfigError
from tests.factories import make_pipeline, pipeline_values


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A place of its own with the pipeline `tiny`."""
    write(tmp_path, pipeline_values())
    return Places(conf_dir=tmp_path)


def write(directory: Path, values: Any, name: str = "tiny") -> None:
    path = directory / "pipelines" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))


def refusal(places: Places, *overrides: str, name: str = "tiny", environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_pipeline(name, places, overrides=overrides, environment=environment)
    return str(caught.value).replace(str(places.conf_dir), "CONF")


def test_a_file_is_read_as_it_says(places: Places) -> None:
    assert load_pipeline("tiny", places) == make_pipeline()


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("training.optimizer.learning_rate=1e-2", 0.01),
        ("training.optimizer.learning_rate=.5", 0.5),
        ("training.epochs=3", 3),
        ("training.virtual_shards=4", 4),
        ("training.virtual_shards=null", None),
        ("training.compression=off", "off"),
        ("training.optimizer.schedule.scaling=off", "off"),
        ("training.class_weights={3: 2, 7: 0.5}", {"3": 2.0, "7": 0.5}),
        ("training.class_weights=balanced", "balanced"),
        ("training.augment=[{apply: crop, padding: 1}]", (CropConfig(apply="crop", padding=1),)),
        ("model.hidden=[8, 4]", (8, 4)),
        ('split.test={where: "id = 1"}', None),
        ("source.path=s3a://bucket/a=b", "s3a://bucket/a=b"),
    ],
)
def test_overrides(places: Places, override: str, value: object) -> None:
    keys = override.partition("=")[0].split(".")
    if keys == ["split", "test"]:
        config = load_pipeline("tiny", places, overrides=[override, "split.fractions={train: 0.9, validation: 0.1}"])
        assert config.split.test is not None
        assert config.split.test.where == "id = 1"
        return
    found: Any = load_pipeline("tiny", places, overrides=[override])
    for key in keys:
        found = getattr(found, key)
    assert found == value


@pytest.mark.parametrize(("value", "found"), [("auto", "auto"), ("3", 3)])
def test_number_of_workers_or_auto(places: Places, value: str, found: object) -> None:
    assert load_pipeline("tiny", places, overrides=[f"training.num_workers={value}"]).training.num_workers == found


def test_the_last_override_wins_and_sections_may_be_new(places: Places) -> None:
    config = load_pipeline("tiny", places, overrides=["quality.max_reject_ratio=0.5", "quality.max_reject_ratio=0.25"])
    assert config.quality.max_reject_ratio == 0.25


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=1", "expected known keys in CONF/pipelines/tiny.yaml; found 'training.epoch'. Did you mean 'epochs'?"),
        ("trainin.epochs=1", "expected known keys in CONF/pipelines/tiny.yaml; found 'trainin'. Did you mean 'training'?"),
        (
            "model.family=mlpp",
            "expected model.family in CONF/pipelines/tiny.yaml to be 'mlp' or 'cnn'; found 'mlpp'. Did you mean 'mlp'?",
        ),
        ("model={hidden: [4]}", "expected 'model.family' in CONF/pipelines/tiny.yaml; found nothing. Add it."),
        (
            "model.hiden=[4]",
            "expected known keys in CONF/pipelines/tiny.yaml; found 'model.hiden'. Did you mean 'hidden'?",
        ),
        (
            "model.filters=[4]",
            "expected known keys in CONF/pipelines/tiny.yaml; found 'model.filters'. "
            "Known: activation, batch_norm, dropout, family, hidden, l2.",
        ),
        (
            "model={family: cnn, pooling: maximum}",
            "expected model.pooling in CONF/pipelines/tiny.yaml to be 'max', 'average' or 'none'; found 'maximum'. "
            "Did you mean 'max'?",
        ),
        (
            "model={family: cnn, filters: [0]}",
            "expected model.filters.0 in CONF/pipelines/tiny.yaml to be greater than 0; found 0. Mend model.filters.0.",
        ),
        (
            "training.optimizer.schedule.decay={kind: step, stpes: 10, steps: 3}",
            "expected known keys in CONF/pipelines/tiny.yaml; found 'training.optimizer.schedule.decay.stpes'. "
            "Did you mean 'steps'?",
        ),
        (
            "training.optimizer.schedule.decay.kind=cosinus",
            "expected training.optimizer.schedule.decay.kind in CONF/pipelines/tiny.yaml to be 'constant', 'cosine' or 'step'; "
            "found 'cosinus'. Did you mean 'cosine'?",
        ),
        (
            "training.optimizer.schedule.scaling=linear",
            "expected a valid training.optimizer.schedule in CONF/pipelines/tiny.yaml; found scaling linear or sqrt and "
            "reference_batch go together: give both, or neither. Mend it there.",
        ),
        (
            "training.class_weights=balance",
            "expected training.class_weights in CONF/pipelines/tiny.yaml to be 'balanced'; found 'balance'. "
            "Did you mean 'balanced'?",
        ),
        (
            "training.class_weights={3: many}",
            "expected training.class_weights.3 in CONF/pipelines/tiny.yaml to be a valid number, unable to parse string as a number; "
            "found 'many'. Mend training.class_weights.3.",
        ),
        (
            "source.on_missing=rety",
            "expected source.on_missing in CONF/pipelines/tiny.yaml to be 'fail', 'retry' or 'skip'; found 'rety'. "
            "Did you mean 'retry'?",
        ),
        (
            "features=[{column: image, encode: scale, shape: [2], divisr: 1}]",
            "expected known keys in CONF/pipelines/tiny.yaml; found 'features.0.divisr'. Did you mean 'divisor'?",
        ),
        (
            "training.epochs=many",
            "expected training.epochs in CONF/pipelines/tiny.yaml to be a valid integer, unable to parse string as an integer; "
            "found 'many'. Mend training.epochs.",
        ),
        (
            "training.epochs=0",
            "expected training.epochs in CONF/pipelines/tiny.yaml to be greater than 0; found 0. Mend training.epochs.",
        ),
        (
            "training.num_workers=all",
            "expected a valid training.num_workers in CONF/pipelines/tiny.yaml; found 'all' is neither auto nor a whole number above "
            "0. Mend it there.",
        ),
        (
            "source.path=s3://key:hunter2@bucket/raw",
            "expected a valid source.path in CONF/pipelines/tiny.yaml; found s3://key:***@bucket/raw holds a password or token, "
            "which belongs to the store's own environment or files. Mend it there.",
        ),
        (
            "source.path=null",
            "expected source.path in CONF/pipelines/tiny.yaml to be a valid string; found None. Mend source.path.",
        ),
        (
            "split.fractions={train: 0.5, test: 0.2}",
            "expected a valid split in CONF/pipelines/tiny.yaml; found fractions add up to 0.7, and must add up to 1. Mend it there.",
        ),
        (
            "label=null",
            "expected a valid CONF/pipelines/tiny.yaml; found a model needs a label; without a model the night ends at gold. "
            "Mend it there.",
        ),
        ("training.epochs", "expected --set KEY.KEY=VALUE; found --set training.epochs. For example --set training.epochs=1."),
        (
            "training..epochs=1",
            "expected --set KEY.KEY=VALUE; found --set training..epochs=1. For example --set training.epochs=1.",
        ),
        ("training.epochs=[1", "expected --set KEY=VALUE with a YAML value; found [1. Quote it."),
        ("name.first=x", "expected a section 'name'; found a value ('tiny'). Set name itself."),
        ("name=other", "expected name: tiny in CONF/pipelines/tiny.yaml; found name: other. Name the file after it."),
        (
            "source.path=${NOWHERE_SET}/raw",
            "expected the environment variable NOWHERE_SET (CONF/pipelines/tiny.yaml); found it is not set. export NOWHERE_SET=…",
        ),
    ],
)
def test_mistakes_are_named_with_what_would_be_right(places: Places, override: str, message: str) -> None:
    assert refusal(places, override) == f"config: {message}"


def test_a_cnn_takes_images(places: Places) -> None:
    overrides = ["model={family: cnn}", "features=[{column: image, encode: scale, shape: [4]}]"]
    assert refusal(places, *overrides) == (
        "config: expected a valid CONF/pipelines/tiny.yaml; found a cnn takes images of shape [height, width, channel], and the "
        "feature's is [4]. Mend it there."
    )


def test_several_mistakes_are_counted_and_unknown_keys_come_first(places: Places) -> None:
    message = refusal(places, "training.epochs=0", "training.batch_sise=1")
    assert message == (
        "config: expected known keys in CONF/pipelines/tiny.yaml; found 'training.batch_sise' (1 more). Did you mean 'batch_size'?"
    )


def test_missing_key(places: Places, tmp_path: Path) -> None:
    values = pipeline_values()
    del values["source"]["schema"]
    write(tmp_path, values)
    assert refusal(places) == "config: expected 'source.schema' in CONF/pipelines/tiny.yaml; found nothing. Add it."


def test_unknown_pipeline_offers_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, pipeline_values())
    places = Places(conf_dir=tmp_path, root=None)
    assert refusal(places, name="tinny") == (
        "config: expected the name of a pipeline; found 'tinny'. Did you mean 'tiny'? "
        "Searched: CONF, the package's own pipelines."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\n", "config: expected YAML; found the key 'name' stands twice in x.yaml, line 1. Mend that line."),
        ("a:\n  b: 1\n  b: 2\n", "config: expected YAML; found the key 'b' stands twice in x.yaml, line 2. Mend that line."),
        (
            "a: [1\n",
            "config: expected YAML; found expected ',' or ']', but got '<stream end>' in x.yaml, line 2. Mend that line.",
        ),
        ("- 1\n", "config: expected a mapping in x.yaml; found list. Start from `millrace init NAME`."),
        ("", "config: expected a mapping in x.yaml; found NoneType. Start from `millrace init NAME`."),
        (
            "a: !!python/object/apply:os.getcwd []\n",
            "config: expected YAML; found could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.getcwd' in x.yaml, line 1. Mend that line.",
        ),
    ],
)
def test_yaml_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_yaml(text, origin="x.yaml")
    assert str(caught.value) == message


def test_a_file_that_is_no_utf8(places: Places, tmp_path: Path) -> None:
    (tmp_path / "pipelines" / "tiny.yaml").write_bytes(b"name: \xff")
    assert refusal(places) == (
        "config: expected UTF-8 in CONF/pipelines/tiny.yaml; found 'utf-8' codec can't decode byte 0xff in position 6: "
        "invalid start byte. Save it as UTF-8."
    )


def test_environment_is_put_in_also_inside_lists(places: Places) -> None:
    override = "clean=[{drop_duplicates: ['${COLUMN}']}]"
    config = load_pipeline("tiny", places, overrides=[override], environment={"COLUMN": "image"})
    assert config.clean[0].drop_duplicates == ("image",)
    data = load_pipeline("tiny", places, overrides=["source.path=${MILLRACE_DATA}/x"], environment={"MILLRACE_DATA": "/d"})
    assert data.source.path == "/d/x"


def test_configs_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_pipeline().training.epochs = 3  # type: ignore[misc]


def test_places_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf, root = tmp_path / "conf-dir", tmp_path / "root"
    for directory in (conf, root / "conf"):
        write(directory, pipeline_values())
    write(root / "conf", pipeline_values(), name="second")
    monkeypatch.setenv("MILLRACE_ROOT", str(root))
    found = Places.standard(str(conf)).pipelines()
    assert found["tiny"].place == conf / "pipelines" / "tiny.yaml"
    assert found["second"].place == root / "conf" / "pipelines" / "second.yaml"
    assert {"digits", "mnist"} <= set(found)  # what ships is found from everywhere
    assert "metrics_runs" in Places.standard(str(conf)).contracts()
    assert Places.standard().pipelines()["tiny"].place == root / "conf" / "pipelines" / "tiny.yaml"


def test_the_root_is_the_nearest_directory_with_pipelines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MILLRACE_ROOT", raising=False)
    write(tmp_path / "conf", pipeline_values())
    (tmp_path / "deep" / "down").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "down")
    assert project_root() == tmp_path


def test_conf_dir_must_be_there() -> None:
    with pytest.raises(ConfigError) as caught:
        Places.standard("/no/such")
    assert str(caught.value) == "config: expected --conf-dir to be a directory; found /no/such. Check the path."


def test_nearest() -> None:
    assert nearest("epoch", ["epochs", "seed"]) == "Did you mean 'epochs'?"
    assert nearest("zzz", ["seed", "epochs"]) == "Known: epochs, seed."
    assert nearest("zzz", []) == "None is known here."


def test_shipped_pipelines_load() -> None:
    places = Places.standard()
    for name in ("digits", "mnist"):
        assert isinstance(load_pipeline(name, places, environment={}), PipelineConfig)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values)
def test_hashes_are_equal_for_equal_values_only(first: object, second: object) -> None:
    same = repr(first) == repr(second)
    assert hash_of(first) != hash_of(second) or same or first == second
    assert len(hash_of(first)) == 64


def test_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert hash_of({"a": 1, "b": (1, Path("/x"))}) == hash_of({"b": [1, "/x"], "a": 1})
    assert hash_of("a", "b") != hash_of("ab")
