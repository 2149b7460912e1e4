"""From a pipeline's name to a checked `PipelineConfig`: YAML, environment, overrides, and the nearest known key for a typo."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Tag, ValidationError

from millrace.config.models import PipelineConfig
from millrace.config.places import Found, Places
from millrace.config.section import Named
from millrace.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
NamedModel = TypeVar("NamedModel", bound=Named)
QUOTE = "'"
DEFAULTS = {"MILLRACE_DATA": "../shared/data"}
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NUMBER = re.compile(r"^[+-]?(\d+(\.\d*)?|\.\d+)[eE][+-]?\d+$")


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key that stands twice."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = sorted({str(key) for key in keys if keys.count(key) > 1})
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f"the key '{twice[0]}' stands twice", node.start_mark)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(text: str, *, origin: str) -> dict[str, Any]:
    """The mapping that a YAML text holds. Raises ConfigError, with the line, where it is none."""
    try:
        found = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{origin}, line {mark.line + 1}" if mark else origin
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError("config", expected="YAML", found=f"{problem} in {where}", remedy="Mend that line.") from None
    if not isinstance(found, dict):
        raise ConfigError(
            "config", expected=f"a mapping in {origin}", found=type(found).__name__, remedy="Start from `millrace init NAME`."
        )
    return found


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint: the nearest known word, or all of them."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Known: {', '.join(names)}." if names else "None is known here."


def load_pipeline(
    name: str,
    places: Places,
    *,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> PipelineConfig:
    """The pipeline `name`, with `KEY.KEY=VALUE` overrides. Raises ConfigError with the nearest known name or key."""

    def complete(raw: dict[str, Any], origin: str) -> dict[str, Any]:
        for override in overrides:
            _apply_override(raw, override)
        filled: dict[str, Any] = _substitute(raw, {**DEFAULTS, **(os.environ if environment is None else environment)}, origin)
        return filled

    return load_named(
        PipelineConfig,
        name,
        places.pipelines(),
        stage="config",
        kind="pipeline",
        searched=places.searched("pipelines"),
        complete=complete,
    )


def load_named(
    model: type[NamedModel],
    name: str,
    known: Mapping[str, Found],
    *,
    stage: str,
    kind: str,
    searched: str,
    complete: Callable[[dict[str, Any], str], dict[str, Any]] = lambda raw, _: raw,
) -> NamedModel:
    """The file `name` among the known ones, as a `model`; `complete` is given the raw mapping and where it comes from.

    Raises ConfigError with the nearest known name or key.
    """
    if name not in known:
        remedy = f"{nearest(name, known)} Searched: {searched}."
        raise ConfigError(stage, expected=f"the name of a {kind}", found=f"'{name}'", remedy=remedy)
    origin = known[name].origin
    found = validate(model, complete(read_yaml(known[name].read(), origin=origin), origin), origin=origin)
    if found.name != name:
        raise ConfigError(
            stage, expected=f"name: {name} in {origin}", found=f"name: {found.name}", remedy="Name the file after it."
        )
    return found


def validate(model: type[Model], raw: Mapping[str, Any], *, origin: str) -> Model:
    """`raw` as a `model`. Raises ConfigError that names the first wrong key and what would be right."""
    try:
        return model.model_validate(raw)
    except ValidationError as failure:
        raise as_config_error(failure, model, origin) from None


def as_config_error(failure: ValidationError, model: type[BaseModel], origin: str) -> ConfigError:
    """The first thing that is wrong with what was to be a `model`: where it stands in `origin`, and what would be right."""
    errors = failure.errors(include_url=False)
    inner = {error["loc"][:-depth] for error in errors for depth in range(1, len(error["loc"]))}
    errors = [
        error for error in errors if error["type"] != "too_short" or error["loc"] not in inner
    ]  # short for want of a bad item
    first = next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    path, _ = _locate(model, first["loc"])
    where = ".".join(path) or "the file"
    more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
    kind, context = first["type"], first.get("ctx", {})
    if kind == "extra_forbidden":
        keys = _known_keys(model, first["loc"][:-1])
        return ConfigError(
            "config", expected=f"known keys in {origin}", found=f"'{where}'{more}", remedy=nearest(str(first["loc"][-1]), keys)
        )
    if kind == "union_tag_not_found":
        kind, where = "missing", f"{where}.{context['discriminator'].strip(QUOTE)}"
    if kind == "missing":
        return ConfigError("config", expected=f"'{where}' in {origin}", found=f"nothing{more}", remedy="Add it.")
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    found = first["input"]
    if kind == "union_tag_invalid":
        kind, where = "literal_error", f"{where}.{context['discriminator'].strip(QUOTE)}"
        found, message = context["tag"], " or ".join(context["expected_tags"].rsplit(", ", 1))
    if kind == "value_error":
        valid = f"{where} in {origin}" if first["loc"] else origin
        return ConfigError("config", expected=f"a valid {valid}", found=message + more, remedy="Mend it there.")
    expected = message.removeprefix("input should be ")
    hint = nearest(str(found), re.findall(r"'([^']*)'", message)) if kind == "literal_error" else f"Mend {where}."
    return ConfigError("config", expected=f"{where} in {origin} to be {expected}", found=f"{found!r}{more}", remedy=hint)


def _known_keys(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """The keys that a mapping at `path` inside `model` may have."""
    _, annotation = _locate(model, path)
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return []
    return [field.alias or name for name, field in annotation.model_fields.items()]


def _locate(model: type[BaseModel], path: Sequence[int | str]) -> tuple[list[str], Any]:
    """What the file has on the way of `path`, and what may stand at its end.

    Pydantic's paths also name, where there is a choice of models, the one that was chosen; the file does not.
    """
    keys: list[str] = []
    annotation: Any = model
    for part in path:
        chosen = next((kind for kind in _alternatives(annotation) if _is_called(kind, part)), None)
        if chosen is not None:
            annotation = chosen
            continue
        keys.append(str(part))
        annotation = _plain(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            by_key = {field.alias or name: field.annotation for name, field in annotation.model_fields.items()}
            annotation = _plain(by_key.get(str(part)))
        else:  # an item of a tuple, or a value of a dict
            inner = get_args(annotation)
            annotation = _plain(inner[-1] if get_origin(annotation) is dict else inner[0]) if inner else None
    return keys, _plain(annotation)


def _plain(annotation: Any) -> Any:
    """Without None and remarks; a choice stays one."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif len(kinds := _alternatives(annotation)) == 1:
            annotation = kinds[0]
        else:
            return annotation


def _alternatives(annotation: Any) -> list[Any]:
    """What a choice is between, None aside; empty where there is no choice."""
    if get_origin(annotation) not in (Union, UnionType):
        return []
    return [kind for kind in get_args(annotation) if kind is not type(None)]


def _is_called(kind: Any, tag: int | str) -> bool:
    """Whether a choice names this alternative so: by a tag of its own, or by a key that only has this value."""
    if any(isinstance(remark, Tag) and remark.tag == tag for remark in getattr(kind, "__metadata__", ())):
        return True
    kind = _plain(kind)
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return False
    return any(get_args(field.annotation) == (tag,) for field in kind.model_fields.values())


def _apply_override(raw: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(
            "config", expected="--set KEY.KEY=VALUE", found=f"--set {override}", remedy="For example --set training.epochs=1."
        )
    try:
        value: Any = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError("config", expected="--set KEY=VALUE with a YAML value", found=text, remedy="Quote it.") from None
    if isinstance(value, str) and _NUMBER.match(value):
        value = float(value)  # YAML 1.1 takes 1e-3 for a text
    place = raw
    for key in keys[:-1]:
        inner = place.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError("config", expected=f"a section '{key}'", found=f"a value ({inner!r})", remedy=f"Set {key} itself.")
        place = inner
    place[keys[-1]] = value


def _substitute(value: Any, environment: Mapping[str, str], origin: str) -> Any:
    if isinstance(value, dict):
        return {key: _substitute(item, environment, origin) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, environment, origin) for item in value]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in environment:
            raise ConfigError(
                "config", expected=f"the environment variable {name} ({origin})", found="it is not set", remedy=f"export {name}=…"
            )
        return environment[name]

    return _VARIABLE.sub(variable, value)


def hash_of(*parts: Any) -> str:
    """SHA-256, in hex, of the parts as canonical JSON; models by their values."""

    def plain(part: Any) -> Any:
        if isinstance(part, BaseModel):
            return part.model_dump(mode="json", by_alias=True)
        if isinstance(part, Mapping):
            return {str(key): plain(item) for key, item in part.items()}
        if isinstance(part, list | tuple):
            return [plain(item) for item in part]
        if isinstance(part, Path):
            return str(part)
        return part

    text = json.dumps(plain(list(parts)), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
