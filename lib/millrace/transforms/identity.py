"""Who a row is: row_id and split by SHA-256 over one canonical encoding, the same in Spark and in Python.

A value is encoded as a tag byte (0 for NULL, 1 otherwise); where it is not NULL, its number of bytes as 8 hex digits and the
bytes follow.
So (NULL, a), (a, NULL) and (a) differ, which they do not under a hash that skips NULLs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, DataType, DateType, IntegralType, StringType, StructType, TimestampType

from millrace.errors import ContractError

_BITS = 60  # of a hash that become an integer: 15 hex digits, which fit a signed 64-bit number


def row_id(schema: StructType, key: Sequence[str]) -> Column:
    """The first 32 hex digits of the key's SHA-256. Raises ContractError for a key of a type without an exact text."""
    return _beginning(F.sha2(encoded(schema, key), 256), 32)


def with_row_id(rows: DataFrame, *, key: Sequence[str] | None, content: str) -> DataFrame:
    """The same rows with row_id: of the key, or without one of the text `content`, the night and the ordinal among equal rows.

    The night is in it because the ordinal starts anew each night: a night that is done again gives its rows the same ids.
    Raises ContractError for a key of a type without an exact text.
    """
    if key is not None:
        return rows.withColumn("row_id", row_id(rows.schema, key))
    equal = Window.partitionBy("_equal").orderBy("_source_file")
    numbered = rows.withColumn("_equal", encoded(rows.schema, [content, "_night"])).withColumn(
        "_ordinal", F.row_number().over(equal)
    )
    together = F.concat("_equal", F.col("_ordinal").cast("string").cast("binary"))
    return numbered.withColumn("row_id", _beginning(F.sha2(together, 256), 32)).drop("_equal", "_ordinal")


def encoded(schema: StructType, columns: Sequence[str]) -> Column:
    """The canonical encoding of some columns, as bytes."""
    return F.concat(*[_encode(F.col(name), schema[name].dataType, name) for name in columns])


def hash_number(value: Column, *, seed: int) -> Column:
    """A uniform integer below 2**60 out of a text or bytes and a seed."""
    digest = F.sha2(F.concat(F.lit(f"{seed}:").cast("binary"), value.cast("binary")), 256)
    return F.conv(_beginning(digest, _BITS // 4), 16, 10).cast("bigint")


def python_row_id(values: Sequence[object]) -> str:
    """What `row_id` gives for integers, texts, bytes and None: its twin without Spark."""
    return hashlib.sha256(python_encoded(values)).hexdigest()[:32]


def python_encoded(values: Sequence[object]) -> bytes:
    """What `encoded` gives, without Spark."""
    parts = []
    for value in values:
        data = value if isinstance(value, bytes) else str(value).encode()
        parts.append(b"\x00" if value is None else b"\x01" + f"{len(data):08X}".encode() + data)
    return b"".join(parts)


def python_hash_number(value: bytes, *, seed: int) -> int:
    """What `hash_number` gives, without Spark."""
    return int(hashlib.sha256(f"{seed}:".encode() + value).hexdigest()[: _BITS // 4], 16)


def threshold(fraction: float) -> int:
    """The integer below which a share `fraction` of the hash numbers lies."""
    return int(fraction * (1 << _BITS)) if fraction < 1.0 else 1 << _BITS


def _beginning(digits: Column, num: int) -> Column:
    """The first of a text's ASCII characters, by bytes: Spark looks at each character of a text that it cuts."""
    return F.substring(digits.cast("binary"), 1, num).cast("string")


def _encode(value: Column, kind: DataType, name: str) -> Column:
    if isinstance(kind, BinaryType):
        data = value
    elif isinstance(kind, StringType | IntegralType | DateType):
        data = value.cast("string").cast("binary")
    elif isinstance(kind, TimestampType):
        data = F.unix_micros(value).cast("string").cast("binary")
    else:
        raise ContractError(
            "identity",
            expected="key columns of integers, texts, bytes, dates or timestamps",
            found=f"{name} of type {kind.simpleString()}",
            remedy="Take another key: such a value has no text that every machine agrees on.",
        )
    length = F.hex(F.octet_length(data) + F.lit(1 << 32)).cast("binary")  # a 1, and the 8 digits
    present = F.concat(F.lit(b"\x01"), F.substring(length, 2, 8), data)
    return F.when(value.isNull(), F.lit(b"\x00")).otherwise(present)
