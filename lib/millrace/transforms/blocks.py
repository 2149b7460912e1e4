"""Documents behind one another in blocks of one length: what a language model reads. Every token is in a block, or counted.

    group      rows that share the columns of `groups`, and a bucket of hashes (or the columns of group_by)
    line       the documents of a group behind one another, each with the boundary token behind it
    block k    the line's tokens from k*stride up to k*stride + length
    tail       what lies behind the last full block: padded to a block, or dropped by the rule block_is_not_full

Groups depend on the rows alone, so that the blocks are the same whatever Spark's partitions and tasks are.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import ArrayType, IntegerType, StructType

from millrace.config.tokens import BlocksConfig
from millrace.transforms.identity import hash_number, python_row_id
from millrace.transforms.runs import Key, runs

NOT_FULL = "block_is_not_full"
_ID_BYTES = 4
_ROWS_AT_ONCE = 1_000
_BUCKET = "_bucket"
_TAGS = StructType().add("_rule", "string").add("_reason", "string").add("_action", "string")


@dataclass(frozen=True)
class Block:
    """Tokens that belong together."""

    ids: bytes
    """(length,) int32; fewer in a tail that is not padded."""
    starts: tuple[int, ...]
    """Where in the block a document begins."""
    num_tokens: int
    """Tokens that no earlier block has, padding left out: over all blocks they add up to those of the documents."""
    document: str
    """The row_id of the document that the first token is of."""
    offset: int
    """Where in that document, its boundary token included, the block begins."""
    is_full: bool


class Packer:
    """Packs the documents of one group. Holds less than a block and what it was given last."""

    def __init__(self, *, length: int, stride: int, boundary_id: int | None) -> None:
        self._length, self._stride = length * _ID_BYTES, stride * _ID_BYTES
        self._boundary = b"" if boundary_id is None else array("i", [boundary_id]).tobytes()
        self._held = bytearray()  # the line from _begin on
        self._begin = 0  # all positions are in bytes
        self._covered = 0  # up to here the line is in blocks
        self._documents: deque[tuple[int, str]] = deque()  # first position, row_id of those that reach beyond _begin

    def add(self, document: str, ids: bytes) -> Iterator[Block]:
        """The blocks that a document fills. (any,) int32 as bytes"""
        if not ids and not self._boundary:
            return
        self._documents.append((self._begin + len(self._held), document))
        self._held += ids + self._boundary
        done = 0
        while len(self._held) - done >= self._length:
            yield self._block(done, self._length)
            done += self._stride
        del self._held[:done]
        self._move(self._begin + done)

    def tail(self) -> Block | None:
        """What is in no block yet; None where that is nothing."""
        return self._block(0, len(self._held)) if self._begin + len(self._held) > self._covered else None

    def _block(self, done: int, size: int) -> Block:
        first, last = self._begin + done, self._begin + done + size
        inside = [(position, document) for position, document in self._documents if position < last]
        position, document = max(each for each in inside if each[0] <= first)
        new, self._covered = last - max(self._covered, first), last
        return Block(
            ids=bytes(self._held[done : done + size]),
            starts=tuple((at - first) // _ID_BYTES for at, _ in inside if at >= first),
            num_tokens=new // _ID_BYTES,
            document=document,
            offset=(first - position) // _ID_BYTES,
            is_full=size == self._length,
        )

    def _move(self, begin: int) -> None:
        self._begin = begin
        while len(self._documents) > 1 and self._documents[1][0] <= begin:
            self._documents.popleft()


def pack_blocks(
    rows: DataFrame,
    *,
    column: str,
    config: BlocksConfig,
    boundary_id: int | None = None,
    pad_id: int = 0,
    groups: Sequence[str] = ("split", "_night"),
) -> DataFrame:
    """One row per block: row_id, `column` ((length,) int32 as bytes), starts, num_tokens, `groups`, _rule, _reason, _action.

    `rows` are documents that are kept: row_id, `column` with ids of any length as bytes, `groups`. Documents without a token are
    in no block. A tail that is dropped is a row too, tagged by block_is_not_full, with the tokens that it has.
    row_id is of the document that the block begins in, and where in it.
    """
    grouped, keys, order = _grouped(rows, config, groups)
    needed = grouped.select("row_id", column, *keys, *[name for name in order if name not in (*keys, "row_id")])
    together = needed.repartition(*keys) if keys else needed.repartition(1)
    ordered = together.sortWithinPartitions(*keys, *order)
    made = (
        StructType()
        .add("row_id", "string")
        .add(column, "binary")
        .add("starts", ArrayType(IntegerType()))
        .add("num_tokens", IntegerType())
    )
    schema = StructType([*made.fields, *[rows.schema[name] for name in groups], *_TAGS.fields])
    stride = config.stride or config.length

    def pack(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        def packer() -> Packer:
            return Packer(length=config.length, stride=stride, boundary_id=boundary_id)

        blocks = _blocks(batches, column, keys, packer)
        held: list[tuple[object, ...]] = []
        for key, block in blocks:
            held.append(_as_row(block, key[: len(groups)], config, pad_id))
            if len(held) == _ROWS_AT_ONCE:
                yield _as_batch(held, schema)
                held = []
        yield _as_batch(held, schema)

    return ordered.mapInArrow(pack, schema)


def _grouped(rows: DataFrame, config: BlocksConfig, groups: Sequence[str]) -> tuple[DataFrame, list[str], list[str]]:
    """The rows with the columns that their groups and their order need: (rows, columns of the group, columns of the order)."""
    if config.order == "given":
        return rows, [*groups, *config.group_by], [*config.order_by, "row_id"]
    number = hash_number(F.col("row_id"), seed=config.seed)
    hashed = rows.withColumn("_order", number).withColumn(_BUCKET, _bucket_of(F.col("_order"), config.buckets))
    return hashed, [*groups, _BUCKET], ["_order", "row_id"]


def _bucket_of(number: Column, buckets: int) -> Column:
    """Which of equal parts of the hash numbers, which are below 2**60: the first bucket has the smallest."""
    return F.shiftright(F.shiftright(number, 36) * buckets, 24)


def _blocks(
    batches: Iterable[pa.RecordBatch], column: str, keys: Sequence[str], packer: Callable[[], Packer]
) -> Iterator[tuple[Key, Block]]:
    current: tuple[Key, Packer] | None = None
    for key, part in runs(batches, keys):
        if current is None or current[0] != key:
            yield from _tail(current)
            current = (key, packer())
        for document, ids in zip(part.column("row_id").to_pylist(), part.column(column).to_pylist(), strict=True):
            for block in current[1].add(document, ids or b""):
                yield key, block
    yield from _tail(current)


def _tail(current: tuple[Key, Packer] | None) -> Iterator[tuple[Key, Block]]:
    if current is not None and (block := current[1].tail()) is not None:
        yield current[0], block


def _as_row(block: Block, key: Key, config: BlocksConfig, pad_id: int) -> tuple[object, ...]:
    row_id = python_row_id([block.document, block.offset, config.length])
    ids, tags = block.ids, (None, None, None)
    if not block.is_full and config.tail == "pad":
        ids += array("i", [pad_id]).tobytes() * (config.length - len(ids) // _ID_BYTES)
    elif not block.is_full:
        tags = (NOT_FULL, f"{block.num_tokens} tokens at the end of a group do not fill a block of {config.length}", "dropped")  # type: ignore[assignment]
    return (row_id, ids, block.starts, block.num_tokens, *key, *tags)


def _as_batch(rows: Sequence[tuple[object, ...]], schema: StructType) -> pa.RecordBatch:
    arrow = to_arrow_schema(schema)
    columns = list(zip(*rows, strict=True)) or [()] * len(arrow)
    return pa.RecordBatch.from_arrays([pa.array(v, f.type) for v, f in zip(columns, arrow, strict=True)], schema=arrow)
