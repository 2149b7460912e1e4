"""Time series as the UEA and UCR archives give them: sktime's .ts, plain or compressed. One row per case, broken ones too.

A file has lines of @headers, then @data, then one case a line: dimensions separated by `:`, values by `,`, the class label last.
`?` is a missing value, and so is NaN. https://www.sktime.net/en/latest/api_reference/file_specifications/ts.html
Cases with time stamps, `(time, value)`, are not read. `series` is float32 (steps, channels) in C order. Where the contract gives
it a tensor, a case must have its shape; else cases may have any length, each channel of a case the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from millrace.config.file_sources import TsSource
from millrace.contracts.table import ColumnContract, TableContract
from millrace.errors import ContractError, SourceError
from millrace.sources.blocks import MAX_ROW_BYTES
from millrace.sources.opening import open_raw, with_compressions
from millrace.sources.rows import Row, batches, broken, check_columns, check_type, row_schema

COLUMNS = ("subset", "index", "series", "label")
RULES = ("line_too_long", "no_label", "unknown_label", "wrong_number_of_dimensions", "wrong_length", "no_number", "missing_value")
_LINE_BYTES = MAX_ROW_BYTES
_HEADER_BYTES = 4 * 1024**2


@dataclass(frozen=True)
class TsReader:
    """.ts files as a `FileReader`: subset (train of NAME_TRAIN.ts), index (from 0, in the file), series, label."""

    missing: str = "quarantine"
    suffixes: tuple[str, ...] = with_compressions(".ts")
    rules: tuple[str, ...] = RULES

    @classmethod
    def of(cls, config: TsSource) -> TsReader:
        """By a pipeline's section."""
        return cls(config.missing)

    def units(self, paths: Sequence[str]) -> list[str]:
        """Whole files."""
        return list(paths)

    def check(self, unit: str, contract: TableContract) -> None:
        """Raises ContractError where the contract asks for what cases do not have, SourceError where the header is none."""
        check_columns(contract, COLUMNS, ("series",), "name its columns so")
        check_type(contract, "series", ("binary",))
        tensor = contract.columns["series"].tensor
        if tensor is not None and (tensor.dtype != "float32" or len(tensor.shape) != 2):
            raise ContractError(
                "ingest",
                expected=f"{contract.name}.series to be a float32 tensor (steps, channels)",
                found=f"{tensor.dtype} ({', '.join(map(str, tensor.shape))})",
                remedy="Mend the contract.",
            )
        with open_raw(unit) as stream:
            header = _read_header(stream, unit)
        if "label" in contract.columns and not header.has_label:
            raise ContractError(
                "ingest",
                expected=f"cases with a label in {unit}, as {contract.name} has the column label",
                found="@classLabel false",
                remedy="Leave the column out of the contract.",
            )

    def arrow_schema(self, contract: TableContract) -> pa.Schema:
        """Text, and the series' bytes."""
        return row_schema(contract, {"series": pa.binary()})

    def read(self, unit: str, contract: TableContract) -> Iterator[pa.RecordBatch]:
        """One row per case. Raises SourceError where the file is damaged."""
        yield from batches(self._rows(unit, contract.columns["series"]), self.arrow_schema(contract))

    def _rows(self, path: str, column: ColumnContract) -> Iterator[Row]:
        subset = path.rpartition("/")[2].partition(".ts")[0].rpartition("_")[2].lower()
        with open_raw(path) as stream:
            header = _read_header(stream, path)
            index = 0
            while line := stream.readline(_LINE_BYTES):
                whole = line.endswith(b"\n") or len(line) < _LINE_BYTES
                while not whole and (more := stream.readline(_LINE_BYTES)):
                    whole = more.endswith(b"\n")
                if not line.strip() or line.startswith(b"#"):
                    continue
                try:
                    if len(line) >= _LINE_BYTES:
                        raise _CaseError("line_too_long", f"more than {_LINE_BYTES:,} bytes in a line")
                    series, label = self._case(line, header, column)
                    values = {"subset": subset, "index": str(index), "series": series.tobytes(), "label": label}
                    yield Row(path, values, num_bytes=series.nbytes)
                except _CaseError as wrong:
                    yield broken(path, wrong.rule, f"case {index}: {wrong.reason}", line.strip())
                index += 1

    def _case(self, line: bytes, header: _Header, column: ColumnContract) -> tuple[NDArray[np.float32], str | None]:
        """One line as (steps, channels) float32 and its label. Raises _CaseError."""
        parts = line.decode("utf-8", "backslashreplace").strip().split(":")
        label = parts.pop().strip() if header.has_label else None
        if label == "":
            raise _CaseError("no_label", "nothing after the last colon")
        if label is not None and header.labels and label not in header.labels:
            raise _CaseError("unknown_label", f"the label {label[:100]!r}, which the header does not name")
        expected = column.tensor.shape[1] if column.tensor is not None else header.num_dimensions or len(parts)
        if len(parts) != expected or not parts:
            raise _CaseError("wrong_number_of_dimensions", f"{len(parts)} dimensions, where {expected} are expected")
        channels = [_numbers(part, number) for number, part in enumerate(parts)]
        lengths = sorted({len(channel) for channel in channels})
        steps = column.tensor.shape[0] if column.tensor is not None else lengths[0]
        if lengths != [steps]:
            found = " and ".join(map(str, lengths))
            raise _CaseError("wrong_length", f"{found} steps, where {steps} are expected")
        series = np.stack(channels, axis=1)  # series: (steps, channels)
        if self.missing == "quarantine" and np.isnan(series).any():
            raise _CaseError("missing_value", f"{int(np.isnan(series).sum())} values are missing")
        return np.ascontiguousarray(series), label


class _CaseError(Exception):
    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(rule, reason)
        self.rule, self.reason = rule, reason


@dataclass(frozen=True)
class _Header:
    has_label: bool
    labels: frozenset[str]
    num_dimensions: int | None


def _numbers(part: str, dimension: int) -> NDArray[np.float32]:
    # in Arrow: a list of Python's would take ten times the memory
    texts = pc.utf8_trim_whitespace(pc.split_pattern(pa.array([part]), ",").flatten())
    is_missing = pc.is_in(pc.utf8_lower(texts), pa.array(["?", "nan"]))
    try:
        values = pc.if_else(is_missing, None, texts).cast(pa.float64())
    except pa.ArrowInvalid:
        raise _CaseError("no_number", f"dimension {dimension} has {_first_strange(texts)!r}") from None
    with np.errstate(over="ignore"):
        numbers: NDArray[np.float32] = values.to_numpy(zero_copy_only=False).astype(np.float32)
    if np.isinf(numbers).any():
        strange = texts[int(np.isinf(numbers).argmax())].as_py()
        raise _CaseError("no_number", f"dimension {dimension} has {strange!r}, no finite float32")
    return numbers


def _first_strange(texts: pa.Array) -> str:
    for value in texts:
        text = str(value)
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if math.isnan(number) and text not in ("?",):
            return text[:100]
    return "a number that is written strangely"


def _read_header(stream: IO[bytes], path: str) -> _Header:
    found: dict[str, list[str]] = {}
    left = _HEADER_BYTES
    while left and (data := stream.readline(left)):
        left -= len(data)
        line = data.decode("utf-8", "backslashreplace")
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if not words[0].startswith("@"):
            raise _no_header(path, f"the line {line.strip()[:80]!r} before @data")
        if words[0].lower() == "@data":
            return _as_header(found, path)
        found[words[0].lower()] = words[1:]
    raise _no_header(path, "no line @data")


def _as_header(found: dict[str, list[str]], path: str) -> _Header:
    def says(name: str) -> bool:
        return [word.lower() for word in found.get(name, [])[:1]] == ["true"]

    if says("@timestamps"):
        raise _no_header(path, "@timeStamps true, which is not read")
    words = found.get("@dimensions") or found.get("@dimension")
    dimensions = words[0] if words else None
    if says("@univariate"):
        dimensions = "1"
    if dimensions is not None and not (dimensions.isdecimal() and 0 < int(dimensions) < 100_000):
        raise _no_header(path, f"@dimensions {dimensions}")
    return _Header(
        has_label=says("@classlabel") or says("@targetlabel"),
        labels=frozenset(found.get("@classlabel", [])[1:]),
        num_dimensions=None if dimensions is None else int(dimensions),
    )


def _no_header(path: str, found: str) -> SourceError:
    return SourceError(
        "ingest",
        expected=f"lines of @headers, then @data, in {path}",
        found=found,
        remedy="It is no .ts file of this kind: fetch it again, or mend it.",
    )
