"""Near-duplicates on Spark, in one warm session: `python -m bench.minhash_spark THREADS`, asked over stdin.

millrace    jsonl -> signatures (kept in memory while they are used) -> tagged rows -> jsonl of the rows that stay
spark_ml    jsonl -> words -> 5-grams -> hashed vectors -> MinHashLSH -> approxSimilarityJoin: the pairs, neither connected nor
            taken out. Three tables of one hash each: 1 - 0.2**3 = 0.992 recall at similarity 0.8, which is Millrace's.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from bench.tree_memory import TreeMemory
from bench.workers import serve
from millrace.config.near_duplicates import NearDuplicatesConfig
from millrace.session import open_session
from millrace.transforms.near_duplicates import signatures, tag_near_duplicates

CONFIG = NearDuplicatesConfig(column="text", threshold=0.8, ngram=5, unit="words")
_TABLES = 3
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
    """Seconds from file to file, and what was dropped for which row."""
    began = time.perf_counter()
    rows = read(spark, source)
    signed = signatures(rows, config=CONFIG).persist()
    tagged = tag_near_duplicates(rows, config=CONFIG, signed=signed).persist()
    kept = tagged.filter(F.col("_rule").isNull()).select(F.col("row_id").alias("id"), "text")
    kept.write.mode("overwrite").json(out)
    dropped = tagged.filter(F.col("_rule").isNotNull()).select("row_id", F.substring_index("_reason", " ", -1).alias("kept"))
    dropped.write.mode("overwrite").json(f"{out}-dropped")
    seconds = time.perf_counter() - began
    tagged.unpersist()
    signed.unpersist()
    return {"seconds": seconds, "finished": True}


def spark_ml(spark: SparkSession, source: str, out: str, limit_seconds: float) -> dict[str, Any]:
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
        model = MinHashLSH(inputCol="vector", outputCol="hashes", numHashTables=_TABLES, seed=CONFIG.seed).fit(vectors)
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
    """Answers {"side", "source", "out", "limit_seconds"} with seconds, finished and peak_bytes."""
    spark = session(int(sys.argv[1]))

    def answer(side: str, source: str, out: str, limit_seconds: float) -> Mapping[str, Any]:
        with TreeMemory() as memory:
            done = millrace(spark, source, out) if side == "millrace" else spark_ml(spark, source, out, limit_seconds)
        return {**done, "peak_bytes": memory.peak_bytes}

    serve(answer)


if __name__ == "__main__":
    main()
