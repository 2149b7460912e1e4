"""Where pipelines and contracts are looked for: `--conf-dir`, the project's root, then inside the package."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from millrace.errors import ConfigError

_CHECKOUT = next((found for found in Path(__file__).resolve().parents if (found / "conf" / "pipelines").is_dir()), None)
"""Where the package runs from its sources, what it ships still lies here and not in `_builtin`."""


@dataclass(frozen=True)
class Found:
    """A YAML file, wherever it was found."""

    origin: str
    place: Path | Traversable

    def read(self) -> str:
        """Its text. Raises ConfigError where it is not UTF-8."""
        try:
            return self.place.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(
                "config", expected=f"UTF-8 in {self.origin}", found=str(error), remedy="Save it as UTF-8."
            ) from None


@dataclass(frozen=True)
class Places:
    """The directories that are searched, the first that has a name wins."""

    conf_dir: Path | None = None
    root: Path | None = None

    @classmethod
    def standard(cls, conf_dir: str | None = None) -> Places:
        """`conf_dir` if given, the project's root, the package. Raises ConfigError where `conf_dir` is not there."""
        if conf_dir is not None and not Path(conf_dir).is_dir():
            raise ConfigError("config", expected="--conf-dir to be a directory", found=conf_dir, remedy="Check the path.")
        return cls(conf_dir=Path(conf_dir) if conf_dir else None, root=project_root())

    def pipelines(self) -> dict[str, Found]:
        """Every pipeline file by its name."""
        return self._files("pipelines", [Path("conf/pipelines"), Path("pipelines")])

    def contracts(self) -> dict[str, Found]:
        """Every contract file by its name."""
        return self._files("schemas", [Path("schemas")])

    def searched(self, kind: str) -> str:
        """The searched places in words."""
        directories = [str(place) for place in (self.conf_dir, self.root) if place]
        return ", ".join([*directories, f"the package's own {kind}"])

    def _files(self, kind: str, folders: list[Path]) -> dict[str, Found]:
        found: dict[str, Found] = {}
        for base in (self.conf_dir, self.root, _CHECKOUT):
            for folder in folders if base else []:
                for path in sorted((base / folder).glob("*.yaml")) if base else []:
                    found.setdefault(path.stem, Found(_shown(path), path))
        builtin = resources.files("millrace").joinpath("_builtin", kind)
        if builtin.is_dir():
            for item in builtin.iterdir():
                if item.name.endswith(".yaml"):
                    found.setdefault(item.name.removesuffix(".yaml"), Found(f"millrace/{kind}/{item.name}", item))
        return found


def project_root() -> Path | None:
    """`MILLRACE_ROOT`, else the nearest directory above the working directory, else above this file, that has conf/pipelines."""
    named = os.environ.get("MILLRACE_ROOT")
    if named:
        return Path(named)
    here = Path.cwd()
    return next((found for found in (here, *here.parents) if (found / "conf" / "pipelines").is_dir()), _CHECKOUT)


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
