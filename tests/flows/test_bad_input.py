"""Wrong input: one clear line, exit code 2, and a lake that is as it was."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from millrace.flows import ingest, preprocess
from millrace.flows.job import run
from millrace.flows.nightly import NIGHT, only
from millrace.lake import log
from millrace.lake.layout import Lake
from millrace.lake.ledger import Ledger

Job = Callable[..., tuple[int, str]]


@pytest.fixture
def job(tmp_path: Path, capsys: pytest.CaptureFixture[str], spark: SparkSession) -> Job:
    """Runs a flow in this process on the tests' session. Gives the exit code and the lines of error."""

    def call(*arguments: str, flow=NIGHT, pipeline: str = "digits") -> tuple[int, str]:  # type: ignore[no-untyped-def]
        capsys.readouterr()
        code = run(
            flow, "", ["--pipeline", pipeline, "--lake", str(tmp_path / "lake"), "--night", "2026-11-22", *arguments], spark=spark
        )
        return code, errors_in(capsys.readouterr().err)

    return call


def errors_in(text: str) -> str:
    """What follows the time and the word error, of each such line."""
    return "\n".join(line.partition(" error   ")[2] for line in text.splitlines() if " error   " in line)


def write_csv(directory: Path, *lines: str, name: str = "digits.csv") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text("\n".join(("index,image,digit", *lines)) + "\n")
    return path


def row(index: int, digit: int) -> str:
    image = [index % 17, index // 17, *[0] * 62]  # no two alike
    return f"{index},{' '.join(map(str, image))},{digit}"


def source(path: Path) -> list[str]:
    return ["--set", "source.sample=null", "--set", f"source.path={path}"]


BEFORE = {
    "unknown pipeline": (
        "digit",
        [],
        "config: expected the name of a pipeline; found 'digit'. Did you mean 'digits'?",
    ),
    "unknown key": (
        "digits",
        ["--set", "training.epoch=1"],
        "config: expected known keys in conf/pipelines/digits.yaml; found 'training.epoch'. Did you mean 'epochs'?",
    ),
    "wrong type": (
        "digits",
        ["--set", "training.epochs=many"],
        "config: expected training.epochs in conf/pipelines/digits.yaml to be a valid integer",
    ),
    "a value whose capability is not built": (
        "digits",
        ["--set", "model.family=transformer"],
        "config: expected model.family in conf/pipelines/digits.yaml to be 'mlp' or 'cnn'; found 'transformer'. Known: cnn, mlp.",
    ),
    "missing source": (
        "digits",
        ["--set", "source.sample=null", "--set", "source.path=/nowhere/digits"],
        "ingest: expected csv files at /nowhere/digits; found none.",
    ),
    "no date": ("digits", ["--night", "yesterday"], "config: expected --night YYYY-MM-DD; found yesterday."),
}


@pytest.mark.parametrize("case", BEFORE)
def test_what_shows_before_the_start_changes_nothing_at_all(job: Job, tmp_path: Path, case: str) -> None:
    pipeline, arguments, message = BEFORE[case]
    code, errors = job(*arguments, pipeline=pipeline)
    assert code == 2
    assert errors.startswith(message)
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "lake").exists()


def test_a_source_that_may_come_later_exits_1(job: Job, tmp_path: Path) -> None:
    code, errors = job(*source(tmp_path / "raw"), "--set", "source.on_missing=retry")
    assert (code, errors.partition(".")[0]) == (1, f"ingest: expected csv files at {tmp_path}/raw; found none")


def test_a_source_that_is_skipped_goes_on(job: Job, tmp_path: Path) -> None:
    code, _ = job(*source(tmp_path / "raw"), "--set", "source.on_missing=skip", flow=only(ingest.step))
    assert code == 0
    (entry,) = [entry for entry in Ledger.read(Lake.at(str(tmp_path / "lake"))).entries if entry.status == "succeeded"]
    assert entry.counts is not None and entry.counts.num_rows_in == 0


def test_a_lake_that_cannot_be_written(job: Job, tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file where the lake should be")
    write_csv(tmp_path / "raw", row(1, 1))
    code, errors = job(*source(tmp_path / "raw"))
    assert (code, errors) == (
        2,
        f"lake: expected to read {tmp_path}/lake; found that the system refuses it (not a directory). "
        "Check the path and its permissions.",
    )


def test_a_lake_of_a_newer_layout(job: Job, tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "_millrace.json").write_text(json.dumps({"layout_version": 99}))
    code, errors = job()
    assert (code, errors) == (
        2,
        f"lake: expected a lake of layout version 1 or older at {tmp_path}/lake; found version 99. "
        "A newer Millrace has made it: use that one, or another --lake.",
    )
    assert [path.name for path in (tmp_path / "lake").iterdir()] == ["_millrace.json"]


def test_a_missing_column(job: Job, tmp_path: Path) -> None:
    write_csv(tmp_path / "raw").write_text("index,image\n1,0\n")
    code, errors = job(*source(tmp_path / "raw"))
    path = tmp_path / "raw" / "digits.csv"
    assert (code, errors) == (
        2,
        f"ingest: expected the columns index, image, digit in {path}; found no digit in its first line. "
        "Mend the file, or the contract digits_raw, or let its evolution.missing quarantine such files.",
    )


def idx(
    directory: Path, *, magic: int = 0x803, num_images: int = 4, num_labels: int = 4, drop: int = 0, zipped: bool = False
) -> None:
    directory.mkdir(parents=True)
    images = struct.pack(">4I", magic, num_images, 28, 28) + bytes(num_images * 784)
    labels = struct.pack(">2I", 0x801, num_labels) + bytes(num_labels)
    for name, data in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
        written = gzip.compress(data) if zipped else data
        path = directory / (name + (".gz" if zipped else ""))
        path.write_bytes(written[: len(written) - drop] if "images" in name else written)


IDX = {
    "wrong magic": (dict(magic=0x903), "ingest: expected the magic number 00000803 in {images}; found 00000903."),
    "wrong count": (dict(num_labels=3), "ingest: expected as many labels as images in {labels}; found 3 labels, 4 images."),
    "truncated": (dict(drop=10), "ingest: expected a whole file at {images}; found that it is damaged (it ends 10 bytes early)."),
    "truncated gzip": (dict(drop=12, zipped=True), "ingest: expected a whole file at {images}.gz; found that it is damaged ("),
}


@pytest.mark.parametrize("case", IDX)
def test_damaged_idx_files(job: Job, tmp_path: Path, case: str) -> None:
    options, message = IDX[case]
    idx(tmp_path / "raw", **options)  # type: ignore[arg-type]
    code, errors = job("--set", f"source.path={tmp_path}/raw", pipeline="mnist", flow=only(ingest.step))
    names = {"images": tmp_path / "raw" / "train-images-idx3-ubyte", "labels": tmp_path / "raw" / "train-labels-idx1-ubyte"}
    assert code == 2
    assert errors.startswith(message.format(**names)), errors
    assert len(errors.splitlines()) == 1
    steps = [(entry.status, entry.step) for entry in Ledger.read(Lake.at(str(tmp_path / "lake"))).entries]
    is_found_before = case in ("wrong magic", "wrong count", "truncated gzip")
    assert steps == ([] if is_found_before else [("started", "ingest"), ("failed", "ingest")])


def test_too_many_rejects_stop_the_night_and_lie_in_quarantine(job: Job, tmp_path: Path) -> None:
    """A good first night, then a second with too many broken rows: what the first has made stands; mended, the second goes on."""
    raw = tmp_path / "raw"
    write_csv(raw / "2026-11-22", *[row(index, index % 4) for index in range(60)])
    write_csv(raw / "2026-11-23", row(100, 1), row(101, 99), row(102, 98))
    options = source(Path(f"{raw}/{{night}}"))
    for flow in (only(ingest.step), only(preprocess.step)):
        assert job(*options, flow=flow)[0] == 0
    lake = Lake.at(str(tmp_path / "lake"))
    before = {table: content(lake, table) for table in ("silver/digits", "gold/digits")}

    assert job(*options, "--night", "2026-11-23", flow=only(ingest.step))[0] == 0
    code, errors = job(*options, "--night", "2026-11-23", flow=only(preprocess.step))
    assert code == 2
    assert errors == (
        "preprocess: expected at most 2.00% of the rows quarantined (quality.max_reject_ratio); found 2 of 3 (66.67%). "
        f"See `millrace quarantine digits --night 2026-11-23 --lake {lake.uri}` for the rows and reasons; "
        "mend the source, or raise the budget."
    )
    assert {table: content(lake, table) for table in before} == before
    assert [found["rule"] for found in log.read_rows(lake.path("quarantine/pipelines/digits")).to_pylist()] == [
        "digit_out_of_range"
    ] * 2
    assert [(entry.status, entry.step) for entry in Ledger.read(lake).entries][-2:] == [
        ("started", "preprocess"),
        ("failed", "preprocess"),
    ]

    raised = [*options, "--night", "2026-11-23", "--set", "quality.max_reject_ratio=0.7"]
    assert job(*raised, flow=only(ingest.step))[0] == 0
    assert job(*raised, flow=only(preprocess.step))[0] == 0
    assert len(content(lake, "silver/digits")) == 61


def content(lake: Lake, table: str) -> list[str]:
    """The newest version, whatever the ledger says."""
    return sorted(map(repr, log.read_rows(lake.path(table)).to_pylist()))


def test_a_failed_ingest_looks_at_its_files_again(job: Job, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "raw", *[row(index, index % 10) for index in range(200)])
    whole = gzip.compress(path.read_bytes(), mtime=0)
    path.unlink()
    (tmp_path / "raw" / "digits.csv.gz").write_bytes(whole[:-200])
    code, errors = job(*source(tmp_path / "raw"), flow=only(ingest.step))
    assert code == 2
    assert errors.startswith(f"ingest: expected a whole file at {tmp_path}/raw/digits.csv.gz; found that it is damaged (")
    (tmp_path / "raw" / "digits.csv.gz").write_bytes(whole)
    assert job(*source(tmp_path / "raw"), flow=only(ingest.step))[0] == 0
    assert log.read_rows(str(tmp_path / "lake" / "bronze" / "digits")).num_rows == 200
    shutil.rmtree(tmp_path / "raw")
