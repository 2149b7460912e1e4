"""A pipeline file and a contract to start from."""

from __future__ import annotations

import re
from pathlib import Path

from millrace.errors import ConfigError

_PIPELINE = """\
# What each key means: lib/millrace/config/. `millrace describe {name}` prints every key with its value.
name: {name}
source: {{name: {name}, format: csv, path: "{{lake}}/raw/{name}", schema: {name}_raw, on_missing: fail}}
quality: {{max_reject_ratio: 0.01}}
clean: [{{drop_duplicates: [image]}}]
split: {{method: hash, key: [id], seed: 7, fractions: {{train: 0.7, validation: 0.1, test: 0.2}}}}
features: [{{column: image, encode: scale, divisor: 255, shape: [8, 8, 1]}}]
# Without label and model the night ends at gold.
label: {{column: label, kind: class}}
model: {{family: mlp, hidden: [128], activation: relu}}
training: {{optimizer: {{name: adam, learning_rate: 0.001}}, loss: cross_entropy, batch_size: 128, epochs: 5, num_workers: 1}}
publish: {{exports: [keras, h5, saved_model]}}
"""

_CONTRACT = """\
# A CSV file with the columns id, image (64 numbers from 0 to 255 with spaces between them) and label.
name: {name}_raw
grain: one row per image
key: [id]
columns:
  id:    {{type: bigint, nullable: false}}
  image: {{type: binary, nullable: false, text: decimal, tensor: {{dtype: uint8, shape: [8, 8, 1], unit: grey level}}}}
  label: {{type: string, nullable: false}}
evolution: {{added: quarantine, missing: refuse, retyped: quarantine}}
"""


def new_pipeline(name: str, directory: Path) -> list[Path]:
    """Writes conf/pipelines/NAME.yaml and schemas/NAME_raw.yaml. Raises ConfigError for a bad name and where one is there."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", name):
        remedy = "For example `millrace init reviews`."
        raise ConfigError("init", expected="a name of lower-case letters, digits and _", found=f"'{name}'", remedy=remedy)
    files = {
        directory / "conf" / "pipelines" / f"{name}.yaml": _PIPELINE.format(name=name),
        directory / "schemas" / f"{name}_raw.yaml": _CONTRACT.format(name=name),
    }
    for path in files:
        if path.exists():
            raise ConfigError("init", expected=f"no {path}", found="that it is there", remedy="Take another name, or remove it.")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(files)
