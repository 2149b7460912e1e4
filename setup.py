"""Packaging of Millrace. What it depends on is pinned in requirements/*.in and nowhere else."""

import runpy
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def pins(name: str) -> list[str]:
    """The requirements of requirements/NAME.in, without remarks."""
    lines = (ROOT / "requirements" / f"{name}.in").read_text().splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


class BuildWithBuiltin(build_py):
    """Puts the shipped pipelines and contracts, and the revision, into the built package, as scripts/build_zip.py does."""

    def run(self) -> None:
        super().run()
        if getattr(self, "editable_mode", False):
            return  # an editable install reads them from the checkout
        builtin_files = runpy.run_path(str(ROOT / "scripts" / "build_zip.py"))["builtin_files"]
        for name, content in builtin_files(ROOT).items():
            target = Path(self.build_lib, "millrace", "_builtin", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


setup(
    name="millrace",
    version="0.1.0",
    description="A data lake's water to the mill: Spark preprocessing and distributed training, exact and resumable",
    python_requires="==3.11.*",
    package_dir={"": "lib"},
    packages=find_packages("lib"),
    package_data={"millrace": ["py.typed"]},
    cmdclass={"build_py": BuildWithBuiltin},
    install_requires=pins("core"),
    extras_require={
        "cpu": pins("cpu") + pins("horovod"),
        "gpu": pins("gpu") + pins("horovod"),
        "dev": pins("dev"),
    },
    entry_points={"console_scripts": ["millrace = millrace.cli:main"]},
)
