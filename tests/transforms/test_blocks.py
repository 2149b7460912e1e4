"""Packing: every token once or counted, the same blocks whatever the partitions are."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from millrace.config.tokens import BlocksConfig
from millrace.transforms.blocks import Packer, pack_blocks
from millrace.transforms.encoders import packed
from millrace.transforms.identity import python_hash_number, python_row_id

END = 99


def ids_of(row: bytes) -> list[int]:
    return array("i", row).tolist()


@given(st.lists(st.integers(0, 11), max_size=9), st.integers(1, 7), st.integers(1, 7), st.booleans())
@settings(deadline=None)
def test_every_token_is_in_a_block_or_in_the_tail(lengths: list[int], length: int, stride: int, ends: bool) -> None:
    """Against a plain slicing of the whole line."""
    stride = min(stride, length)
    numbers = iter(range(1_000))
    documents = [[next(numbers) for _ in range(size)] for size in lengths]
    packer = Packer(length=length, stride=stride, boundary_id=END if ends else None)
    blocks = [block for n, document in enumerate(documents) for block in packer.add(str(n), packed(document))]
    tail = packer.tail()
    line = [token for document in documents for token in [*document, *([END] if ends else [])]]
    first_of = [sum(sizes) for sizes in ([s + ends for s in lengths[:n]] for n in range(len(lengths)))]
    begins = list(range(0, len(line) - length + 1, stride))
    assert [ids_of(block.ids) for block in blocks] == [line[begin : begin + length] for begin in begins]
    assert all(block.is_full for block in blocks)
    for begin, block in zip(begins, blocks, strict=True):
        inside = [at - begin for at, size in zip(first_of, lengths, strict=True) if size + ends and begin <= at < begin + length]
        assert list(block.starts) == inside
        assert first_of[int(block.document)] + block.offset == begin
    covered = begins[-1] + length if begins else 0
    if tail is None:
        assert covered == len(line)
    else:
        assert not tail.is_full
        assert ids_of(tail.ids) == line[begins[-1] + stride if begins else 0 :]
        assert tail.num_tokens == len(line) - covered
    assert sum(block.num_tokens for block in [*blocks, *([tail] if tail else [])]) == len(line)
    assert len({(block.document, block.offset) for block in blocks}) == len(blocks)


def documents(spark: SparkSession) -> DataFrame:
    rows = [
        (
            f"{n:02d}",
            bytearray(packed([n] * (n % 6))),
            "test" if n % 5 == 0 else "train",
            "n1" if n % 2 else "n2",
            f"f{n % 3}",
            -n,
        )
        for n in range(40)
    ]
    return spark.createDataFrame(rows, "row_id string, ids binary, split string, _night string, file string, line int")


def test_blocks_do_not_depend_on_partitions(spark: SparkSession) -> None:
    frame = documents(spark)
    config = BlocksConfig(length=4, seed=7, buckets=3)
    packs = [
        pack_blocks(part, column="ids", config=config, boundary_id=END)
        for part in (frame.coalesce(1), frame.repartition(7, "ids"))
    ]
    assert packs[0].schema.simpleString() == (
        "struct<row_id:string,ids:binary,starts:array<int>,num_tokens:int,split:string,_night:string,"
        "_rule:string,_reason:string,_action:string>"
    )
    first, second = (sorted(pack.collect()) for pack in packs)
    assert first == second
    assert len({row["row_id"] for row in first}) == len(first)
    for split in ("train", "test"):  # the counting law, in tokens
        num_tokens = sum(len(row["ids"]) // 4 + 1 for row in frame.collect() if row["split"] == split)
        assert sum(row["num_tokens"] for row in first if row["split"] == split) == num_tokens
    kept = [row for row in first if row["_rule"] is None]
    assert all(len(row["ids"]) == 16 for row in kept)
    dropped = next(row for row in first if row["_rule"] is not None)
    assert (dropped["_rule"], dropped["_action"]) == ("block_is_not_full", "dropped")
    assert dropped["_reason"] == f"{dropped['num_tokens']} tokens at the end of a group do not fill a block of 4"


def test_documents_come_in_the_order_of_their_hashes(spark: SparkSession) -> None:
    frame = documents(spark)
    found = pack_blocks(
        frame, column="ids", config=BlocksConfig(length=4, seed=7, buckets=2, tail="pad"), pad_id=77, groups=["split"]
    )
    by_hash = sorted(frame.collect(), key=lambda row: python_hash_number(row["row_id"].encode(), seed=7))
    rows = {row["row_id"]: row for row in found.collect()}
    assert all(row["_rule"] is None and len(row["ids"]) == 16 for row in rows.values())
    for split in ("train", "test"):
        for bucket in (0, 1):
            chosen = [
                row
                for row in by_hash
                if row["split"] == split and python_hash_number(row["row_id"].encode(), seed=7) >> 59 == bucket and row["ids"]
            ]
            line = [token for row in chosen for token in ids_of(row["ids"])]
            line += [77] * (-len(line) % 4)
            places = [(row["row_id"], offset) for row in chosen for offset in range(len(row["ids"]) // 4)]
            for begin in range(0, len(line), 4):
                assert ids_of(rows.pop(python_row_id([*places[begin], 4]))["ids"]) == line[begin : begin + 4]
    assert not rows


def test_documents_in_a_given_order(spark: SparkSession) -> None:
    config = BlocksConfig(length=5, order="given", order_by=("line",), group_by=("file",), tail="pad")
    found = pack_blocks(documents(spark).repartition(4), column="ids", config=config, groups=[])
    expected = []
    for file in range(3):
        line = [n for n in reversed(range(40)) if n % 3 == file for _ in range(n % 6)]
        expected += [(line + [0] * 5)[begin : begin + 5] for begin in range(0, len(line), 5)]
    assert sorted(ids_of(row["ids"]) for row in found.collect()) == sorted(expected)


@pytest.mark.full
def test_a_million_tokens(spark: SparkSession) -> None:
    frame = spark.createDataFrame([("a", bytearray(np.arange(1_000_000, dtype="<i4").tobytes()))], "row_id string, ids binary")
    found = pack_blocks(frame, column="ids", config=BlocksConfig(length=128, tail="pad"), groups=[])
    assert found.count() == -(-1_000_000 // 128)
