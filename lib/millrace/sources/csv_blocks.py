"""CSV by Arrow's parser, block by block: some twenty times as fast as Python's, and taken only where both mean the same.

They part ways over quotes, byte-order marks and bytes that are no UTF-8, so a block is taken if it has none of these, or if each
of its quotes opens or closes a field as RFC 4180 says and no field has a line end in it. Then a row is a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from millrace.contracts.evolution import ADDED
from millrace.sources.csv_dialect import Dialect

_BOM = b"\xef\xbb\xbf"


def is_plain(block: bytes, dialect: Dialect) -> bool:
    """Whether Arrow reads a block, which begins with a row, as Python's csv does, and a row ends with it."""
    if not dialect.delimiter.isascii() or block.startswith(_BOM):
        return False
    if dialect.quote is not None and not has_plain_quotes(
        block, dialect.quote, dialect.delimiter, allowed=not dialect.skip_spaces
    ):
        return False
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def has_plain_quotes(block: bytes, quote: str, delimiter: str, *, allowed: bool = True) -> bool:
    """Whether every quote in a block opens, closes or doubles one within a field, and none encloses a line end.

    Of the quotes in their order every second one closes. That is what a parser sees if each that opens stands at the beginning of
    a field or behind a quote (two of them stand for one), and each that closes before the end of a field or another quote.
    """
    if not quote.isascii() or not delimiter.isascii():
        return False
    if quote.encode() not in block:
        return True
    if not allowed:
        return False
    data = np.frombuffer(block, np.uint8)  # data: (byte,)
    places = np.flatnonzero(data == ord(quote))
    opening, closing = places[::2], places[1::2]
    if len(opening) != len(closing):
        return False
    edges = np.zeros(256, np.bool_)
    edges[[ord(quote), ord(delimiter), ord("\n"), ord("\r")]] = True
    before, after = data[opening[opening > 0] - 1], data[closing[closing < len(data) - 1] + 1]
    if not (edges[before].all() and edges[after].all()):
        return False
    line_ends = np.flatnonzero((data == ord("\n")) | (data == ord("\r")))
    num_quotes_before = np.searchsorted(places, line_ends)
    return not (num_quotes_before % 2).any()


def parse(
    block: bytes, schema: pa.Schema, dialect: Dialect, *, header: Sequence[str], path: str, added: Sequence[str] = ()
) -> pa.RecordBatch | None:
    """The rows of a plain block, in its order; None where it is not plain.

    schema: the contract's columns as text, _added where that may be, then _source_file, _rule, _reason, _record. `added`: columns
    of the file that go there.
    """
    columns = [name for name in schema.names[: -len(("_source_file", "_rule", "_reason", "_record"))] if name != ADDED]
    taken = [name for name in (*columns, *added) if name in header]
    if not taken or not is_plain(block, dialect):
        return None
    broken: list[tuple[int, int, str]] = []  # number of the row from 1, fields, text

    def keep(row: pa_csv.InvalidRow) -> str:
        broken.append((row.number, row.actual_columns, row.text))
        return "skip"

    names = [str(number) for number in range(len(header))]
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(block),
            read_options=pa_csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
            parse_options=pa_csv.ParseOptions(
                delimiter=dialect.delimiter, quote_char=dialect.quote or False, invalid_row_handler=keep
            ),
            convert_options=pa_csv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=[names[header.index(name)] for name in taken],
                null_values=[] if dialect.skip_spaces else list(dialect.null_values),
                strings_can_be_null=not dialect.skip_spaces,
                quoted_strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid:
        return None
    arrays = [_one(column) for column in table.columns]
    if dialect.skip_spaces:
        arrays = [_without_spaces(array, dialect.null_values) for array in arrays]
    found, nothing = dict(zip(taken, arrays, strict=True)), pa.nulls(table.num_rows, pa.string())
    more = [_as_map({name: found[name] for name in added}, table.num_rows)] if ADDED in schema.names else []
    values = [found.get(name, nothing) for name in columns]
    good = pa.record_batch([*values, *more, pa.repeat(path, table.num_rows), *[nothing] * 3], schema=schema)
    return _with_broken(good, broken, dialect, header, path) if broken else good


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _as_map(columns: Mapping[str, pa.Array], num_rows: int) -> pa.Array:
    """Columns as one of maps, name -> value, in their order; NULL where there are none."""
    if not columns:
        return pa.nulls(num_rows, pa.map_(pa.string(), pa.string()))
    by_row = np.arange(num_rows * len(columns)).reshape(len(columns), num_rows).T.ravel()  # (row, column) -> place in the columns
    offsets = pa.array(np.arange(num_rows + 1) * len(columns), pa.int32())
    names = pa.array(list(columns) * num_rows, pa.string())
    return pa.MapArray.from_arrays(offsets, names, pa.concat_arrays(columns.values()).take(pa.array(by_row)))


def _without_spaces(array: pa.Array, null_values: Sequence[str]) -> pa.Array:
    trimmed = pc.utf8_ltrim(array, " ")
    is_null = pc.is_in(trimmed, pa.array(null_values, pa.string()))
    return pc.if_else(is_null, pa.scalar(None, pa.string()), trimmed)


def _with_broken(
    good: pa.RecordBatch, broken: Sequence[tuple[int, int, str]], dialect: Dialect, header: Sequence[str], path: str
) -> pa.RecordBatch:
    """The broken rows at their places among the good ones."""
    verdicts = [dialect.verdict_of_count(num_fields, header) for _, num_fields, _ in broken]
    values = {
        "_source_file": [path] * len(broken),
        "_rule": [rule for rule, _ in verdicts],
        "_reason": [reason for _, reason in verdicts],
        "_record": [text.rstrip("\r\n") for _, _, text in broken],
    }
    columns = [
        pa.array(values[field.name], pa.string()) if field.name in values else pa.nulls(len(broken), field.type)
        for field in good.schema
    ]
    bad = pa.record_batch(columns, schema=good.schema)
    places = np.asarray([number - 1 for number, _, _ in broken])
    order = np.empty(good.num_rows + len(broken), np.int64)
    is_bad = np.zeros(len(order), np.bool_)
    is_bad[places] = True
    order[is_bad] = good.num_rows + np.arange(len(broken))
    order[~is_bad] = np.arange(good.num_rows)
    both = pa.Table.from_batches([good, bad]).take(pa.array(order)).combine_chunks()
    return both.to_batches()[0]
