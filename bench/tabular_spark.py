"""The sides of the tabular benchmark on Spark, in one warm session: `python -m bench.tabular_spark THREADS`, asked over stdin.

gold, all   a night by the flow that users call (`jobs/nightly.py`), with materialize: [gold], or with bronze and silver
profiled    gold with a profile of its rows in metrics/profiles, which no other side makes
udf         the same table by row-wise Python UDFs: each row is checked, given its split and encoded by a Python function
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from bench.tabular_data import KEY, LABEL, NAME, SEED, TEXTS, numbers, rates, schema
from bench.tree_memory import TreeMemory
from bench.workers import serve
from millrace.config.load import load_pipeline
from millrace.config.places import Places
from millrace.contracts.spark import struct_type
from millrace.contracts.table import TableContract, load_contract
from millrace.errors import MillraceError
from millrace.flows.job import run
from millrace.flows.nightly import NIGHT
from millrace.session import open_session
from millrace.sources.read import FileSource, source_of, typed

DATE = "2026-11-22"
MODES = {
    "gold": ("materialize=[gold]",),
    "profiled": ("materialize=[gold]", "quality.profile=true"),
    "all": ("materialize=[bronze, silver, gold]",),
}


def session(threads: int) -> SparkSession:
    """The settings that ship, on some threads."""
    spark = open_session("bench", {"spark.master": f"local[{threads}]"})
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def night(spark: SparkSession, conf: str, out: str, mode: str) -> dict[str, Any]:
    """A night in a lake of its own: its seconds, and those of its stages."""
    shutil.rmtree(out, ignore_errors=True)
    options = ["--pipeline", NAME, "--lake", out, "--conf-dir", conf, "--night", DATE]
    options += [word for option in MODES[mode] for word in ("--set", option)]
    began = time.perf_counter()
    code = run(NIGHT, "", options, spark=spark)
    seconds = time.perf_counter() - began
    if code:
        raise MillraceError("bench", expected="the night to succeed", found=f"exit code {code}", remedy="See above.")
    return {"seconds": seconds, "stages": stages(Path(out))}


def stages(lake: Path) -> dict[str, float]:
    """Seconds by stage, from the night's log."""
    found: dict[str, float] = {}
    (path,) = lake.glob(f"artifacts/{NAME}/*/log.jsonl")
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if record["event"] == "timing":
            found[record["name"]] = found.get(record["name"], 0.0) + record["seconds"]
    return found


def udf(spark: SparkSession, rows: str, out: str) -> dict[str, Any]:
    """Row-wise Python UDFs, from file to file; what they have found of a row is kept on disk, not found again."""
    began = time.perf_counter()
    contract = TableContract.model_validate(schema())
    raw = spark.read.csv(rows, schema=struct_type(contract), header=True)
    whole = F.struct(*raw.columns)
    checked = raw.withColumns({"reason": _reason(whole), "split": _split_of(KEY)}).persist(StorageLevel.DISK_ONLY)
    kept = checked.filter(F.col("reason").isNull())
    train = kept.filter(F.col("split") == "train")
    names = numbers()
    row = train.agg(
        *[each(name).alias(f"{kind}_{name}") for kind, each in (("mean", F.mean), ("deviation", F.stddev_pop)) for name in names]
    ).collect()[0]
    places = [(row[f"mean_{name}"], row[f"deviation_{name}"] if row[f"deviation_{name}"] >= 1e-30 else 1.0) for name in names]
    known = {}
    for name in TEXTS:
        counted = sorted(train.groupBy(name).count().collect(), key=lambda each: (-each["count"], each[name]))
        known[name] = {each[name]: place for place, each in enumerate(counted, start=2)}
    classes = {each[LABEL]: place for place, each in enumerate(sorted(train.select(LABEL).distinct().collect()))}

    @F.udf("array<float>")
    def features(one: Any) -> list[float]:
        return [(one[name] - mean) / deviation for name, (mean, deviation) in zip(names, places, strict=True)]

    @F.udf("array<int>")
    def ids(one: Any) -> list[int]:
        return [known[name].get(one[name], 1) for name in TEXTS]

    @F.udf("int")
    def label(value: str) -> int | None:
        return classes.get(value)

    encoded = kept.select(
        KEY, features(whole).alias("features"), ids(whole).alias("ids"), label(LABEL).alias("label"), "split"
    ).filter("label IS NOT NULL")
    ordered = encoded.withColumn("_order", F.xxhash64(F.lit(SEED), KEY)).repartition(4, "_order")
    ordered.sortWithinPartitions("split", "_order").drop("_order").write.partitionBy("split").mode("overwrite").parquet(out)
    checked.filter(F.col("reason").isNotNull()).write.mode("overwrite").parquet(f"{out}-rejected")
    checked.unpersist()
    return {"seconds": time.perf_counter() - began, "stages": {}}


_RATES = rates()


@F.udf(T.StringType())
def _reason(row: Any) -> str | None:
    for name in row.__fields__:
        if row[name] is None:
            return f"{name} is null"
    for name in _RATES:
        if not 0 <= row[name] <= 1:
            return f"{name} is out of range"
    return None


@F.udf(T.StringType())
def _split_of(number: int) -> str:
    last = number % 10
    return "test" if last == 9 else "validation" if last == 8 else "train"


def account(spark: SparkSession, conf: str) -> dict[str, float]:
    """Seconds of parts of a pass alone, each with nothing after it: parsing in Python, and the way of the rows into Spark."""
    config = load_pipeline(NAME, Places.standard(conf))
    contract = load_contract(config.source.contract, Places.standard(conf))
    source = typed(source_of(config.source))
    assert isinstance(source, FileSource)
    paths = source.find(config.source.path)
    reader, units = source.reader, source.reader.units(paths)

    def parse(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                rows = sum(each.num_rows for each in reader.read(units[number], contract))
                yield pa.record_batch([pa.array([rows])], names=["rows"])

    spread = spark.range(0, len(units), 1, len(units))
    return {
        "identify": _seconds(lambda: source.identify(paths)),
        "parse": _seconds(lambda: spread.mapInArrow(parse, "rows long").collect()),
        "read": _seconds(lambda: _drop(source.rows(spark, paths, contract))),
    }


def _drop(rows: DataFrame) -> None:
    rows.write.format("noop").mode("overwrite").save()


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Answers {"ask": start | gold | all | udf | account, ...}."""
    threads = int(sys.argv[1])
    sessions: list[SparkSession] = []

    def answer(*, ask: str, conf: str = "", rows: str = "", out: str = "") -> Mapping[str, Any]:
        if ask == "start":
            return {"seconds": _seconds(lambda: sessions.append(session(threads)))}
        (spark,) = sessions
        if ask == "account":
            return {"stages": account(spark, conf)}
        with TreeMemory() as memory:
            found = udf(spark, rows, out) if ask == "udf" else night(spark, conf, out, ask)
        return {**found, "peak_bytes": memory.peak_bytes}

    serve(answer)


if __name__ == "__main__":
    main()
