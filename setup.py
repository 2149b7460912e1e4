"""Packaging of Millrace. What it depends on is pinned in requirements/*.in and nowhere else."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def pins(name: str) -> list[str]:
    """The requirements of requirements/NAME.in, without remarks."""
    lines = (ROOT / "requirements" / f"{name}.in").read_text().splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


setup(
    name="millrace",
    version="0.1.0",
    description="A data lake's water to the mill: Spark preprocessing and distributed training, exact and resumable",
    python_requires="==3.11.*",
    package_dir={"": "lib"},
    packages=find_packages("lib"),
    package_data={"millrace": ["py.typed", "_builtin/**/*.yaml"]},
    install_requires=pins("core"),
    extras_require={
        "cpu": pins("cpu") + pins("horovod"),
        "gpu": pins("gpu") + pins("horovod"),
        "dev": pins("dev"),
    },
    entry_points={"console_scripts": ["millrace = millrace.cli:main"]},
)
