"""Near-duplicates by MinHash and locality-sensitive hashing: of texts that are nearly equal the earliest stays.

    signatures           text -> the set of its shingles, its digest, one key a band           (transforms/minhash.py)
    candidates           contents that share a band's key                                       (transforms/buckets.py)
    comparison           candidates whose Jaccard similarity is at least the threshold, exactly (transforms/comparing.py)
    connected components over contents; of each component the earliest row stays
    several nights       within a component one night after the other                       (transforms/near_nights.py)

Broder: On the resemblance and containment of documents, 1997; the banding as in Mining of Massive Datasets, 3.4.

flows/near_duplicates.py puts the steps together. What stands, everywhere here, are signatures of rows that other nights kept: no
old text is read or cut into shingles again. They are of use only to the same column, ngram, unit, bands, rows_per_band and seed.
`few` says that few rows come to many that stand: what the many are asked for then goes to every task, and the many stay in place.
"""

from __future__ import annotations

from functools import partial

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from millrace.config.near_duplicates import NearDuplicatesConfig
from millrace.errors import ContractError
from millrace.transforms.buckets import BANDED, deal, pairs_in_range
from millrace.transforms.comparing import IN_GROUPS, TO_GROUP, connected, later_in_groups, near_in_chunk, near_side_by_side
from millrace.transforms.minhash import MinHash, sign
from millrace.transforms.near_nights import KEYS, later_by_night

SIGNATURES = "row_id string, _night string, _source_file string, _content binary, _bands array<bigint>, _shingles binary"
_DEALT = "_range int, _entries binary"
_PAIRS = "left bigint, right bigint, left_row bigint, right_row bigint"
_LINKS = "left binary, right binary"
_GROUPS = "_content binary, _group binary"
_LATER = "row_id string, _kept string"
_PARTS = 256
"""Of the rows: a task has one in memory at a time."""


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


def texts(new: DataFrame, *, standing: DataFrame | None, few: bool) -> DataFrame:
    """One row per new row and per row that stands, with `few` of those alone that share a band with a new one, and one row per
    such band: _bands; _number and _row, the content and the row as 64-bit numbers; _stands; and what TO_GROUP names.
    """
    rows = new.withColumn("_stands", F.lit(False))
    if standing is not None:
        if few:
            keys = new.select(F.explode("_bands").alias("_key")).distinct()
            standing = standing.select("row_id", "_content", F.explode("_bands").alias("_key"))
            standing = standing.join(F.broadcast(keys), on="_key", how="left_semi").withColumn("_bands", F.array("_key"))
        rows = rows.unionByName(_as_standing(standing), allowMissingColumns=True)
    return rows.select("_bands", _content_number(), _row_number(), *TO_GROUP)


def candidates(texts: DataFrame) -> DataFrame:
    """One row per pair of contents that share a band, of which one at least is new: left and right, the contents as 64-bit
    numbers, left_row and right_row, the number of a row that has each. A pair may come more than once. A new content that
    several rows have is paired with itself.

    Two contents with one number, by a chance of 2**-64, are one here: the other's pairs are not found.
    """
    dealt = texts.select(*BANDED).mapInArrow(deal, _DEALT)
    return dealt.groupBy("_range").applyInArrow(pairs_in_range, _PAIRS)


def links_by_chunk(signed: DataFrame, *, pairs: DataFrame, seats: DataFrame, threshold: float) -> DataFrame:
    """One row per pair of `pairs` (by chunk) whose similarity is at least the threshold: the contents of both.

    `seats` says which rows of `signed` each chunk needs; it goes to every task. A row's shingles travel once for each chunk that
    they are needed in, which is once but for families of more than a chunk's pairs.
    """
    seated = _shingles(signed).join(seats, on="_row", how="inner")
    chunks = pairs.groupBy("_chunk").cogroup(seated.groupBy("_chunk"))
    return chunks.applyInArrow(partial(near_in_chunk, threshold=threshold), _LINKS)


def links_by_join(signed: DataFrame, *, pairs: DataFrame, threshold: float) -> DataFrame:
    """The same for any number of candidates: as many tasks as there are share them."""
    once = pairs.filter("left != right").dropDuplicates(["left", "right"])
    rows = once.select(F.explode(F.array("left_row", "right_row")).alias("_row")).distinct()
    needed = _shingles(signed).join(rows, on="_row", how="left_semi")
    left, right = (needed.select([F.col(name).alias(f"{side}{name}") for name in needed.columns]) for side in ("left", "right"))
    both = once.join(left, on="left_row", how="inner").join(right, on="right_row", how="inner")
    columns = ["left_content", "right_content", "left_shingles", "right_shingles"]
    return both.select(*columns).mapInArrow(partial(near_side_by_side, threshold=threshold), _LINKS)


def groups_of(links: DataFrame) -> DataFrame:
    """One row per content that is near another: _content, and _group, the least content that it is connected with.

    One task holds the links, some 100 bytes for each content that has a near one; those of most texts never come here.
    """
    return links.repartition(1).mapInArrow(connected, _GROUPS)


def rows_in_pairs(new: DataFrame, *, standing: DataFrame | None, contents: DataFrame) -> DataFrame:
    """Of new rows and those that stand those whose content's number is among `contents` (_number); with _stands,
    and without _bands.

    No other than those of contents in `candidates` can be later than another, or be the one that stays for another.
    """
    rows = new.drop("_bands").withColumn("_stands", F.lit(False))
    if standing is not None:
        rows = rows.unionByName(_as_standing(standing).select(*rows.columns))
    numbered = rows.withColumn("_number", F.xxhash64("_content"))
    return numbered.join(contents, on="_number", how="left_semi").select(*rows.columns)


def rows_with_standing(new: DataFrame, *, standing: DataFrame | None, groups: DataFrame, few: bool) -> DataFrame:
    """New rows, and those that stand and are in a group or have a new row's content; with _stands, and without _bands."""
    rows = new.drop("_bands").withColumn("_stands", F.lit(False))
    if standing is None:
        return rows
    asked = new.select("_content").unionByName(groups.select("_content"))
    old = standing.join(F.broadcast(asked) if few else asked, on="_content", how="left_semi")
    return rows.unionByName(_as_standing(old).select(*rows.columns))


def _as_standing(rows: DataFrame) -> DataFrame:
    none = F.lit(None).cast("string")
    return rows.withColumns({"_night": none, "_source_file": none, "_stands": F.lit(True)})


def later_rows(rows: DataFrame, *, groups: DataFrame) -> DataFrame:
    """One row per new row that has an earlier or standing one in its group: row_id, and _kept, that one's row_id.

    A content without a group is one by itself. The rows are dealt out by their groups, and a task has a part of them in memory.
    """
    return _later_of(rows.join(groups, on="_content", how="left").withColumn("_group", F.coalesce("_group", "_content")))


def _later_of(grouped: DataFrame) -> DataFrame:
    dealt = grouped.select(*IN_GROUPS, F.pmod(F.xxhash64("_group"), F.lit(_PARTS)).alias("_part"))
    return dealt.groupBy("_part").applyInArrow(later_in_groups, _LATER)


def later_rows_by_night(rows: DataFrame, *, groups: DataFrame, threshold: float) -> DataFrame:
    """The same, as nights that come one by one leave it."""
    columns = [*KEYS, "_source_file", "row_id", "_content", "_shingles"]
    together = rows.join(groups, on="_content", how="inner").select(*columns).repartition("_group")
    in_order = together.sortWithinPartitions("_group", F.col("_stands").desc(), "_night", "_source_file", "row_id")
    alone = rows.join(groups, on="_content", how="left_anti").withColumn("_group", F.col("_content"))
    return in_order.mapInArrow(partial(later_by_night, threshold=threshold), _LATER).unionByName(_later_of(alone))


def tag_later(rows: DataFrame, *, later: DataFrame, config: NearDuplicatesConfig) -> DataFrame:
    """The same rows; those of `later` are tagged as dropped by `near_duplicates(COLUMN)`. Rows that have a tag keep theirs."""
    is_later = F.col("_rule").isNull() & F.col("_kept").isNotNull()
    reason = F.concat(F.lit(f"its {config.column} is nearly equal to that of the row "), "_kept")
    tags = {"_rule": F.lit(config.rule), "_reason": reason, "_action": F.lit("dropped")}
    tagged = rows.join(later, on="row_id", how="left").withColumns(
        {name: F.when(is_later, value).otherwise(F.col(name)) for name, value in tags.items()}
    )
    return tagged.select(*rows.columns)


def _shingles(signed: DataFrame) -> DataFrame:
    return signed.select(_row_number(), "_content", "_shingles")


def _content_number() -> Column:
    return F.xxhash64("_content").alias("_number")


def _row_number() -> Column:
    return F.xxhash64("row_id").alias("_row")
