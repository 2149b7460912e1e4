"""What Spark's Python workers have before their first task, and what each task no longer does."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyspark

CALL = "from millrace import python_daemon as daemon; import sys; {code}"


def python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", CALL.format(code=code)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True).stdout


def zip_with(path: Path, **modules: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in modules.items():
            archive.writestr(f"{name}.py", text)
    return path


def test_workers_have_all_modules_and_no_archive_of_sparks_on_their_path(spark):
    def look(batches):
        import sys

        for _ in batches:
            loaded = [name for name in ("pandas", "pyarrow.parquet", "millrace.flows.nightly") if name in sys.modules]
            archives = [entry for entry in sys.path if "spark" in entry and entry.endswith((".zip", ".jar"))]
            text = f"{sys.modules['pyspark'].__file__} {loaded} {archives} {'tensorflow' in sys.modules}"
            yield pa.RecordBatch.from_pydict({"text": [text]})

    (row,) = spark.range(1).repartition(1).mapInArrow(look, "text string").collect()
    assert row["text"] == f"{pyspark.__file__} ['pandas', 'pyarrow.parquet', 'millrace.flows.nightly'] [] False"


def test_spark_archives_stay_where_there_is_no_other_pyspark(tmp_path):
    archive = zip_with(tmp_path / "pyspark.zip", pyspark="")
    code = f"sys.path[:] = ['{archive}', '{tmp_path / 'lib'}']; daemon.without_spark_archives(); print(sys.path)"
    assert python(code, SPARK_HOME=str(tmp_path)) == f"{[str(archive), str(tmp_path / 'lib')]}\n"


def test_spark_archives_go_and_others_stay(tmp_path):
    home = tmp_path / "pyspark"
    home.mkdir()
    (home / "__init__.py").touch()
    own, other = zip_with(home / "pyspark.zip", pyspark=""), zip_with(tmp_path / "users.zip", users="")
    code = f"sys.path[:] = ['{own}', '{other}', '{tmp_path}']; daemon.without_spark_archives();print(sys.path)"
    assert python(code, SPARK_HOME=str(home)) == f"{[str(other), str(tmp_path)]}\n"
    assert python(code, SPARK_HOME="") == f"{[str(own), str(other), str(tmp_path)]}\n"


def test_archive_is_read_again_only_where_it_has_changed(tmp_path):
    archive = zip_with(tmp_path / "users.zip", first="NUMBER = 1")
    code = f"""
import importlib, zipfile, zipimport
daemon.read_archives_when_changed()
reads = []
read = zipimport._read_directory
zipimport._read_directory = lambda archive: reads.append(archive) or read(archive)
sys.path.insert(0, {str(archive)!r})
import first
for _ in range(3):
    importlib.invalidate_caches()
num_reads = len([each for each in reads if each == {str(archive)!r}])
with zipfile.ZipFile({str(archive)!r}, "a") as changed:
    changed.writestr("second.py", "NUMBER = 2")
importlib.invalidate_caches()
import second
print(num_reads, first.NUMBER, second.NUMBER)
"""
    script = tmp_path / "script.py"
    script.write_text(f"from millrace import python_daemon as daemon\nimport sys\n{code}")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "2 1 2\n"  # as it is found, and at the first call


def test_what_is_shared_is_there():
    from millrace.python_daemon import _SHARED

    for name in _SHARED:
        assert importlib.util.find_spec(name) is not None
