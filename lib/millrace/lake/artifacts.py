"""Files of a run: written under a temporary name, then renamed, so that nobody reads half of one."""

from __future__ import annotations

import json
import uuid
from typing import Any

import fsspec

from millrace.errors import LakeError

_REMEDY = "Run the step that writes it, with --force."


def write_text(uri: str, text: str) -> None:
    """Writes `text` to `uri`, whole or not at all."""
    files, path = fsspec.core.url_to_fs(uri)
    files.makedirs(path.rpartition("/")[0], exist_ok=True)
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    with files.open(temporary, "w", encoding="utf-8") as stream:
        stream.write(text)
    files.mv(temporary, path)


def write_json(uri: str, value: Any) -> None:
    """Writes `value` as JSON to `uri`, whole or not at all."""
    write_text(uri, json.dumps(value, indent=1, sort_keys=True) + "\n")


def read_text(uri: str) -> str:
    """The text at `uri`. Raises LakeError where there is none."""
    files, path = fsspec.core.url_to_fs(uri)
    try:
        return str(files.cat_file(path).decode())
    except FileNotFoundError:
        raise LakeError("artifacts", expected=f"the file {uri}", found="none", remedy=_REMEDY) from None


def read_json(uri: str) -> Any:
    """The JSON at `uri`. Raises LakeError where there is none."""
    try:
        return json.loads(read_text(uri))
    except ValueError as error:
        raise LakeError("artifacts", expected=f"JSON in {uri}", found=str(error), remedy=_REMEDY) from None
