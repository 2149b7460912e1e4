"""Near-duplicates by MinHash and locality-sensitive hashing: of texts that are nearly equal the earliest stays.

    signatures           text -> the set of its shingles, its digest, one key a band           (transforms/minhash.py)
    candidates           contents that share a band's key                                       (transforms/buckets.py)
    comparison           candidates whose Jaccard similarity is at least the threshold, exactly
    connected components over contents; of each component the earliest row stays
    several nights       within a component one night after the other                       (transforms/near_nights.py)

Broder: On the resemblance and containment of documents, 1997; the banding as in Mining of Massive Datasets, 3.4.

What a flow keeps: `signatures` of the rows that it kept, as a table with a row_id. A later night hands it over as `standing`, so
that no old text is read or cut into shingles again. It is of use only to the same ngram, unit, bands, rows_per_band and seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from millrace.config.near_duplicates import NearDuplicatesConfig
from millrace.errors import ContractError
from millrace.transforms.buckets import pairs_in_buckets
from millrace.transforms.minhash import MinHash, components, sign, similarities
from millrace.transforms.near_nights import KEYS, later_by_night

SIGNATURES = "row_id string, _night string, _source_file string, _content binary, _bands array<bigint>, _shingles binary"
_PAIRS = "left bigint, right bigint"
_LINKS = "left binary, right binary"
_GROUPS = "_content binary, _group binary"
_LATER = "row_id string, _kept string"


def signatures(rows: DataFrame, *, config: NearDuplicatesConfig) -> DataFrame:
    """One row per row whose text has a token and that has no tag: row_id, _night, _source_file, _content, _bands, _shingles.

    _content is a digest of the text's set of shingles (16 bytes), _bands holds one key a band, _shingles the sorted distinct
    shingles as little-endian 64-bit numbers. None is NULL, but _night and _source_file where the row's are. They depend on the
    row alone. Raises ContractError where the column is no text.
    """
    kind = rows.schema[config.column].dataType
    if not isinstance(kind, StringType):
        raise ContractError(
            "near-duplicates",
            expected=f"{config.column} to be a text",
            found=kind.simpleString(),
            remedy="Name a column of type string.",
        )
    bands, rows_per_band = config.shape
    minhash = MinHash(ngram=config.ngram, unit=config.unit, bands=bands, rows_per_band=rows_per_band, seed=config.seed)
    chosen = rows.filter(F.col("_rule").isNull() & F.col(config.column).isNotNull())
    texts = chosen.select("row_id", "_night", "_source_file", config.column)
    return texts.mapInArrow(partial(sign, minhash=minhash), SIGNATURES)


def tag_near_duplicates(
    rows: DataFrame,
    *,
    config: NearDuplicatesConfig,
    signed: DataFrame | None = None,
    standing: DataFrame | None = None,
    by_night: bool = False,
) -> DataFrame:
    """The same rows; of each group of near-duplicates all but the first are tagged as dropped by `near_duplicates(COLUMN)`.

    First is a row of `standing` (signatures of rows that other nights kept: they stay whatever comes), else the earliest by
    (_night, _source_file, row_id). Rows that have a tag are passed over. `signed` is what `signatures` gave for these rows, kept
    by the caller: it is read several times here, and made anew each time where it is not given. row_id is unique among rows
    without a tag. With `by_night` what stays is what stays when the rows' nights come one by one, in their order; for rows of
    one night it changes nothing. The result depends neither on the rows' order nor on their partitions.
    """
    new = (signatures(rows, config=config) if signed is None else signed).withColumn("_stands", F.lit(False))
    everything = new if standing is None else new.unionByName(_touched(new, standing))
    groups = _groups(_links(everything, _candidates(everything), threshold=config.threshold))
    later = _later_by_night(everything, groups, threshold=config.threshold) if by_night else _later(everything, groups)
    is_later = F.col("_rule").isNull() & F.col("_kept").isNotNull()
    reason = F.concat(F.lit(f"its {config.column} is nearly equal to that of the row "), "_kept")
    tags = {"_rule": F.lit(config.rule), "_reason": reason, "_action": F.lit("dropped")}
    tagged = rows.join(later, on="row_id", how="left").withColumns(
        {name: F.when(is_later, value).otherwise(F.col(name)) for name, value in tags.items()}
    )
    return tagged.select(*rows.columns)


def _touched(new: DataFrame, standing: DataFrame) -> DataFrame:
    """Standing rows that share a band with a new one: with the others no new row can be compared."""
    keys = new.select(F.explode("_bands").alias("_key")).distinct()
    old = standing.select("row_id", F.explode("_bands").alias("_key"))
    touched = old.join(keys, on="_key", how="left_semi").select("row_id").distinct()
    none = F.lit(None).cast("string")
    return (
        standing.join(touched, on="row_id", how="left_semi")
        .select("row_id", "_content", "_bands", "_shingles")
        .withColumns({"_night": none, "_source_file": none, "_stands": F.lit(True)})
    )


def _candidates(signed: DataFrame) -> DataFrame:
    """One row per pair of contents that share a band, by their 64-bit numbers; at least one of them is new."""
    banded = signed.select(F.explode("_bands").alias("_key"), _number().alias("_number"), (~F.col("_stands")).alias("_new"))
    in_order = banded.repartition("_key").sortWithinPartitions("_key", "_number", F.col("_new").desc())
    return in_order.mapInArrow(pairs_in_buckets, _PAIRS).distinct()


def _links(signed: DataFrame, candidates: DataFrame, *, threshold: float) -> DataFrame:
    """One row per pair of contents whose similarity is at least the threshold.

    Two contents with one number, a chance of 2**-64, only add a pair to compare.
    """
    sides = candidates.select(F.explode(F.array("left", "right")).alias("_number")).distinct()
    contents = (
        signed.select(_number().alias("_number"), "_content", "_shingles")
        .join(sides, on="_number", how="left_semi")
        .dropDuplicates(["_content"])
    )
    left, right = (
        contents.select(
            F.col("_number").alias(side), F.col("_content").alias(f"{side}_content"), F.col("_shingles").alias(f"{side}_shingles")
        )
        for side in ("left", "right")
    )
    pairs = candidates.join(left, on="left").join(right, on="right")
    columns = ["left_content", "right_content", "left_shingles", "right_shingles"]
    return pairs.select(*columns).mapInArrow(partial(_near, threshold=threshold), _LINKS)


def _groups(links: DataFrame) -> DataFrame:
    """One row per content that is near another: _content, and _group, the least content that it is connected with.

    One task holds the links, some 100 bytes for each content that has a near one; those of most texts never come here.
    """
    return links.repartition(1).mapInArrow(_connected, _GROUPS)


def _later(signed: DataFrame, groups: DataFrame) -> DataFrame:
    """One row per new row that has an earlier or standing one in its group: row_id, and _kept, that one's row_id."""
    grouped = signed.join(groups, on="_content", how="left").select(
        "row_id", "_night", "_source_file", "_stands", F.coalesce("_group", "_content").alias("_group")
    )
    order = Window.partitionBy("_group").orderBy(F.col("_stands").desc(), "_night", "_source_file", "row_id")
    first = grouped.withColumns({"_kept": F.first("row_id").over(order), "_place": F.row_number().over(order)})
    return first.filter((F.col("_place") > 1) & ~F.col("_stands")).select("row_id", "_kept")


def _later_by_night(signed: DataFrame, groups: DataFrame, *, threshold: float) -> DataFrame:
    """The same, as nights that come one by one leave it."""
    columns = [*KEYS, "_source_file", "row_id", "_content", "_shingles"]
    together = signed.join(groups, on="_content", how="inner").select(*columns).repartition("_group")
    in_order = together.sortWithinPartitions("_group", F.col("_stands").desc(), "_night", "_source_file", "row_id")
    alone = signed.join(groups, on="_content", how="left_anti")
    return in_order.mapInArrow(partial(later_by_night, threshold=threshold), _LATER).unionByName(_later(alone, groups.limit(0)))


def _number() -> Column:
    """A content as a 64-bit number."""
    return F.xxhash64("_content")


def _near(batches: Iterable[pa.RecordBatch], *, threshold: float) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        near = similarities(batch.column(2).to_pylist(), batch.column(3).to_pylist()) >= threshold
        kept = batch.filter(pa.array(near))
        yield pa.RecordBatch.from_arrays(kept.columns[:2], names=["left", "right"])


def _connected(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    links = list(batches)
    num_links = sum(batch.num_rows for batch in links)
    if num_links == 0:
        return
    both = pa.concat_arrays([batch.column(side) for side in (0, 1) for batch in links]).dictionary_encode()
    contents = both.dictionary
    in_order = pc.sort_indices(contents).to_numpy()
    rank = np.empty(in_order.size, np.int64)
    rank[in_order] = np.arange(in_order.size)
    nodes = rank[both.indices.to_numpy()]
    roots = components(nodes[:num_links], nodes[num_links:], in_order.size)
    contents = contents.take(pa.array(in_order))
    yield pa.RecordBatch.from_arrays([contents, contents.take(pa.array(roots))], names=["_content", "_group"])
