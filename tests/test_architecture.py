"""The layering, read from the syntax tree of every file, through all imports; and what keeps files small and well named.

Two kinds of rule: an import goes down or stays in its part, wherever in the file it stands; and some parts never pull in Spark
or TensorFlow, for which only what runs at import time counts (an import inside a function is the way out).
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the bottom up. Parts of one line are siblings, and do not import each other.
LAYERS = [
    ["errors"],
    ["observe"],
    ["config"],
    ["contracts"],
    ["lake", "session"],
    ["transforms", "quality", "sources", "fit"],
    ["loading", "models"],
    ["training"],
    ["evaluation"],
    ["exporting"],
    ["serving"],
    ["flows"],
    ["cli", "python_daemon"],
    ["jobs", "bench"],
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}

SPARK = {"pyspark", "delta"}
TENSORFLOW = {"tensorflow", "keras", "horovod"}
WITHOUT_SPARK = ("millrace.loading", "millrace.models", "millrace.training", "millrace.evaluation.metrics")
MAY_USE_SPARK = {"millrace.training.launch"}
WITHOUT_TENSORFLOW = (
    "millrace.sources",
    "millrace.quality",
    "millrace.transforms",
    "millrace.fit",
    "millrace.lake",
    "millrace.contracts.spark",
)
PURE = ("millrace.loading.plan", "millrace.loading.epoch", "millrace.evaluation.metrics", "millrace.errors", "millrace.config")


@dataclass(frozen=True, kw_only=True)
class Import:
    """One name that a module imports."""

    name: str
    line: int
    at_import_time: bool  # neither inside a function nor under TYPE_CHECKING


def module_name(path: Path, base: Path) -> str:
    """lib/millrace/lake/read.py -> millrace.lake.read; a package's __init__.py has the package's name."""
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, name: str) -> list[Import]:
    """What the file names in import statements and in `import_module("...")`."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: list[Import] = []

    def visit(node: ast.AST, at_import_time: bool) -> None:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            # `from a import b` names the attribute b of a, or the module a.b: both are kept, unknown modules drop out later.
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"import_module", "importlib.import_module", "__import__"}:
            names = [each.value for each in node.args[:1] if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        line = getattr(node, "lineno", 0)
        found.extend(Import(name=each, line=line, at_import_time=at_import_time) for each in names)
        for child in ast.iter_child_nodes(node):
            inside = at_import_time and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and child in node.body:
                inside = False
            visit(child, inside)

    visit(ast.parse(path.read_text()), True)
    return found


class Tree:
    """The modules under some folders, and what each imports."""

    def __init__(self, *sources: tuple[Path, Path]) -> None:
        """`sources`: (folder that is walked, folder that module names start from)."""
        self.files = {module_name(path, base): path for folder, base in sources for path in sorted(folder.rglob("*.py"))}
        self.imports = {name: imports_of(path, name) for name, path in self.files.items()}

    def within(self, prefixes: tuple[str, ...]) -> list[str]:
        return [name for name in self.files if any(name == each or name.startswith(f"{each}.") for each in prefixes)]

    def upward(self) -> list[str]:
        """Imports that go up or sideways, as "FILE:LINE: A imports B"."""
        found = set()
        for name, imports in self.imports.items():
            for each in imports:
                here, there = part_of(name), part_of(each.name)
                if here and there and here != there and LEVEL[there] >= LEVEL[here]:
                    found.add(f"{self.files[name].name}:{each.line}: {name} imports {there}, which is not below {here}")
        return sorted(found)

    def unknown_parts(self) -> list[str]:
        """Parts of the package that have no place in the layers."""
        return sorted({name.split(".")[1] for name in self.files if name.startswith("millrace.")} - set(LEVEL))

    def pulled_in(self, start: str, forbidden: set[str]) -> list[str]:
        """The chain of modules by which importing `start` imports something forbidden; empty if it does not."""
        seen = {start}
        chains = [[start]]
        while chains:
            chain = chains.pop()
            for name in self._run_at_import(chain[-1]):
                if name.split(".")[0] in forbidden:
                    return [*chain, name]
                if name in self.files and name not in seen:
                    seen.add(name)
                    chains.append([*chain, name])
        return []

    def _run_at_import(self, name: str) -> Iterator[str]:
        """Every module that runs when `name` is imported: what it imports, and the packages around each."""
        for each in [*(found.name for found in self.imports[name] if found.at_import_time), name]:
            parts = each.split(".")
            yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def part_of(name: str) -> str | None:
    """The part of the layering that a module belongs to; None for what is not ours, and for the package itself."""
    first, *rest = name.split(".")
    if first in {"jobs", "bench"}:
        return first
    return rest[0] if first == "millrace" and rest and rest[0] in LEVEL else None


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree((ROOT / "lib", ROOT / "lib"), (ROOT / "jobs", ROOT))


def test_every_part_has_a_layer(tree: Tree) -> None:
    assert tree.unknown_parts() == []


def test_imports_go_down_only(tree: Tree) -> None:
    assert tree.upward() == []


@pytest.mark.parametrize(
    ("prefixes", "forbidden"),
    [(WITHOUT_SPARK, SPARK), (WITHOUT_TENSORFLOW, TENSORFLOW), (PURE, SPARK | TENSORFLOW)],
    ids=["no Spark", "no TensorFlow", "neither"],
)
def test_parts_that_never_pull_in_the_other_world(tree: Tree, prefixes: tuple[str, ...], forbidden: set[str]) -> None:
    modules = [name for name in tree.within(prefixes) if name not in MAY_USE_SPARK]
    chains = [" -> ".join(chain) for name in modules if (chain := tree.pulled_in(name, forbidden))]
    assert modules
    assert chains == []


@pytest.mark.parametrize(
    ("prefixes", "forbidden"), [(WITHOUT_SPARK, SPARK), (WITHOUT_TENSORFLOW, TENSORFLOW)], ids=["no Spark", "no TensorFlow"]
)
def test_nor_through_packages_of_others(tree: Tree, prefixes: tuple[str, ...], forbidden: set[str]) -> None:
    """The syntax tree ends where others' packages begin: a fresh Python imports all of them and looks."""
    modules = [name for name in tree.within(prefixes) if name not in MAY_USE_SPARK]
    program = f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\n"
    program += f"print(sorted({forbidden} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_jobs_are_short() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "jobs").glob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 40} == {}


def test_files_are_small_and_named_for_what_they_hold(tree: Tree) -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in tree.files.values()}
    assert {name: length for name, length in lengths.items() if length > 320} == {}
    assert [name for name in lengths if Path(name).stem in {"utils", "util", "helpers", "helper", "common", "misc"}] == []


def prints(path: Path) -> list[int]:
    """The lines that print to stdout, which belongs to what the user asked for; `print(..., file=sys.stderr)` does not count."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    calls = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
    return [call.lineno for call in calls if "file" not in [keyword.arg for keyword in call.keywords]]


def test_the_library_does_not_print(tree: Tree) -> None:
    assert {name: prints(path) for name, path in tree.files.items() if name.startswith("millrace") and prints(path)} == {}


# --- the checker itself, on small trees that break the rules ----------------------------------------------------------


def made_up(folder: Path, files: dict[str, str]) -> Tree:
    for name, text in files.items():
        path = folder / "lib" / "millrace" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (path.parent / "__init__.py").touch()
    return Tree((folder / "lib", folder / "lib"))


@pytest.mark.parametrize(
    "text",
    [
        "import millrace.flows.ingest",
        "from millrace.flows import ingest",
        "from millrace import flows",
        "from ..flows import ingest",
        "def read():\n    from millrace.flows import ingest",
        "import importlib\nimportlib.import_module('millrace.flows.ingest')",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from millrace.flows import ingest",
        "from millrace import session",  # a sibling
        "import jobs.ingest",
    ],
)
def test_an_import_that_goes_up_is_found(tmp_path: Path, text: str) -> None:
    tree = made_up(tmp_path, {"lake/read.py": text, "flows/ingest.py": "", "session.py": ""})
    line = len(text.splitlines())
    there = next(each for each in ("flows", "session", "jobs") if each in text)
    assert tree.upward() == [f"read.py:{line}: millrace.lake.read imports {there}, which is not below lake"]


def test_imports_that_go_down_or_stay_are_fine(tmp_path: Path) -> None:
    text = "from millrace.errors import LakeError\nfrom . import layout\nimport millrace.config.models\nimport millrace.lake.log"
    assert made_up(tmp_path, {"lake/read.py": text}).upward() == []


def test_a_part_without_a_layer_is_found(tmp_path: Path) -> None:
    assert made_up(tmp_path, {"lake/read.py": "", "stuff/read.py": "", "extra.py": ""}).unknown_parts() == ["extra", "stuff"]


@pytest.mark.parametrize(
    ("files", "chain"),
    [
        ({"loading/plan.py": "import pyspark.sql"}, ["millrace.loading.plan", "pyspark"]),
        (
            {"loading/plan.py": "from millrace.lake import log", "lake/log.py": "from pyspark import sql"},
            ["millrace.loading.plan", "millrace.lake.log", "pyspark"],
        ),
        (
            {"loading/plan.py": "import millrace.lake.log", "lake/log.py": "", "lake/__init__.py": "from delta import tables"},
            ["millrace.loading.plan", "millrace.lake", "delta"],
        ),
        (
            {"loading/plan.py": "", "loading/__init__.py": "try:\n    import pyspark\nexcept ImportError:\n    pass"},
            ["millrace.loading.plan", "millrace.loading", "pyspark"],
        ),
        ({"loading/plan.py": "class A:\n    import pyspark"}, ["millrace.loading.plan", "pyspark"]),
        ({"loading/plan.py": "def late():\n    import pyspark"}, []),
        ({"loading/plan.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pyspark"}, []),
        ({"loading/plan.py": "from millrace.lake import log", "lake/log.py": "", "lake/write.py": "import pyspark"}, []),
    ],
)
def test_a_chain_to_spark_is_found(tmp_path: Path, files: dict[str, str], chain: list[str]) -> None:
    assert made_up(tmp_path, files).pulled_in("millrace.loading.plan", SPARK) == chain


def test_a_print_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("x.print()\nprint('b', file=sys.stderr)\nprint('a')\n")
    assert prints(path) == [3]
