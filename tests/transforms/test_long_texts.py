"""Very long texts on their way to Python: batches are bounded by bytes, and with them what a worker takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from millrace.config.texts import TextConfig
from millrace.flows.batches import BATCH_BYTES, KEY
from millrace.transforms import text_pass

MIB = 1024**2
TEXT_BYTES = 5_000_000
CAP_MIB = 300
STEP = TextConfig(column="text", steps=("spaces",))


def documents(spark: SparkSession, count: int) -> DataFrame:
    """So many texts of 5 MB, all in one task."""
    text = F.expr(f"repeat('the mill race ', {TEXT_BYTES // 14})").alias("text")
    return spark.range(0, count, 1, 1).select("id", text, *[F.lit(None).cast("string").alias(tag) for tag in text_pass.TAGS])


def cleaned(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The text pass, and of each batch what Python was given, and how much more the worker has ever taken since its first."""
    judges = [text_pass.judge_of(STEP)]
    before = 0
    for batch in batches:
        if not before:
            Path("/proc/self/clear_refs").write_text("5")
            before = peak_kib()
        done = text_pass.apply_to_batch(batch, [STEP], judges, {})
        assert done.num_rows == batch.num_rows
        yield pa.record_batch([[batch.num_rows], [batch.nbytes], [(peak_kib() - before) // 1024]], ["rows", "bytes", "peak"])


def peak_kib() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from Linux's /proc")
@pytest.mark.parametrize("count", [12, pytest.param(200, marks=pytest.mark.full)])
def test_batches_of_long_texts_stay_small(spark: SparkSession, count: int) -> None:
    """Without the bound all 200 are one batch of 1 GB."""
    before = spark.conf.get(KEY)
    spark.conf.set(KEY, str(BATCH_BYTES))
    rows = documents(spark, count).mapInArrow(cleaned, "rows long, bytes long, peak long").collect()
    spark.conf.set(KEY, before)
    assert sum(row["rows"] for row in rows) == count
    assert max(row["bytes"] for row in rows) < BATCH_BYTES + TEXT_BYTES + MIB
    assert max(row["peak"] for row in rows) < CAP_MIB
