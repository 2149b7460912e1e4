"""Spark's Python daemon (`spark.python.daemon.module`): the process whose forks run Python in Spark's tasks.

It is PySpark's own with three things done before the first fork, which each worker or each task did otherwise:

- The libraries and Millrace's modules are imported once, and shared by all workers.
- Spark's own archives are taken off the path where SPARK_HOME is an installed PySpark: a module is looked for in that, which is
  compiled, not in pyspark.zip and in the jar of Spark's core.
- At the start of each task PySpark has Python forget what it knows of its path, and zipimport then reads the directory of each
  archive again, in Python, once for each package in it: a third of a second and more for each task. One that has not changed
  is not read again.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.machinery
import os
import sys
import zipimport
from pathlib import Path

_SHARED = (
    *("numpy", "pandas", "pyarrow.compute", "pyarrow.csv", "pyarrow.json", "pyarrow.parquet"),
    *("pyspark.sql.pandas.serializers", "millrace.flows.nightly"),
)


def without_spark_archives() -> None:
    """Takes the archives below SPARK_HOME off the path, where there is a PySpark without them."""
    home = os.environ.get("SPARK_HOME")
    rest = [entry for entry in sys.path if not (home and Path(entry).is_relative_to(home) and Path(entry).is_file())]
    spec = importlib.machinery.PathFinder.find_spec("pyspark", rest)
    if home and spec is not None and spec.origin is not None and Path(spec.origin).parent == Path(home):
        sys.path[:] = rest


def read_archives_when_changed() -> None:
    """Lets zipimport read an archive's directory again only where its file is another one than at the last time."""
    read = zipimport.zipimporter.invalidate_caches
    known: dict[tuple[str, str], tuple[int, int, int] | None] = {}

    def invalidate_caches(self: zipimport.zipimporter) -> None:
        name, now = (self.archive, self.prefix), _identity(self.archive)
        if now is None or known.get(name) != now:
            read(self)
            known[name] = now

    zipimport.zipimporter.invalidate_caches = invalidate_caches  # type: ignore[method-assign]


def _identity(archive: str) -> tuple[int, int, int] | None:
    try:
        stat = Path(archive).stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def main() -> None:
    """Serves workers until Spark closes its input."""
    without_spark_archives()
    read_archives_when_changed()
    for name in _SHARED:
        with contextlib.suppress(ImportError):  # whoever needs it says what is missing
            importlib.import_module(name)
    from pyspark import daemon

    gc.collect()
    gc.freeze()  # what all share is not looked at, and so not copied, when a worker collects its own
    daemon.manager()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
