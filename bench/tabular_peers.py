"""The same table made by libraries that hold it in memory: `python tabular_peers.py polars|pandas FILES OUT PLAN`.

PLAN is JSON: numbers, texts, rates, label, key, seed, shuffled. CSV -> rows out of range put aside -> split -> mean and deviation
of the train rows, vocabularies -> float32 and int32 -> in the order of a hash -> Parquet by split. Prints {"seconds",
"peak_bytes", "start_seconds"}; the imports are `start_seconds`. Run by the peers' Python: it knows nothing of Millrace.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

SPLITS = ("train", "validation", "test")


def vocabulary(counts: dict[str, int]) -> dict[str, int]:
    """0 is for missing, 1 for unknown values; then the most frequent first."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return {value: place for place, (value, _) in enumerate(ordered, start=2)}


def polars_side(files: list[str], out: Path, plan: dict[str, Any]) -> None:
    """polars, eager."""
    import polars as pl  # type: ignore[import-not-found]

    numbers, texts, label, key = plan["numbers"], plan["texts"], plan["label"], plan["key"]
    types = {key: pl.Int64, **{name: pl.Float64 if name in plan["rates"] else pl.Int64 for name in numbers}}
    rows = pl.concat([pl.read_csv(name, schema_overrides=types) for name in files])
    good = pl.all_horizontal([pl.col(name).is_not_null() for name in rows.columns])
    good &= pl.all_horizontal([pl.col(name).is_between(0, 1) for name in plan["rates"]])
    rows.filter(~good).write_parquet(f"{out}-rejected.parquet")
    last = pl.col(key) % 10
    split = pl.when(last == 9).then(pl.lit("test")).when(last == 8).then(pl.lit("validation")).otherwise(pl.lit("train"))
    rows = rows.filter(good).with_columns(split.alias("split"))
    train = rows.filter(pl.col("split") == "train")
    means = train.select(pl.col(name).mean() for name in numbers).row(0)
    deviations = train.select(pl.col(name).std(ddof=0) for name in numbers).row(0)
    ids = {name: vocabulary(dict(train[name].value_counts().iter_rows())) for name in texts}
    classes = {name: place for place, name in enumerate(sorted(train[label].unique()))}
    encoded = [
        ((pl.col(name) - mean) / (deviation if deviation >= 1e-30 else 1.0)).cast(pl.Float32).alias(name)
        for name, mean, deviation in zip(numbers, means, deviations, strict=True)
    ]
    encoded += [pl.col(name).replace_strict(known, default=1, return_dtype=pl.Int32) for name, known in ids.items()]
    encoded += [pl.col(label).replace_strict(classes, default=None, return_dtype=pl.Int32), pl.col(key), pl.col("split")]
    order = [pl.col(key).hash(plan["seed"]).alias("_order")] if plan["shuffled"] else []
    table = rows.select(*encoded, *order).filter(pl.col(label).is_not_null())
    if plan["shuffled"]:
        table = table.sort("_order").drop("_order")
    for name in SPLITS:
        (out / f"split={name}").mkdir(parents=True)
        part = table.filter(pl.col("split") == name).drop("split")
        part.write_parquet(out / f"split={name}" / "part.parquet", compression="snappy")


def pandas_side(files: list[str], out: Path, plan: dict[str, Any]) -> None:
    """pandas, with its own parser."""
    import numpy as np
    import pandas as pd

    numbers, texts, label, key = plan["numbers"], plan["texts"], plan["label"], plan["key"]
    types = {key: "int64", **{name: "float64" if name in plan["rates"] else "int64" for name in numbers}}
    rows = pd.concat([pd.read_csv(name, dtype=types) for name in files], ignore_index=True)
    rates = rows[plan["rates"]]
    good = rows.notna().all(axis=1) & ((rates >= 0) & (rates <= 1)).all(axis=1)
    rows[~good].to_parquet(f"{out}-rejected.parquet")
    rows = rows[good]
    last = rows[key] % 10
    split = pd.Series(np.select([last == 9, last == 8], ["test", "validation"], "train"), index=rows.index)
    train = rows[split == "train"]
    table: dict[str, Any] = {}
    for name in numbers:
        mean, deviation = train[name].mean(), train[name].std(ddof=0)
        table[name] = ((rows[name] - mean) / (deviation if deviation >= 1e-30 else 1.0)).astype("float32")
    for name in texts:
        known = vocabulary(dict(Counter(train[name])))
        table[name] = rows[name].map(known).fillna(1).astype("int32")
    classes = {name: place for place, name in enumerate(sorted(train[label].unique()))}
    table[label] = rows[label].map(classes)
    table[key], table["split"] = rows[key], split
    encoded = pd.DataFrame(table)
    encoded = encoded[encoded[label].notna()].astype({label: "int32"})
    encoded = encoded.iloc[np.argsort(pd.util.hash_array(encoded[key].to_numpy()))]
    for name in SPLITS:
        (out / f"split={name}").mkdir(parents=True)
        part = encoded[encoded["split"] == name].drop(columns="split")
        part.to_parquet(out / f"split={name}" / "part.parquet", compression="snappy", index=False)


def main(side: str, files: str, out: str, plan: str) -> dict[str, float]:
    """One side, timed."""
    began = time.perf_counter()
    __import__(side)
    start_seconds = time.perf_counter() - began
    target = Path(out)
    target.mkdir(parents=True)
    began = time.perf_counter()
    run = {"polars": polars_side, "pandas": pandas_side}[side]
    run(sorted(str(path) for path in Path(files).glob("*.csv")), target, json.loads(plan))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "start_seconds": start_seconds, "peak_bytes": peak}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")
