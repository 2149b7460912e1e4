"""Near-duplicates on Spark, in one warm session: `python -m bench.minhash_spark THREADS`, asked over stdin.

millrace    jsonl -> signatures (kept in memory while they are used) -> tagged rows -> jsonl of those that stay, as the flow does
account     the same, with a pause after each stage for its seconds: what Spark otherwise does in one pass comes in parts
spark_ml    jsonl -> words -> 5-grams -> hashed vectors -> MinHashLSH -> approxSimilarityJoin: the pairs, neither connected nor
            taken out. Tables have one hash each.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from bench.tree_memory import TreeMemory
from bench.workers import serve
from millrace import observe
from millrace.config.near_duplicates import NearDuplicatesConfig
from millrace.flows.ingest import cached
from millrace.flows.near_duplicates import drop_near_duplicates
from millrace.session import open_session
from millrace.transforms.near_duplicates import signatures
from millrace.transforms.shingles import shingle_blocks

CONFIG = NearDuplicatesConfig(column="text", threshold=0.8, ngram=5, unit="words")
_FEATURES = 1 << 20


def session(threads: int) -> SparkSession:
    """The settings that ship, on some threads."""
    spark = open_session("bench", {"spark.master": f"local[{threads}]"})
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def read(spark: SparkSession, source: str) -> DataFrame:
    """The documents as the flow has them before a step that drops rows."""
    rows = spark.read.schema("id string, text string").json(source)
    none = F.lit(None).cast("string")
    return rows.select(
        F.col("id").alias("row_id"),
        "text",
        F.lit("2026-01-01").alias("_night"),
        F.lit("documents.jsonl").alias("_source_file"),
        none.alias("_rule"),
        none.alias("_reason"),
        none.alias("_action"),
    )


def millrace(spark: SparkSession, source: str, out: str) -> dict[str, Any]:
    """Seconds from file to file; what was dropped, and for which row, is written too."""
    began = time.perf_counter()
    with ExitStack() as stack:

        def keep(frame: DataFrame) -> DataFrame:
            return stack.enter_context(cached(frame))

        rows = keep(read(spark, source))
        signed = keep(signatures(rows, config=CONFIG))
        _write(drop_near_duplicates(rows, config=CONFIG, signed=signed, keep=keep), out)
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "finished": True}


def account(spark: SparkSession, source: str, out: str) -> dict[str, Any]:
    """Seconds of each stage."""
    with ExitStack() as stack, _timings() as stages:

        def keep(frame: DataFrame) -> DataFrame:
            return stack.enter_context(cached(frame))

        with observe.timed("reading"):
            rows = keep(read(spark, source))
            rows.count()
        with observe.timed("shingling_alone"):
            rows.select("text").mapInArrow(_count_shingles, "num_shingles bigint").agg(F.sum("num_shingles")).collect()
        with observe.timed("shingling_and_signatures"):
            signed = keep(signatures(rows, config=CONFIG))
            signed.count()
        tagged = drop_near_duplicates(rows, config=CONFIG, signed=signed, keep=keep)
        with observe.timed("result_join_and_writing"):
            _write(tagged, out)
    return {"stages": stages, "seconds": sum(stages.values()) - stages["shingling_alone"], "finished": True}


def _write(tagged: DataFrame, out: str) -> None:
    kept = tagged.filter(F.col("_rule").isNull()).select(F.col("row_id").alias("id"), "text")
    kept.write.mode("overwrite").json(out)
    dropped = tagged.filter(F.col("_rule").isNotNull()).select("row_id", F.substring_index("_reason", " ", -1).alias("kept"))
    dropped.write.mode("overwrite").json(f"{out}-dropped")


def _count_shingles(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        blocks = shingle_blocks(batch.column(0), ngram=CONFIG.ngram, unit=CONFIG.unit)
        yield pa.RecordBatch.from_arrays([pa.array([block.values.size for block in blocks], pa.int64())], names=["num_shingles"])


@contextmanager
def _timings() -> Iterator[dict[str, float]]:
    """What `observe.timed` notes in the context, by name."""
    found: dict[str, float] = {}

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if getattr(record, "event", "") == "timing":
                fields: Mapping[str, Any] = getattr(record, "fields", {})
                found[str(fields["name"])] = float(fields["seconds"])

    listener, level = Listener(), observe.LOG.level
    observe.LOG.addHandler(listener)
    observe.LOG.setLevel(logging.INFO)
    try:
        yield found
    finally:
        observe.LOG.removeHandler(listener)
        observe.LOG.setLevel(level)


def spark_ml(spark: SparkSession, source: str, out: str, limit_seconds: float, tables: int) -> dict[str, Any]:
    """Seconds of Spark ML's join; those of the limit, and finished false, where it took longer."""
    from pyspark.ml.feature import HashingTF, MinHashLSH, NGram, Tokenizer

    began = time.perf_counter()
    context = spark.sparkContext
    context.setJobGroup("spark_ml", "approxSimilarityJoin", interruptOnCancel=True)
    stop = threading.Timer(limit_seconds, context.cancelJobGroup, ["spark_ml"])
    stop.start()
    try:
        rows = read(spark, source).select("row_id", "text")
        grams = NGram(n=CONFIG.ngram, inputCol="words", outputCol="grams").transform(
            Tokenizer(inputCol="text", outputCol="words").transform(rows)
        )
        vectors = HashingTF(numFeatures=_FEATURES, binary=True, inputCol="grams", outputCol="vector").transform(grams)
        vectors = vectors.select("row_id", "vector").persist()
        model = MinHashLSH(inputCol="vector", outputCol="hashes", numHashTables=tables, seed=CONFIG.seed).fit(vectors)
        pairs = model.approxSimilarityJoin(vectors, vectors, 1.0 - CONFIG.threshold + 1e-9, distCol="distance")
        ids = pairs.select(F.col("datasetA.row_id").alias("left"), F.col("datasetB.row_id").alias("right"))
        ids.filter("left < right").write.mode("overwrite").json(out)
        vectors.unpersist()
    except Exception:
        if time.perf_counter() - began < limit_seconds:
            raise
        return {"seconds": limit_seconds, "finished": False}
    finally:
        stop.cancel()
        context.setJobGroup("", "")
    return {"seconds": time.perf_counter() - began, "finished": True}


def main() -> None:
    """Answers {"side", "source", "out", "limit_seconds", "tables"} with seconds, finished, peak_bytes; of the account: stages."""
    spark = session(int(sys.argv[1]))

    def answer(side: str, source: str, out: str, limit_seconds: float, tables: int) -> Mapping[str, Any]:
        run: Callable[[], dict[str, Any]] = {
            "millrace": lambda: millrace(spark, source, out),
            "account": lambda: account(spark, source, out),
            "spark_ml": lambda: spark_ml(spark, source, out, limit_seconds, tables),
        }[side]
        with TreeMemory() as memory:
            done = run()
        return {**done, "peak_bytes": memory.peak_bytes}

    serve(answer)


if __name__ == "__main__":
    main()
